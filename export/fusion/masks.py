"""Masks that are made of sizes alone: which positions of shifted windows see each other."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from .calls import caller
from .draft import Draft
from .report import PassReport

aten = torch.ops.aten

_FILL = aten.masked_fill.Scalar
_ALIKE, _APART = aten.eq.Scalar, aten.ne.Scalar
# What hands values on as they are.
_MOVES = {
    aten.cat.default,
    aten.clone.default,
    aten.expand.default,
    aten.fill.Tensor,
    aten.permute.default,
    aten.reshape.default,
    aten.roll.default,
    aten.slice.Tensor,
    aten.slice_scatter.default,
    aten.squeeze.dim,
    aten.squeeze.dims,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.view.default,
}
_MAKERS = {aten.zeros.default, aten.ones.default}


class _Mask(NamedTuple):
    """One value where two tensors are equal, another where they are not."""

    left: fx.Node
    right: fx.Node
    alike: float
    apart: float


def choose_at_once(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Write the mask of shifted windows as one choice.

    Swin transformers number the regions of an image, subtract the numbers of all pairs of positions, and fill
    the difference twice: where it is 0, and where it is not. With free sizes that is computed in every run,
    and each step of it writes as much as the attention. `left == right` and one choice give the same where
    all numbers are whole; so tensors are looked at that depend on sizes alone.
    """
    draft = Draft(source, "choose_at_once")
    for node in list(draft.graph.nodes):
        mask = _read(node)
        if mask is None:
            continue
        if not all(_is_whole(draft, side) for side in (mask.left, mask.right)):
            draft.reject(node, "what it compares may be anything")
            continue
        call, like = caller(draft, node), node.meta["val"].dtype
        alike, apart = (
            draft.add_constant(f"{node.name}_{word}", torch.tensor(value, dtype=like), node)
            for word, value in (("alike", mask.alike), ("apart", mask.apart))
        )
        chosen = call(aten.where.self, call(aten.eq.Tensor, mask.left, mask.right), alike, apart)
        chosen.meta = dict(node.meta)
        draft.note(f"{node.name}: {mask.left.name} against {mask.right.name}")
        draft.replace(node, chosen)
    return draft.finish()


def _read(node: fx.Node) -> _Mask | None:
    """Read a difference that is filled where it is 0 and where it is not, in any order."""
    if node.target is not _FILL or not isinstance(node.meta.get("val"), Tensor):
        return None
    inner, second, last_value = node.args
    if not isinstance(inner, fx.Node) or inner.target is not _FILL:
        return None
    difference, first, first_value = inner.args
    values = {_target(first): first_value, _target(second): last_value}
    if set(values) != {_ALIKE, _APART} or _target(difference) is not aten.sub.Tensor:
        return None
    assert isinstance(difference, fx.Node)
    if difference.kwargs or any(test.args != (difference, 0) for test in (first, second)):  # type: ignore[union-attr]
        return None
    left, right = difference.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or len(difference.args) > 2:
        return None
    alike, apart = values[_ALIKE], values[_APART]
    numbers = isinstance(alike, int | float) and isinstance(apart, int | float)
    return _Mask(left, right, alike, apart) if numbers else None  # type: ignore[arg-type]


def _target(value: Any) -> Any:
    return value.target if isinstance(value, fx.Node) else None


def _is_whole(draft: Draft, node: fx.Node) -> bool:
    """Say whether a tensor holds whole numbers whatever the input: made of constants, and moved alone."""
    seen: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        constant = draft.constant(found)
        if constant is not None:
            if not bool(constant.isfinite().all() & (constant == constant.round()).all()):
                return False
        elif found.target in _MOVES:
            waiting += [each for each in found.all_input_nodes if isinstance(each.meta.get("val"), Tensor)]
        elif found.target not in _MAKERS:
            return False
    return True
