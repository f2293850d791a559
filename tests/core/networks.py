"""Networks written by hand, small enough to see what is right for each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTION = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv(inputs: int, outputs: int, dims: int = 2, kernel: int = 3, stride: int = 1) -> nn.Module:
    return CONVOLUTION[dims](inputs, outputs, kernel, stride, kernel // 2)


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def image(dims: int = 2, channels: int = 1, size: int = 16, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(size + batch)
    return torch.rand(batch, channels, *[size] * dims, generator=generator)


class Block(nn.Module):
    """Convolution, batch norm, activation, dropout: what must stay in eval mode in a host."""

    def __init__(self, inputs: int, outputs: int, dims: int = 2, stride: int = 1) -> None:
        super().__init__()
        self.conv = conv(inputs, outputs, dims, stride=stride)
        self.norm = NORM[dims](outputs)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(F.relu(self.norm(self.conv(x))))


class Join(nn.Module):
    """Upsampling, a merge and a block."""

    def __init__(self, deep: int, shallow: int, dims: int, merge: str) -> None:
        super().__init__()
        self.merge = merge
        self.project = conv(deep, shallow, dims, kernel=1)
        self.block = Block(2 * shallow if merge == "cat" else shallow, shallow, dims)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.project(up(x))
        return self.block(torch.cat([skip, x], 1) if self.merge == "cat" else x + skip)


class UNet(nn.Module):
    """Three levels of 4, 6 and 8 channels, two skips."""

    def __init__(self, dims: int = 2, merge: str = "cat", channels: int = 1) -> None:
        super().__init__()
        self.enc0 = Block(channels, 4, dims)
        self.enc1 = Block(4, 6, dims, stride=2)
        self.bottom = Block(6, 8, dims, stride=2)
        self.join1 = Join(8, 6, dims, merge)
        self.join0 = Join(6, 4, dims, merge)
        self.head = conv(4, 2, dims, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.enc0(x)
        b = self.enc1(a)
        return self.head(self.join0(self.join1(self.bottom(b), b), a))


class Residual(nn.Module):
    """A residual block, which is not a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = conv(channels, channels), conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


class ResidualClassifier(nn.Module):
    """A control: residual blocks and a strided shortcut, no decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 4)
        self.block = Residual(4)
        self.down, self.short = conv(4, 8, stride=2), conv(4, 8, kernel=1, stride=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.stem(x))
        x = F.relu(self.down(x)) + self.short(x)
        return self.head(x.mean((2, 3)))


class Autoencoder(nn.Module):
    """A control: down and up with residual blocks, and nothing across."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            conv(1, 4),
            Residual(4),
            conv(4, 8, stride=2),
            Residual(8),
            nn.Upsample(scale_factor=2.0),
            conv(8, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Pyramid(nn.Module):
    """A control: ASPP, branches of several dilations and a pooled one, concatenated and upsampled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 4, stride=2)
        self.narrow = conv(4, 4, kernel=1)
        self.wide = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.pooled = conv(4, 4, kernel=1)
        self.project = conv(12, 4, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        mean = F.interpolate(self.pooled(F.adaptive_avg_pool2d(x, 1)), size=x.shape[2:], mode="nearest")
        return up(self.project(torch.cat([self.narrow(x), self.wide(x), mean], 1)))


class Gate(nn.Module):
    """An attention gate: the decoder says where the skip counts."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_skip, self.of_decoder = conv(channels, 2, kernel=1), conv(channels, 2, kernel=1)
        self.score = conv(2, 1, kernel=1)

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        return skip * torch.sigmoid(self.score(F.relu(self.of_skip(skip) + self.of_decoder(decoder))))


class AttentionUNet(nn.Module):
    """One gated skip."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.bottom = conv(1, 4), conv(4, 4, stride=2)
        self.gate, self.dec = Gate(4), conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.enc(x))
        d = up(F.relu(self.bottom(a)))
        return self.dec(torch.cat([self.gate(a, d), d], 1))


class NestedUNet(nn.Module):
    """UNet++ of three levels: node 0_2 joins the outputs of 0_0, 0_1 and the upsampled 1_1."""

    def __init__(self) -> None:
        super().__init__()
        self.n00, self.n10, self.n20 = conv(1, 4), conv(4, 4), conv(4, 4)
        self.n01, self.n11, self.n02 = conv(8, 4), conv(8, 4), conv(12, 4)
        self.head = conv(4, 1, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        x00 = F.relu(self.n00(x))
        x10 = F.relu(self.n10(F.max_pool2d(x00, 2)))
        x20 = F.relu(self.n20(F.max_pool2d(x10, 2)))
        x01 = F.relu(self.n01(torch.cat([x00, up(x10)], 1)))
        x11 = F.relu(self.n11(torch.cat([x10, up(x20)], 1)))
        x02 = F.relu(self.n02(torch.cat([x00, x01, up(x11)], 1)))
        return self.head(x02)


class FeaturePyramid(nn.Module):
    """FPN: projected encoder maps added to an upsampled path without weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enc0, self.enc1, self.enc2 = conv(1, 4, stride=2), conv(4, 6, stride=2), conv(6, 8, stride=2)
        self.lateral0, self.lateral1, self.lateral2 = (conv(c, 5, kernel=1) for c in (4, 6, 8))
        self.smooth = conv(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        a = F.relu(self.enc0(x))
        b = F.relu(self.enc1(a))
        c = F.relu(self.enc2(b))
        p1 = self.lateral1(b) + up(self.lateral2(c))
        return self.smooth(self.lateral0(a) + up(p1))


class TokenUNet(nn.Module):
    """Tokens `(N, L, C)` all the way; one skip of 64 tokens on an image of 16 by 16."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.merge = nn.Conv2d(1, 6, 2, 2), nn.Linear(24, 6)
        self.enc, self.bottom = nn.Linear(6, 6), nn.Linear(6, 6)
        self.expand, self.dec = nn.Linear(6, 24), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        N = x.shape[0]
        h, w = x.shape[2] // 2, x.shape[3] // 2
        a = F.gelu(self.enc(self.embed(x).flatten(2).transpose(1, 2)))  # (N, h w, 6)
        grid = a.reshape(N, h // 2, 2, w // 2, 2, 6).permute(0, 1, 3, 2, 4, 5)
        b = F.gelu(self.bottom(self.merge(grid.reshape(N, h * w // 4, 24))))  # (N, h w / 4, 6)
        fine = self.expand(b).reshape(N, h // 2, w // 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5)
        y = self.dec(torch.cat([fine.reshape(N, h * w, 6), a], -1))  # (N, h w, 8)
        return F.pixel_shuffle(y.transpose(1, 2).reshape(N, 8, h, w), 2)


class Deepest(nn.Module):
    """Comes down to a map of one value where the image has 16: a constant, and a limit, to torch.export."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 2, 8, stride=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + F.interpolate(F.relu(F.max_pool2d(x, 2)), x.shape[2:])
