"""What an edge of a cell can compute: every operation keeps the resolution and the number of channels.

The forms are those of DARTS (arXiv 1806.09055), all with stride 1: convolutions are ReLU, convolution,
BatchNorm; separable ones do it twice, dilated ones once with dilation 2. `pointwise` (ReLU, 1x1
convolution, BatchNorm) is added, because on real pairs it earned most of the gain for little cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from surgeon.errors import InputError

from .norms import BatchNorm

CONVOLUTIONS: tuple[type[nn.Conv1d | nn.Conv2d | nn.Conv3d], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)

OperationFactory = Callable[[int, int, bool], nn.Module]
"""`factory(channels, spatial_dims, affine)`: a module that maps `(N, channels, *spatial)` to the same shape.

`affine` is False while searching (the published search cells have BatchNorm without affine parameters) and
True in a derived cell.
"""


class Zero(nn.Module):
    """No connection: zeros of the input's shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Return zeros like `x (N, C, *spatial)`."""
        return torch.zeros_like(x)


class GroupedFactory(Protocol):
    """A factory that can also build `copies` independent operations side by side, channels concatenated."""

    def __call__(self, channels: int, spatial_dims: int, affine: bool, copies: int = 1) -> nn.Module:
        """Build the operation for `copies * channels` channels, of which each block sees only itself."""


def none(channels: int, spatial_dims: int, affine: bool) -> nn.Module:
    """Build the operation that gives zeros."""
    del channels, spatial_dims, affine
    return Zero()


def identity(channels: int, spatial_dims: int, affine: bool) -> nn.Module:
    """Build the operation that gives its input."""
    del channels, spatial_dims, affine
    return nn.Identity()


def pool(kind: str) -> OperationFactory:
    """Make the factory of a 3-wide `max` or `average` pool; while searching a BatchNorm follows."""

    def build(channels: int, spatial_dims: int, affine: bool) -> nn.Module:
        chosen: nn.Module
        if kind == "max":
            chosen = _MAX_POOLS[spatial_dims - 1](3, stride=1, padding=1)
        else:
            chosen = _AVERAGE_POOLS[spatial_dims - 1](3, stride=1, padding=1, count_include_pad=False)
        return chosen if affine else nn.Sequential(chosen, BatchNorm(channels, affine=False))

    return build


def separable(kernel: int) -> GroupedFactory:
    """Make the factory of the twice-applied separable convolution of that kernel size."""

    def build(channels: int, spatial_dims: int, affine: bool, copies: int = 1) -> nn.Module:
        halves = (_depthwise((channels, spatial_dims, copies), kernel, 1, affine=affine) for _ in range(2))
        return nn.Sequential(*(layer for half in halves for layer in half))

    return build


def dilated(kernel: int) -> GroupedFactory:
    """Make the factory of the separable convolution of that kernel size with dilation 2."""

    def build(channels: int, spatial_dims: int, affine: bool, copies: int = 1) -> nn.Module:
        return nn.Sequential(*_depthwise((channels, spatial_dims, copies), kernel, 2, affine=affine))

    return build


def pointwise(channels: int, spatial_dims: int, affine: bool, copies: int = 1) -> nn.Module:
    """Build ReLU, 1x1 convolution, BatchNorm."""
    total = copies * channels
    convolution = CONVOLUTIONS[spatial_dims - 1](total, total, 1, groups=copies, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, BatchNorm(total, affine=affine))


def _depthwise(
    size: tuple[int, int, int], kernel: int, dilation: int, *, affine: bool
) -> tuple[nn.Module, ...]:
    channels, spatial_dims, copies = size
    convolution = CONVOLUTIONS[spatial_dims - 1]
    total = copies * channels
    padding = dilation * (kernel - 1) // 2
    return (
        nn.ReLU(),
        convolution(total, total, kernel, padding=padding, dilation=dilation, groups=total, bias=False),
        convolution(total, total, 1, groups=copies, bias=False),
        BatchNorm(total, affine=affine),
    )


GROUPED: Mapping[str, GroupedFactory] = MappingProxyType(
    {
        "sep3": separable(3),
        "sep5": separable(5),
        "dil3": dilated(3),
        "dil5": dilated(5),
        "pointwise": pointwise,
    }
)

OPERATIONS: Mapping[str, OperationFactory] = MappingProxyType(
    {"none": none, "identity": identity, "max3": pool("max"), "avg3": pool("average"), **GROUPED}
)


def with_operations(own: Mapping[str, OperationFactory]) -> Mapping[str, OperationFactory]:
    """Return the table of operations with a user's own added.

    Args:
        own: factories by name.

    Raises:
        InputError: a name is already taken.

    Example:
        >>> table = with_operations({"tanh": lambda channels, spatial_dims, affine: nn.Tanh()})
        >>> list(table)[-1]
        'tanh'
    """
    taken = sorted(set(own) & set(OPERATIONS))
    if taken:
        raise InputError(
            f"operation names already taken: {', '.join(taken)}", fix="give your own operations other names"
        )
    return MappingProxyType({**OPERATIONS, **own})


def check_operations(names: tuple[str, ...], table: Mapping[str, OperationFactory]) -> None:
    """Refuse names that the table does not hold.

    Raises:
        InputError: an operation is unknown.
    """
    unknown = [name for name in names if name not in table]
    if unknown:
        raise InputError(
            f"unknown operation {', '.join(map(repr, unknown))}",
            where="operations",
            fix=f"choose among {', '.join(table)}, or pass a table made by with_operations",
        )
