"""Arithmetic of tall, narrow matrices: of `P` positions and a few channels.

A processor's kernel for products makes 16 columns at a time; for four it computes 16 and throws twelve away.
So several positions are taken as one row, and the small matrix stands that many times on a diagonal: more
multiplications, by zero, in less time (1.6 ms become 0.4 for 131,072 positions of four channels). What is
added to each sum is exactly 0, so the result is that of the plain product up to rounding. A value for each
channel is subtracted likewise, from rows of 16 (0.9 ms become 0.15).
"""

from __future__ import annotations

import torch
from torch import Tensor

_COLUMNS = 16
_LEAST = 8192  # positions; for fewer, setting up the diagonal takes what the product spares


def multiply(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return `rows @ matrix`, `(P, m)` by `(m, n)`."""
    positions, channels = rows.shape
    side_by_side = _fitting(rows, matrix.shape[1])
    if side_by_side == 1:
        return rows @ matrix
    wide = rows.view(positions // side_by_side, side_by_side * channels)
    diagonal = _on_diagonal(matrix, side_by_side)
    if torch.is_grad_enabled():
        return (wide @ diagonal).view(positions, matrix.shape[1])
    # What an autograd function returns must be nobody's view, or it could not be written to.
    made = rows.new_empty(positions, matrix.shape[1])
    torch.mm(wide, diagonal, out=made.view(len(wide), -1))
    return made


def multiply_across(rows: Tensor, others: Tensor) -> Tensor:
    """Return `rows.T @ others`, `(m, P)` by `(P, n)`: sums over all positions."""
    (positions, channels), columns = rows.shape, others.shape[1]
    side_by_side = _fitting(rows, columns) if others.is_contiguous() else 1
    if side_by_side == 1:
        return rows.t() @ others
    left = rows.view(positions // side_by_side, side_by_side * channels)
    right = others.view(positions // side_by_side, side_by_side * columns)
    blocks = (left.t() @ right).view(side_by_side, channels, side_by_side, columns)
    return blocks.diagonal(dim1=0, dim2=2).sum(-1)


def subtract(rows: Tensor, values: Tensor, *, in_place: bool = False) -> Tensor:
    """Return `rows - values`, `(P, m)` less `(m,)`."""
    made = rows if in_place else torch.empty_like(rows)
    side_by_side = _fitting(rows, rows.shape[1])
    wide = (len(rows) // side_by_side, side_by_side * rows.shape[1])
    if side_by_side > 1 and rows.dtype == values.dtype:
        torch.sub(rows.view(wide), values.repeat(side_by_side), out=made.view(wide))
    else:
        torch.sub(rows, values, out=made)
    return made


def _on_diagonal(matrix: Tensor, times: int) -> Tensor:
    """Put a matrix `(m, n)` so many times on the diagonal of one; faster than `torch.block_diag`."""
    (rows, columns), zeros = matrix.shape, matrix.new_zeros(times, matrix.shape[0], times, matrix.shape[1])
    zeros.diagonal(dim1=0, dim2=2).copy_(matrix.unsqueeze(-1).expand(rows, columns, times))
    return zeros.view(times * rows, times * columns)


def _fitting(rows: Tensor, columns: int) -> int:
    """Return how many positions stand side by side."""
    plain = rows.device.type != "cpu" or rows.dtype not in (torch.float32, torch.float64)
    if plain or rows.shape[0] < _LEAST or not rows.is_contiguous() or columns < 2 or _COLUMNS % columns:
        return 1
    side_by_side = _COLUMNS // columns
    return side_by_side if rows.shape[0] % side_by_side == 0 else 1
