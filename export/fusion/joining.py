"""Concatenations of channels made smaller: parts that are there twice, convolutions of the same input."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft, arguments_of, shape_of
from .report import PassReport

aten = torch.ops.aten


def merge_repeated_parts(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Read a tensor once that is concatenated twice: `W cat(x, y, x) = (W_1 + W_3) x + W_2 y`.

    A state whose one edge is the identity is the state before it; the cell's way out reads both.
    """
    draft = Draft(source, "merge_repeated_parts")
    for node in list(draft.graph.nodes):
        parts = _parts(node)
        if len(set(parts)) == len(parts):
            continue
        readers = [(reader, _reading(draft, reader, node)) for reader in node.users]
        if any(found is None or found.groups != 1 for _, found in readers):
            draft.reject(node, "not all that read it are convolutions of one group with constant weights")
            continue
        widths = [_channels(part) for part in parts]
        if not all(widths):
            draft.reject(node, "the channels of its parts are not known")
            continue
        for reader, found in readers:
            assert found is not None
            write_convolution(draft, reader, _summed_columns(found, parts, widths), None)
        kept = list(dict.fromkeys(parts))
        draft.note(f"{len(parts) - len(kept)} of {len(parts)} parts of {node.name}")
        _shrink(draft, node, kept)
    return draft.finish()


def join_parallel_convolutions(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Write `cat(conv_a(x), conv_b(x))` as one convolution of `x` with the channels of both.

    Exact where the two have the same kernel, stride, padding and dilation, and one group.
    """
    draft = Draft(source, "join_parallel_convolutions")
    for node in list(draft.graph.nodes):
        parts = list(_parts(node))
        position = 0
        while position + 1 < len(parts):
            first, second = parts[position : position + 2]
            reason = _unlike(draft, first, second)
            if reason is None:
                _join(draft, first, second)
                draft.note(f"{second.name} into {first.name}")
                del parts[position + 1]
                continue
            if reason:
                draft.reject(second, reason)
            position += 1
        if len(parts) < len(_parts(node)):
            _shrink(draft, node, parts, whole=True)
    return draft.finish()


def _parts(node: fx.Node) -> tuple[fx.Node, ...]:
    if node.target is not aten.cat.default or arguments_of(node)["dim"] != 1:
        return ()
    return tuple(node.args[0])  # type: ignore[arg-type]


def _reading(draft: Draft, reader: fx.Node, node: fx.Node) -> Convolution | None:
    return read_convolution(draft, reader) if reader.args and reader.args[0] is node else None


def _channels(part: fx.Node) -> int:
    shape = shape_of(part)
    return int(shape[1]) if shape is not None and shape[1].isdigit() else 0


def _summed_columns(convolution: Convolution, parts: tuple[fx.Node, ...], widths: list[int]) -> Tensor:
    axis = 0 if convolution.transposed else 1
    summed: dict[fx.Node, Tensor] = {}
    for part, columns in zip(parts, torch.split(convolution.weight.double(), widths, dim=axis), strict=True):
        summed[part] = summed[part] + columns if part in summed else columns
    return torch.cat(list(summed.values()), dim=axis)


def _shrink(draft: Draft, node: fx.Node, parts: list[fx.Node], *, whole: bool = False) -> None:
    """Give a concatenation fewer parts, of fewer channels unless they are the `whole` of them."""
    value = node.meta.get("val")
    node.args = (parts, 1)
    if isinstance(value, Tensor) and not whole:
        node.meta["val"] = value[:, : sum(_channels(part) for part in parts)]
    if len(parts) == 1:
        draft.replace(node, parts[0])


def _unlike(draft: Draft, first: fx.Node, second: fx.Node) -> str | None:
    """Say why two neighbours cannot be one convolution; empty where they are not two of one input."""
    one, other = read_convolution(draft, first), read_convolution(draft, second)
    if one is None or other is None or first.args[0] is not second.args[0] or first is second:
        return ""
    pair = f"{first.name} and {second.name}"
    if len(first.users) > 1 or len(second.users) > 1:
        return f"{pair}: one of them is read by others as well"
    if one.transposed or other.transposed or one.groups != 1 or other.groups != 1:
        return f"{pair}: transposed, or with groups"
    same = (
        one.kernel == other.kernel
        and one.stride == other.stride
        and one.dilation == other.dilation
        and one.padding == other.padding
        and one.padding is not None
    )
    return None if same else f"{pair}: kernel, stride, padding or dilation differ"


def _join(draft: Draft, first: fx.Node, second: fx.Node) -> None:
    one, other = read_convolution(draft, first), read_convolution(draft, second)
    assert one is not None
    assert other is not None
    bias = None
    if one.bias is not None or other.bias is not None:
        bias = torch.cat([_bias(one), _bias(other)])
    write_convolution(draft, first, torch.cat([one.weight.double(), other.weight.double()]), bias)
    value = first.meta.get("val")
    if isinstance(value, Tensor):
        channels = one.channels_out + other.channels_out
        first.meta["val"] = value.new_empty((value.shape[0], channels, *value.shape[2:]))


def _bias(convolution: Convolution) -> Tensor:
    if convolution.bias is None:
        return convolution.weight.new_zeros(convolution.channels_out, dtype=torch.float64)
    return convolution.bias.double()
