"""Operations on complex numbers that the exporter has for real numbers alone, written by those."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

aten = torch.ops.aten


def way_of_complex(node: fx.Node) -> Callable[..., Any] | None:
    """Return the function to write a node by that takes or gives complex numbers, None to leave it."""
    values = (each.meta.get("val") for each in (node, *node.all_input_nodes))
    has_complex = any(isinstance(x, Tensor) and x.is_complex() for x in values)
    return _WAYS.get(node.target) if has_complex else None


def sum_products(equation: str, operands: Sequence[Tensor]) -> Tensor:
    """Compute an Einstein sum, such as that of a spectrum and weights, from sums of real numbers."""
    parts = [torch.view_as_real(x).unbind(-1) if x.is_complex() else (x,) for x in operands]
    found: tuple[list[Tensor], list[Tensor]] = [], []
    for choice in itertools.product(*(range(len(part)) for part in parts)):
        power = sum(choice)  # of the imaginary unit
        term = torch.einsum(equation, *(part[index] for part, index in zip(parts, choice, strict=True)))
        found[power % 2].append(-term if power % 4 > 1 else term)
    real, imaginary = (functools.reduce(torch.add, terms) for terms in found)
    return torch.view_as_complex(torch.stack([real, imaginary], -1))


def scale(x: Tensor, factor: Tensor | complex) -> Tensor:
    """Multiply by a tensor, or by a number such as the imaginary unit."""
    if isinstance(factor, Tensor):
        return x * factor
    real, imaginary = _pairs(x).unbind(-1)
    a, b = complex(factor).real, complex(factor).imag
    return torch.view_as_complex(torch.stack([real * a - imaginary * b, real * b + imaginary * a], -1))


def exponentiate(x: Tensor) -> Tensor:
    """Compute the exponential by Euler's formula."""
    real, imaginary = torch.view_as_real(x).unbind(-1)
    turned = torch.stack([imaginary.cos(), imaginary.sin()], -1)
    return torch.view_as_complex(real.exp().unsqueeze(-1) * turned)


def zeros(size: Sequence[int], *, dtype: torch.dtype, **_: Any) -> Tensor:
    """Return zeros, as a spectrum begins of which a few frequencies are filled in."""
    return torch.view_as_complex(torch.zeros([*size, 2], dtype=dtype.to_real()))


def zeros_like(x: Tensor, **_: Any) -> Tensor:
    """Return as many zeros."""
    return torch.view_as_complex(torch.zeros_like(_pairs(x)))


def copy(old: Tensor, new: Tensor, *_: Any) -> Tensor:
    """Return `new` in the shape of `old`."""
    return expand(new, old.shape)


def expand(x: Tensor, size: Sequence[int], **_: Any) -> Tensor:
    """Repeat along axes of size 1."""
    return torch.view_as_complex(_pairs(x).expand(*size, 2))


def choose(condition: Tensor, x: Tensor, other: Tensor) -> Tensor:
    """Take one or the other where a condition says so."""
    return torch.view_as_complex(torch.where(condition.unsqueeze(-1), _pairs(x), _pairs(other)))


def slice_scatter(x: Tensor, part: Tensor, dim: int = 0, *where: Any) -> Tensor:
    """Return a tensor with `part` in the place of a slice of it."""
    return torch.view_as_complex(aten.slice_scatter.default(_pairs(x), _pairs(part), dim % x.ndim, *where))


def pad(x: Tensor, amounts: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Pad, from the last axis on."""
    if mode != "constant" or value:
        return F.pad(x, list(amounts), mode, value)
    return torch.view_as_complex(F.pad(_pairs(x), [0, 0, *amounts]))


def pad_by(x: Tensor, amounts: Sequence[int], value: float = 0) -> Tensor:
    """Pad by a number."""
    return pad(x, amounts, value=value)


def roll(x: Tensor, shifts: Sequence[int], dims: Sequence[int]) -> Tensor:
    """Shift cyclically along axes, by numbers that may be known when it runs; real numbers as well."""
    rolled = torch.view_as_real(x) if x.is_complex() else x
    for by, dim in zip(shifts, dims, strict=True):
        count = x.shape[dim]
        first = count - by % count
        places = torch.cat([torch.arange(first, count), torch.arange(first)])
        rolled = rolled.index_select(dim % x.ndim, places)
    return torch.view_as_complex(rolled) if x.is_complex() else rolled


def shift(x: Tensor, dim: Sequence[int] | None = None) -> Tensor:
    """Move the frequency zero to the middle, as `torch.fft.fftshift` does."""
    axes = range(x.ndim) if dim is None else dim
    return roll(x, [x.shape[axis] // 2 for axis in axes], axes)


def shift_back(x: Tensor, dim: Sequence[int] | None = None) -> Tensor:
    """Move it back, as `torch.fft.ifftshift` does."""
    axes = range(x.ndim) if dim is None else dim
    return roll(x, [(x.shape[axis] + 1) // 2 for axis in axes], axes)


def split(x: Tensor, sizes: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Divide along an axis."""
    return tuple(torch.view_as_complex(part) for part in torch.split(_pairs(x), sizes, dim % x.ndim))


def chunk(x: Tensor, number: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Divide along an axis into a number of parts."""
    return tuple(torch.view_as_complex(part) for part in _pairs(x).chunk(number, dim % x.ndim))


def _pairs(x: Tensor) -> Tensor:
    """Return real and imaginary part along a last axis."""
    return torch.view_as_real(x) if x.is_complex() else torch.stack([x, torch.zeros_like(x)], -1)


_WAYS: dict[Any, Callable[..., Any]] = {
    aten.chunk.default: chunk,
    aten.constant_pad_nd.default: pad_by,
    aten.copy.default: copy,
    aten.einsum.default: sum_products,
    aten.exp.default: exponentiate,
    aten.expand.default: expand,
    aten.mul.Scalar: scale,
    aten.mul.Tensor: scale,
    aten.pad.default: pad,
    aten.roll.default: roll,
    aten.slice_scatter.default: slice_scatter,
    aten.split.Tensor: split,
    aten.split_with_sizes.default: split,
    aten.where.self: choose,
    aten.zeros.default: zeros,
    aten.zeros_like.default: zeros_like,
}
