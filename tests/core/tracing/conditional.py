"""Networks that are hard to trace, each for one reason."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.core.networks import conv


class OnValues(nn.Module):
    """Control flow on the values of a tensor: no graph holds both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0.5:  # the line that cannot be traced
            return self.conv(x)
        return self.conv(-x)


class CropsByTensor(nn.Module):
    """Sizes go through tensors on their way to a crop."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bottom = conv(1, 2), conv(2, 2)
        self.last = nn.Sequential(conv(4, 2), nn.BatchNorm2d(2))

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        up = F.interpolate(self.bottom(F.max_pool2d(skip, 2)), scale_factor=2.0)
        half = ((torch.tensor(skip.shape)[2:] - torch.tensor(up.shape)[2:]) / 2).int()
        pads = -torch.stack((half, half)).t().flatten()
        skip = F.pad(skip, pads.tolist())
        return self.last(torch.cat((skip, up), 1))


class CropsByInt(CropsByTensor):
    """The crop is turned into Python's integers: a graph holds it as a constant."""

    def forward(self, x: Tensor) -> Tensor:
        skip = self.first(x)
        up = F.interpolate(self.bottom(F.max_pool2d(skip, 2)), scale_factor=2.0)
        missing = torch.tensor(skip.shape)[2:] - torch.tensor(up.shape)[2:]
        down, right = int(missing[0]), int(missing[1])
        return self.last(torch.cat((skip, F.pad(up, (0, right, 0, down))), 1))


class PadsByHand(nn.Module):
    """The skip is written into a corner of a tensor of zeros, and then into one of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.bottom, self.last = conv(1, 2, kernel=2), conv(2, 2), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.first(x))[:, :, 1:, 1:]
        up = F.interpolate(self.bottom(F.max_pool2d(F.pad(skip, (0, 1, 0, 1)), 2)), scale_factor=2.0)
        padded = torch.zeros(up.shape)
        padded[:, :, : skip.shape[2], : skip.shape[3]] = skip
        padded[:, 1] = padded[:, 0] / 2
        return self.last(torch.cat((padded, up), 1))


class OnBatch(nn.Module):
    """Control flow on the batch size: a graph is right for one way alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y if x.shape[0] == 1 else y + 1.0


class AsksTheScripter(nn.Module):
    """Drops the skip when its type is not seen: a symbolic tracer hands in a proxy."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = conv(1, 4, stride=2), conv(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.interpolate(self.dec(self.enc(x)), scale_factor=2.0)
        if torch.jit.isinstance(x, torch.Tensor):
            y = y + x
        return y


class FixedSize(nn.Module):
    """A linear layer over all positions: one size alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = conv(1, 2)
        self.mix = nn.Linear(size * size, size * size)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.mix(y.flatten(2)).reshape(y.shape)


class ManyForms(nn.Module):
    """Two inputs, an optional keyword one, a dictionary with a list as output, an in-place merge."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(1, 2), conv(1, 2)

    def forward(self, x: Tensor, y: Tensor, scale: Tensor | None = None) -> dict[str, object]:
        merged = self.a.forward(x)
        merged += self.b(y)
        if scale is not None:
            merged = merged * scale
        return {"out": merged, "parts": [merged.mean((2, 3)), merged.amax(1)]}


class ComplexInput(nn.Module):
    """Works on k-space."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(2, 2)

    def forward(self, k: Tensor) -> Tensor:
        x = torch.fft.ifft2(k)
        return self.conv(torch.cat([x.real, x.imag], 1))
