"""The plainest thing to put on a skip: a 1x1 convolution whose output is added to it, zero at birth."""

from __future__ import annotations

from torch import Tensor, nn

from ..operations import CONVOLUTIONS
from .spec import CellSpec


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
        out: Tensor = skip + self.convolution(skip)
        return out
