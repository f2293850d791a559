"""Values by their rank, medians and the like, which ONNX has no operations for, by sorting and counting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def extremes(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value along an axis, of all where none is named."""
    if dim is not None:
        return x.amin(dim, keepdim), x.amax(dim, keepdim)
    sizes = (1,) * x.ndim if keepdim else ()
    return x.min().reshape(sizes), x.max().reshape(sizes)


def of_rank(x: Tensor, rank: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the `rank`-th smallest value along an axis, counted from 1, and where it is."""
    found = (part.narrow(dim, rank - 1, 1) for part in torch.sort(x, dim))
    values, places = (part if keepdim else part.squeeze(dim) for part in found)
    return values, places


def median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the middle value along an axis, of two the lower one, and where it is."""
    return of_rank(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def median_of_all(x: Tensor) -> Tensor:
    """Return the middle value of all, of two the lower one."""
    return median(x.flatten(), 0)[0]


def places_among(boundaries: Tensor, x: Tensor, *, right: bool = False, **_: Any) -> Tensor:
    """Return how many sorted boundaries lie below each value, or equal it (`right`): `searchsorted`."""
    values = x.unsqueeze(-1)
    return (boundaries <= values if right else boundaries < values).sum(-1)


def is_among(x: Tensor, members: Tensor, *, invert: bool = False, **_: Any) -> Tensor:
    """Tell of each value whether it is one of the members."""
    found = (x.unsqueeze(-1) == members.flatten()).any(-1)
    return found.logical_not() if invert else found


def way_of_ranking(node: fx.Node) -> Callable[..., Any] | None:
    """Return the function to write such an operation by; None for others."""
    if node.target is aten.searchsorted.Tensor and not _is_plain_search(node):
        return None
    return _WAYS.get(node.target)


def _is_plain_search(node: fx.Node) -> bool:
    """Tell whether a search goes through one row of boundaries, which are in order themselves."""
    boundaries: Any = node.args[0]
    turned = node.kwargs.get("side") is not None or node.kwargs.get("sorter") is not None
    return boundaries.meta["val"].ndim == 1 and not turned


_WAYS: dict[Any, Callable[..., Any]] = {
    aten.aminmax.default: extremes,
    aten.isin.Tensor_Tensor: is_among,
    aten.kthvalue.default: of_rank,
    aten.median.default: median_of_all,
    aten.median.dim: median,
    aten.searchsorted.Tensor: places_among,
}
