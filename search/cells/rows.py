"""Feature maps as matrices of one row a position, channels last: what is linear in them is a product.

Statistics of a product need no product: the variance of `rows @ weights` follows from the covariance of
`rows`, which is small. So a 1x1 convolution, its BatchNorm, the weight of the operation and the sum over the
operations are one product for each operation; nothing between is written to memory or kept for the gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..fleet import Fleet
from ..norms import BatchNorm
from .products import multiply, multiply_across, subtract

_NARROW = 16  # below so many columns, adding in a pass of its own is faster than inside the product


@dataclass(frozen=True, slots=True)
class Product:
    """`rows @ matrix`, normalised if there is a norm.

    Attributes:
        rows: `(P, m)`.
        matrix: `(m, n)`.
        norm: over the n columns of the product; its own scale and shift are left out. One of fewer channels
            holds for each of several equal blocks of columns.
        scale: `(n,)`, applied after the norm.
        owned: whether `rows` are nobody else's, and may be written to.
    """

    rows: Tensor
    matrix: Tensor
    norm: BatchNorm | None = None
    scale: Tensor | None = None
    owned: bool = False


def add_products(products: Sequence[Product], start: Tensor | None = None) -> Tensor:
    """Add products `(P, n)`; norms in training take the statistics of the batch and remember them.

    Args:
        products: at least one.
        start: `(n,)` or `(P, n)`, added as well.
    """
    computed = [_in_one_type(product) for product in products]
    settled = [product if _by_batch(product) else _folded(product) for product in computed]
    norms = [product.norm for product, _ in _parts(settled)]
    owned = [product.owned for product, _ in _parts(settled)]
    shifts = [shift for _, shift in _parts(settled) if shift is not None]
    if not any(norms):
        return _plainly(_parts(settled), _added([*shifts, *(() if start is None else (start,))]))
    tensors = [t for product, _ in _parts(settled) for t in (product.rows, product.matrix, product.scale)]
    starts = [*shifts, *(() if start is None else (start,))]
    with torch.autocast(products[0].rows.device.type, enabled=False):
        total: Tensor = _Sum.apply((tuple(norms), tuple(owned)), _added(starts), *tensors)
    return total


def as_computed(x: Tensor) -> Tensor:
    """Return a tensor in the type that products are computed in: autocast's, where that is on."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def _in_one_type(product: Product) -> Product:
    """Bring rows into the type of products; the matrix of a norm, which tells statistics, stays as it is."""
    matrix = product.matrix if product.norm is not None else as_computed(product.matrix)
    return replace(product, rows=as_computed(product.rows), matrix=matrix)


def _plainly(parts: list[tuple[Product, Tensor | None]], start: Tensor | None) -> Tensor:
    """Add products without norms by torch's own operations: they can be differentiated again."""
    total: Tensor | None = None
    for product, _ in parts:
        total = _plus(total, product.rows, product.matrix.to(product.rows.dtype))
    assert total is not None
    return total if start is None else total.add_(start)


_Settled = Product | tuple[Product, Tensor]


def _parts(settled: Sequence[_Settled]) -> list[tuple[Product, Tensor | None]]:
    return [part if isinstance(part, tuple) else (part, None) for part in settled]


def _added(starts: list[Tensor]) -> Tensor | None:
    total = None
    for start in sorted(starts, key=lambda tensor: tensor.ndim):
        total = start if total is None else total + start
    return total


def _by_batch(product: Product) -> bool:
    return product.norm is None or product.norm.by_batch(product.rows.shape[0])


def _folded(product: Product) -> tuple[Product, Tensor]:
    """Fold a norm that uses its running statistics into matrix and shift."""
    norm, scale = product.norm, product.scale
    assert norm is not None
    copies = product.matrix.shape[1] // norm.running_var.shape[0]
    factor = torch.rsqrt(norm.running_var + norm.epsilon).repeat(copies)
    factor = factor if scale is None else factor * scale
    return Product(product.rows, product.matrix * factor), -norm.running_mean.repeat(copies) * factor


class _Sum(torch.autograd.Function):
    """The sum of products. For the gradients it keeps rows alone, centred where a norm follows.

    Statistics are over the positions of all processes (`Fleet`). The gradients of matrices and scales stay
    this process's part of the whole, as those of any parameter do; those of rows need the others' sums.
    """

    @staticmethod
    def forward(
        ctx: Any,
        how: tuple[tuple[BatchNorm | None, ...], tuple[bool, ...]],
        start: Tensor | None,
        *tensors: Tensor | None,
    ) -> Tensor:
        parts = list(zip(*how, *(tensors[k::3] for k in range(3)), strict=True))
        ctx.norms, ctx.start = how[0], None if start is None else start.ndim
        ctx.fleet = next(norm.fleet for norm in how[0] if norm is not None)
        normed, ctx.positions = _standardised(ctx.fleet, [part[:4] for part in parts if part[0] is not None])
        kept: list[Tensor | None] = []
        total: Tensor | None = None
        for norm, _, rows, weights, scale in parts:
            assert rows is not None
            assert weights is not None
            if norm is None:
                total = _plus(total, rows, weights)
                kept += [rows, weights, scale, None, None]
                continue
            centred, across, inverse = normed.pop(0)
            factor = inverse if scale is None else inverse * scale
            total = _plus(total, centred, (weights * factor).to(centred.dtype))
            kept += [centred, weights, scale, across, inverse]
        assert total is not None
        ctx.save_for_backward(*kept)
        return total if start is None else total.add_(start)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradient, kept = gradient.contiguous(), ctx.saved_tensors
        parts = list(zip(ctx.norms, *(kept[k::5] for k in range(5)), strict=True))
        here = gradient.sum(0, dtype=_wide(gradient.dtype))  # (n,)
        of_start = (gradient if ctx.start == 2 else here) if ctx.needs_input_grad[1] else None
        of_matrices = [
            multiply_across(rows, gradient) if norm else None for norm, rows, *_ in parts
        ]  # (m, n)
        pairs = zip(of_matrices, kept[1::5], strict=True)
        of_factors = [(found * weights).sum(0) for found, weights in pairs if found is not None]
        summed, *of_all = ctx.fleet.add_up([here, *of_factors])
        found: list[Tensor | None] = []
        for place, (_, rows, weights, scale, across, inverse) in enumerate(parts):
            needed, of_matrix = ctx.needs_input_grad[2 + 3 * place : 5 + 3 * place], of_matrices[place]
            if of_matrix is None:
                of_rows = multiply(gradient, weights.t()) if needed[0] else None
                found += [of_rows, multiply_across(rows, gradient) if needed[1] else None, None]
                continue
            factor = inverse if scale is None else inverse * scale
            of_factor, of_all_factors = of_factors.pop(0), of_all.pop(0)
            slope = -0.5 * inverse**3 * (1 if scale is None else scale)  # of the factor by the variance
            of_rows = of_weights = None
            if needed[0]:
                back = (weights * factor).t()
                of_rows = multiply(gradient, back.to(gradient.dtype))
                spread = (weights * (of_all_factors * slope * (2 / ctx.positions))) @ weights.t()  # (m, m)
                of_rows = _plus(of_rows, rows, spread.to(rows.dtype))
                of_rows = subtract(of_rows, summed @ back / ctx.positions, in_place=True)
            if needed[1]:
                of_weights = of_matrix * factor + 2 * across * (of_factor * slope)
            found += [of_rows, of_weights, of_factor * inverse if needed[2] else None]
        return None, of_start, *found


def _wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type that sums are made in."""
    return torch.promote_types(dtype, torch.float32)


def _standardised(
    fleet: Fleet, parts: Sequence[tuple[Any, ...]]
) -> tuple[list[tuple[Tensor, Tensor, Tensor]], int | Tensor]:
    """Centre rows, and tell by what `rows @ weights` is to be multiplied.

    Args:
        fleet: the processes that share the positions.
        parts: norm, whether the rows may be written to, rows `(P, m)`, weights `(m, n)`.

    Returns:
        for each part the centred rows, covariance @ weights `(m, n)`, and one over the standard deviation
        `(n,)`; and the number of positions of all processes.
    """
    positions: int | Tensor = parts[0][2].shape[0]
    sums = [rows.detach().sum(0, dtype=_wide(rows.dtype)) for _, _, rows, _ in parts]
    if fleet.size > 1:
        *sums, positions = fleet.add_up([*sums, sums[0].new_full((), positions)])
    means = [total / positions for total in sums]
    centred = [
        subtract(rows.detach(), mean, in_place=owned)
        for mean, (_, owned, rows, _) in zip(means, parts, strict=True)
    ]
    found = []
    spreads = fleet.add_up([_squared(rows) for rows in centred])
    for mean, rows, spread, (norm, _, _, weights) in zip(means, centred, spreads, parts, strict=True):
        across = (spread / positions) @ weights
        variance = (across * weights).sum(0)
        width = norm.running_mean.shape[0]
        norm.follow((mean @ weights)[:width], variance[:width], positions)
        found.append((rows, across, torch.rsqrt(variance + norm.epsilon)))
    return found, positions


def _squared(rows: Tensor) -> Tensor:
    wide = rows.to(_wide(rows.dtype))
    return multiply_across(wide, wide)


def _plus(total: Tensor | None, rows: Tensor, matrix: Tensor) -> Tensor:
    if total is None:
        return multiply(rows, matrix)
    if matrix.shape[1] < _NARROW:
        return total.add_(multiply(rows, matrix))
    return total.addmm_(rows, matrix)
