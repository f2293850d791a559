"""Attention as one operation, where its scores are so many that a CPU waits for memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .calls import Call, caller
from .draft import Draft, arguments_of, shape_of
from .report import PassReport
from .sizes import size_hint

aten = torch.ops.aten

ATTENTION_OPSET = 23
"""The first operator set of ONNX with `Attention`."""

# Scores of one head. With fewer, as in windows of 7x7, they stay in the cache from one operation to the next.
_FEWEST_SCORES = 2**14
_ATTENTION = aten.scaled_dot_product_attention.default
_VIEWS = {aten.view.default, aten.reshape.default, aten._unsafe_view.default}
_TRANSPOSED = {(-2, -1), (-1, -2), (2, 3), (3, 2)}


def join_attention(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Write `softmax(q k^T + bias) v` as one operation.

    A bias of relative positions, or the mask of shifted windows, is otherwise a pass over all scores that
    waits for memory alone; onnxruntime's `Attention` adds it while it multiplies. Scores `(N W, H, L, S)` of
    W windows that get their masks as `(N, W, H, L, S)` are attention of W H heads: bias and mask are summed
    once for all N.
    """
    draft = Draft(source, "join_attention")
    for node in list(draft.graph.nodes):
        found = _read(node)
        if found is None:
            continue
        reason = _refusal(found)
        if reason:
            draft.reject(node, reason)
            continue
        draft.note(f"{node.name}: {found.scores.name} with {found.told}")
        draft.replace(node, _written(caller(draft, node), found))
    return draft.finish()


def needs_attention(graph: fx.Graph) -> bool:
    """Say whether a graph has attention that is worth the operator set that knows it."""
    found = (arguments_of(node) for node in graph.nodes if node.target is _ATTENTION)
    return any(
        each["attn_mask"] is not None and _scores_of_a_head(each["query"], each["key"]) >= _FEWEST_SCORES
        for each in found
    )


@dataclass(frozen=True, slots=True)
class _Attention:
    """`softmax(scores + bias [+ mask]) value`, with `scores = query turned`.

    Attributes:
        product: the last product.
        scores: the first, `(B, H, L, S)`.
        query: `(B, H, L, E)`.
        turned: `(B, H, E, S)`.
        value: `(B, H, S, E)`.
        bias: `(1 or B, 1 or H, L, S)`.
        mask: `(1, W, 1 or H, L, S)` where B is a batch of W windows each.
    """

    product: fx.Node
    scores: fx.Node
    query: fx.Node
    turned: fx.Node
    value: fx.Node
    bias: fx.Node
    mask: fx.Node | None

    @property
    def told(self) -> str:
        """Return what is added to the scores, in words."""
        return self.bias.name if self.mask is None else f"{self.bias.name} and {self.mask.name}"


def _read(node: fx.Node) -> _Attention | None:
    """Read attention backwards from its last product; None where it is none, or nothing is added to it."""
    if node.target is not aten.matmul.default:
        return None
    weights, value = node.args
    if not _is_softmax(weights):
        return None
    unmasked = _unmasked(weights.args[0])  # type: ignore[union-attr]
    added = None if unmasked is None else _sum(unmasked[0])
    if unmasked is None or added is None:
        return None
    scores, bias = added
    if not _is_read_once(scores) or scores.target is not aten.matmul.default:
        return None
    query, turned = scores.args
    return _Attention(node, scores, query, turned, value, bias, unmasked[1])  # type: ignore[arg-type]


def _unmasked(scores: Any) -> tuple[Any, fx.Node | None] | None:
    """Return scores before each window's mask was added, and the masks; None where a view is another's."""
    if not _is_view(scores):
        return scores, None
    added = _sum(scores.args[0])
    if added is None or not _is_view(added[0]):
        return None
    apart, mask = added
    inner = apart.args[0]
    return (inner, mask) if _have_same_heads(scores, apart, inner) else None


def _is_view(node: Any) -> bool:
    return _is_read_once(node) and node.target in _VIEWS


def _have_same_heads(*nodes: Any) -> bool:
    """Say whether views of scores differ in their batch alone, not in heads and positions."""
    shapes = [shape_of(node) for node in nodes]
    return None not in shapes and len({shape[-3:] for shape in shapes}) == 1  # type: ignore[index]


def _is_softmax(node: Any) -> bool:
    """Say whether a node is a softmax over the last axis that nothing else reads."""
    if not _is_read_once(node) or node.target is not aten.softmax.int:
        return False
    found, shape = arguments_of(node), shape_of(node)
    return shape is not None and found["dim"] in (-1, len(shape) - 1) and found["dtype"] is None


def _sum(node: Any) -> tuple[fx.Node, fx.Node] | None:
    """Read a sum of two tensors that nothing else reads: what was computed first, what is added."""
    if not _is_read_once(node) or node.target is not aten.add.Tensor or node.kwargs:
        return None
    left, right = node.args
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node):
        return None
    # Scores are as large as the sum; what is added may be broadcast.
    return (left, right) if shape_of(left) == shape_of(node) else (right, left)


def _is_read_once(node: Any) -> bool:
    return isinstance(node, fx.Node) and len(node.users) == 1


def _refusal(found: _Attention) -> str:
    """Return why attention stays as it is; empty when it is to be rewritten."""
    query, turned, value, bias = (
        shape_of(node) for node in (found.query, found.turned, found.value, found.bias)
    )
    if query is None or turned is None or value is None or bias is None:
        return "its shapes are not known"
    if {len(query), len(turned), len(value), len(bias)} != {4}:
        return "it is not of tensors (batch, heads, positions, channels)"
    if not query[:2] == turned[:2] == value[:2]:
        return "its heads are broadcast"
    if _scores_of_a_head(found.query, found.value) < _FEWEST_SCORES:
        return "too few scores for one operation to be faster"
    return "" if found.mask is None else _refusal_of_mask(found.mask, bias, heads=query[1])


def _refusal_of_mask(mask: fx.Node, bias: tuple[str, ...], heads: str) -> str:
    shape = shape_of(mask)
    if shape is None or len(shape) != 5 or shape[0] != "1" or shape[2] not in ("1", heads):
        return "its mask is not (1, windows, heads, positions, positions)"
    # Sizes that are not 1 and can be added are equal, however the tracer writes them.
    if bias[:2] != ("1", heads) or bias[2:] != shape[3:] or "1" in bias[2:]:
        return "its bias and its mask are broadcast"
    return ""


def _scores_of_a_head(query: Any, key: Any) -> int:
    """Count the scores of one head; of tensors that a pass has written, there are enough."""
    values = [node.meta.get("val") for node in (query, key)]
    if not all(isinstance(value, Tensor) for value in values):
        return _FEWEST_SCORES
    return size_hint(values[0].shape[-2]) * size_hint(values[1].shape[-2])  # type: ignore[union-attr]


def _written(call: Call, found: _Attention) -> fx.Node:
    """Insert the one operation; return what takes the place of the last product."""
    key = _turned_back(call, found.turned)
    operands, bias = (found.query, key, found.value), found.bias
    if found.mask is None:
        whole = _attend(call, operands, bias)
    else:
        added = call(aten.add.Tensor, found.mask, found.bias)
        bias = call(aten.flatten.using_ints, added, 1, 2)
        heads = call(aten.sym_size.int, bias, 1)
        joined = tuple(_with_heads(call, each, -1, heads) for each in operands)
        batch, heads = (call(aten.sym_size.int, found.query, axis) for axis in (0, 1))
        whole = _with_heads(call, _attend(call, joined, bias), batch, heads)
    whole.meta = dict(found.product.meta)
    return whole


def _attend(call: Call, operands: tuple[fx.Node, ...], bias: fx.Node) -> fx.Node:
    """Insert attention that scales nothing: whatever scales the scores is in the query already."""
    whole = call(_ATTENTION, *operands, bias)
    whole.kwargs = {"scale": 1.0}
    return whole


def _turned_back(call: Call, turned: fx.Node) -> fx.Node:
    """Return `(B, H, S, E)` of `(B, H, E, S)`: what was transposed, where it was."""
    if turned.target is aten.transpose.int and tuple(turned.args[1:]) in _TRANSPOSED:
        return turned.args[0]  # type: ignore[return-value]
    return call(aten.transpose.int, turned, -2, -1)


def _with_heads(call: Call, x: fx.Node, batch: Any, heads: Any) -> fx.Node:
    """Insert `(B, H, L, E)` as the same values with another batch and other heads."""
    rest = [call(aten.sym_size.int, x, axis) for axis in (2, 3)]
    return call(aten.reshape.default, x, [batch, heads, *rest])
