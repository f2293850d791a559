"""Channels that are always zero, taken out of a concatenation and of the convolutions that read it."""

from __future__ import annotations

import torch
from torch import fx

from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft, shape_of
from .neutral import is_all
from .report import PassReport

aten = torch.ops.aten


def drop_zero_channels(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Drop the zeros that a state without a live edge puts into a concatenation.

    Where every reader of the concatenation is a convolution of one group, the columns of its weight that
    read the zeros go with them.
    """
    draft = Draft(source, "drop_zero_channels")
    for node in list(draft.graph.nodes):
        if node.target is not aten.cat.default or _axis(node) != 1:
            continue
        parts = list(node.args[0])  # type: ignore[arg-type]
        zero = [is_all(draft, part, 0.0) for part in parts]
        if not any(zero) or all(zero):
            continue
        reason = _refusal(draft, node, parts)
        if reason:
            draft.reject(node, reason)
            continue
        _drop(draft, node, parts, zero)
    return draft.finish()


def _axis(node: fx.Node) -> object:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)


def _refusal(draft: Draft, node: fx.Node, parts: list[fx.Node]) -> str:
    for part in parts:
        shape = shape_of(part)
        if shape is None or not shape[1].isdigit():
            return f"the number of channels of {part.name} is not known"
    for reader in node.users:
        convolution = _reading(draft, reader, node)
        if convolution is None or convolution.groups != 1:
            return f"{reader.name} after it is not a convolution of one group with constant weights"
    return ""


def _reading(draft: Draft, reader: fx.Node, node: fx.Node) -> Convolution | None:
    return read_convolution(draft, reader) if reader.args and reader.args[0] is node else None


def _drop(draft: Draft, node: fx.Node, parts: list[fx.Node], zero: list[bool]) -> None:
    kept: list[int] = []
    start = 0
    for part, is_zero in zip(parts, zero, strict=True):
        end = start + int((shape_of(part) or ("", "0"))[1])
        kept += [] if is_zero else list(range(start, end))
        start = end
    for reader in list(node.users):
        convolution = _reading(draft, reader, node)
        assert convolution is not None
        axis = 0 if convolution.transposed else 1
        index = torch.tensor(kept, device=convolution.weight.device)
        write_convolution(draft, reader, convolution.weight.index_select(axis, index), None)
    live = [part for part, is_zero in zip(parts, zero, strict=True) if not is_zero]
    value = node.meta.get("val")
    node.args = (live, 1)
    if isinstance(value, torch.Tensor):
        node.meta["val"] = value[:, : len(kept)]
    draft.note(f"{start - len(kept)} of {start} channels of {node.name}")
    if len(live) == 1:
        draft.replace(node, live[0])
