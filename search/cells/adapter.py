"""The plain things to put on a skip, all equal to the skip at birth: what a cell must beat."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..operations import CONVOLUTIONS
from .spec import NARROWEST, CellSpec


class Adapter(nn.Module):
    """A baseline for cells: skip + 1x1 convolution of the skip, which is 0 at birth.

    Args:
        spec: the size of the skip; nothing else of it is used.
    """

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        self.convolution = CONVOLUTIONS[spec.spatial_dims - 1](spec.channels, spec.channels, 1)
        nn.init.zeros_(self.convolution.weight)
        if self.convolution.bias is not None:
            nn.init.zeros_(self.convolution.bias)

    def forward(self, skip: Tensor) -> Tensor:
        """Map `skip (N, C, *spatial)` to the same shape."""
        added: Tensor = self.convolution(skip)
        return skip + added.to(skip.dtype)


class Affine(nn.Module):
    """A scale and a shift for each channel of the skip, which are 1 and 0 at birth.

    Args:
        spec: the size of the skip; nothing else of it is used.
    """

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        shape = (spec.channels, *(1,) * spec.spatial_dims)
        self.scale = nn.Parameter(torch.ones(shape))
        self.shift = nn.Parameter(torch.zeros(shape))

    def forward(self, skip: Tensor) -> Tensor:
        """Map `skip (N, C, *spatial)` to the same shape."""
        return (skip * self.scale + self.shift).to(skip.dtype)


class Gate(nn.Module):
    """An additive attention gate on the skip (Attention U-Net, arXiv 1804.03999), open at birth.

    The gate is twice a sigmoid of what skip and decoder say together, so that zero weights let the skip
    through as it is.

    Args:
        spec: the size of the skip and of the tensor it meets; nothing else of it is used.
    """

    needs_decoder = True

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[spec.spatial_dims - 1]
        inner = max(NARROWEST, spec.channels // 2)
        self.of_skip = convolution(spec.channels, inner, 1)
        self.of_decoder = convolution(spec.decoder_channels, inner, 1, bias=False)
        self.attention = convolution(inner, 1, 1)
        nn.init.zeros_(self.attention.weight)
        if self.attention.bias is not None:
            nn.init.zeros_(self.attention.bias)

    def forward(self, skip: Tensor, decoder: Tensor) -> Tensor:
        """Map `skip (N, C, *spatial)`, and the `decoder (N, D, *spatial)` it meets, to the skip's shape."""
        heard = torch.relu(self.of_skip(skip) + self.of_decoder(decoder))
        weight: Tensor = 2 * torch.sigmoid(self.attention(heard))  # (N, 1, *spatial)
        return skip * weight.to(skip.dtype)
