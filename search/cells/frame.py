"""What every cell has around its states: the way in, to fewer channels, and the way out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..genotype import CellMerge
from ..norms import BatchNorm
from ..operations import CONVOLUTIONS
from .grid import Grid
from .rows import Product, add_products
from .spec import CellSpec


class Entry(nn.Module):
    """Bring the inputs of a cell to its inner channels: 1x1 convolution and BatchNorm, one for each input.

    Args:
        spec: the cell's size and form.
        affine: whether the BatchNorm learns scale and shift.
    """

    def __init__(self, spec: CellSpec, *, affine: bool) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[spec.spatial_dims - 1]
        widths = (spec.channels, spec.decoder_channels)[: spec.inputs.number]
        self.reductions = nn.ModuleList(
            nn.Sequential(convolution(width, spec.inner, 1, bias=False), BatchNorm(spec.inner, affine=affine))
            for width in widths
        )

    def forward(self, skip: Tensor, decoder: Tensor | None) -> list[Tensor]:
        """Map `skip (N, C, *spatial)`, and `decoder (N, D, *spatial)` if the cell takes it, to input states.

        Returns:
            one or two tensors `(N, inner, *spatial)`.
        """
        given = [x for x in (skip, decoder) if x is not None]
        return [reduce(x) for reduce, x in zip(self.reductions, given, strict=True)]


class Exit(nn.Module):
    """Concatenate the states, bring them back to C channels by a 1x1 convolution and merge with the skip.

    With the residual merge gamma `(C,)` is 0 at birth: the cell's output is then the skip, bit by bit. The
    first gradient reaches gamma alone; the cell learns as soon as gamma has left 0.

    Args:
        spec: the cell's size and form.
    """

    def __init__(self, spec: CellSpec) -> None:
        super().__init__()
        convolution = CONVOLUTIONS[spec.spatial_dims - 1]
        self.expansion = convolution(spec.states * spec.inner, spec.channels, 1)
        residual = spec.merge is CellMerge.RESIDUAL
        self.gamma = nn.Parameter(torch.zeros(spec.channels, *(1,) * spec.spatial_dims)) if residual else None

    def forward(self, skip: Tensor, states: list[Tensor]) -> Tensor:
        """Map the states, each `(N, inner, *spatial)`, to what takes the skip's place `(N, C, *spatial)`."""
        out: Tensor = self.expansion(torch.cat(states, dim=1))
        # In mixed precision gamma is wider than the skip, and what follows shall not notice the cell.
        return out if self.gamma is None else skip + (self.gamma * out).to(skip.dtype)

    def join(self, skip: Tensor, states: list[Tensor], grid: Grid) -> Tensor:
        """Do what `forward` does with states as rows `(P, inner)` of a grid; returns `(N, C, *spatial)`.

        The result is laid out in memory as the skip is: hosts may ask for views that need it.
        """
        matrix, shift = self.expansion.weight.flatten(1).t(), self.expansion.bias  # (states * inner, C)
        assert shift is not None
        if self.gamma is not None:
            matrix, shift = matrix * self.gamma.flatten(), shift * self.gamma.flatten()
        parts = torch.split(matrix, states[0].shape[1])
        products = [Product(state, part) for state, part in zip(states, parts, strict=True)]
        out = grid.maps(add_products(products, shift))
        if skip.is_contiguous():
            out = out.contiguous()
        return out if self.gamma is None else skip + out.to(skip.dtype)
