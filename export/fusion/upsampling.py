"""A convolution after an upsampling to nearest neighbours, computed on the few values there are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from .calls import caller
from .convolutions import Convolution, read_convolution
from .draft import Draft, arguments_of, shape_of
from .report import PassReport
from .sizes import is_multiple

aten = torch.ops.aten

_NEAREST = {
    aten.upsample_nearest1d.vec,
    aten.upsample_nearest2d.vec,
    aten.upsample_nearest3d.vec,
    aten.upsample_nearest1d.default,
    aten.upsample_nearest2d.default,
    aten.upsample_nearest3d.default,
}
_TRANSPOSED = {
    1: aten.conv_transpose1d.default,
    2: aten.conv_transpose2d.input,
    3: aten.conv_transpose3d.input,
}
_PLAIN = {1: aten.conv1d.default, 2: aten.conv2d.default, 3: aten.conv3d.default}
FACTOR = 2
# Measured with onnxruntime on a CPU: with fewer channels to make, a transposed convolution is not faster.
FEWEST_OUT = 32


def merge_upsampling(source: fx.GraphModule, *, step: int = 1) -> tuple[fx.GraphModule, PassReport]:
    """Write `conv(upsample(x))` as one transposed convolution, and take it out of a concatenation.

    A 3x3 kernel sees each value of an upsampled image twice or not at all: `k` taps on an image doubled in
    size are `k + 1` taps of a transposed convolution of stride 2, each the sum of two. Four products are
    done in place of nine for an image, eight in place of 27 for a volume. By linearity
    `conv(cat(upsample(x), y)) = conv_x(upsample(x)) + conv_y(y)`. Exact, borders included.

    Args:
        source: the graph.
        step: the sizes that the network takes differ from the example's by multiples of this; where sizes
            are free, an upsampling to the size of something else is a doubling only on some of them. It is
            made use of beside another part alone: at any other size the sum of the two is an error.
    """
    draft = Draft(source, "merge_upsampling")
    for node in list(draft.graph.nodes):
        convolution = read_convolution(draft, node)
        if convolution is None:
            continue
        parts = _parts(node.args[0])
        doubled = [part for part in parts if part.target in _NEAREST]
        if not doubled:
            continue
        guarded = len(doubled) < len(parts)
        reason = _refusal(convolution, parts) or _unfit(draft, node, doubled, step if guarded else 1)
        if reason:
            draft.reject(node, reason)
            continue
        _rewrite(draft, node, convolution, parts)
        draft.note(f"{', '.join(part.name for part in doubled)} into {node.name}")
    return draft.finish()


def with_step(step: int) -> Callable[[fx.GraphModule], tuple[fx.GraphModule, PassReport]]:
    """Return the pass for a network whose sizes differ by multiples of `step`."""
    return partial(merge_upsampling, step=step)


def _parts(operand: Any) -> list[fx.Node]:
    """List what a convolution reads: the parts of a concatenation of channels, or the one tensor."""
    if not isinstance(operand, fx.Node):
        return []
    if operand.target is aten.cat.default and arguments_of(operand)["dim"] == 1 and len(operand.users) == 1:
        return list(operand.args[0])  # type: ignore[arg-type]
    return [operand]


def _refusal(convolution: Convolution, parts: list[fx.Node]) -> str:
    """Return why a convolution stays as it is; empty when it can be a transposed one."""
    if convolution.transposed or convolution.groups != 1:
        return "it is transposed or has groups"
    if convolution.padding is None or {*convolution.stride, *convolution.dilation} != {1}:
        return "it is strided, dilated, or padded unevenly"
    pairs = zip(convolution.kernel, convolution.padding, strict=True)
    if any(size < 2 or size != 2 * side + 1 for size, side in pairs):
        return "it has one tap, or makes another size than it reads"
    if convolution.channels_out < FEWEST_OUT:
        return f"it makes fewer than {FEWEST_OUT} channels: no faster so"
    return "" if all(_channels(part) for part in parts) else "the channels of what it reads are not known"


def _unfit(draft: Draft, node: fx.Node, doubled: list[fx.Node], step: int) -> str:
    for part in doubled:
        before, after = part.args[0].meta.get("val"), part.meta.get("val")  # type: ignore[union-attr]
        if not isinstance(before, Tensor) or not isinstance(after, Tensor):
            return f"the sizes around {part.name} are not known"
        pairs = zip(after.shape[2:], before.shape[2:], strict=True)
        if not all(is_multiple(draft.graph, large, small, FACTOR, step) for large, small in pairs):
            return f"{part.name} before it does not always double the size"
        if any(reader is not node and reader not in node.all_input_nodes for reader in part.users):
            return f"{part.name} before it is read by others as well"
    return ""


def _channels(part: fx.Node) -> int:
    shape = shape_of(part)
    return int(shape[1]) if shape is not None and shape[1].isdigit() else 0


def _rewrite(draft: Draft, node: fx.Node, convolution: Convolution, parts: list[fx.Node]) -> None:
    """Put the sum of a transposed convolution for each doubled part and one for the rest in its place."""
    call, rank = caller(draft, node), len(convolution.kernel)
    padding: tuple[int, ...] = convolution.padding or ()
    ones, twos = [1] * rank, [FACTOR] * rank
    weights = torch.split(convolution.weight.double(), [_channels(part) for part in parts], dim=1)
    kept = [(p, w) for p, w in zip(parts, weights, strict=True) if p.target not in _NEAREST]
    bias = [convolution.bias]
    terms = []
    if kept:
        read = kept[0][0] if len(kept) == 1 else call(aten.cat.default, [part for part, _ in kept], 1)
        weight = _constant(draft, node, "kept", torch.cat([weight for _, weight in kept], dim=1))
        terms.append(call(_PLAIN[rank], read, weight, _bias(draft, node, bias), ones, list(padding), ones, 1))
    for part, columns in zip(parts, weights, strict=True):
        if part.target not in _NEAREST:
            continue
        made = _constant(draft, node, "doubled", doubled_weight(columns))
        sides = [size - 1 - side for size, side in zip(convolution.kernel, padding, strict=True)]
        operands = (part.args[0], made, _bias(draft, node, bias))
        terms.append(call(_TRANSPOSED[rank], *operands, twos, sides))
    total = terms[0]
    for term in terms[1:]:
        total = call(aten.add.Tensor, total, term)
    total.meta = dict(node.meta)
    draft.replace(node, total)


def doubled_weight(weight: Tensor) -> Tensor:
    """Turn the weight `(O, C, k...)` of a convolution into `(C, O, k + 1...)` of the transposed one."""
    turned = weight.transpose(0, 1).flip(list(range(2, weight.ndim)))
    for axis in range(2, weight.ndim):
        sides = [0, 0] * (weight.ndim - 1 - axis)
        turned = F.pad(turned, [*sides, 1, 0]) + F.pad(turned, [*sides, 0, 1])
    return turned


def _constant(draft: Draft, node: fx.Node, name: str, value: Tensor) -> fx.Node:
    old = draft.constant(node.args[1])
    return draft.add_constant(f"{node.name}_{name}", value.to(old), node)


def _bias(draft: Draft, node: fx.Node, left: list[Tensor | None]) -> fx.Node | None:
    """Give the bias to the first term that asks for it."""
    value = left.pop() if left else None
    return None if value is None else _constant(draft, node, "bias", value)
