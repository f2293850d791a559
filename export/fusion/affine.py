"""Nodes that compute `scale * x + shift` with one constant for each channel."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .draft import Draft, arguments_of

aten = torch.ops.aten

_NATIVE = aten._native_batch_norm_legit_no_training.default
_COMPOSITE = aten.batch_norm.default
_MULTIPLY = {aten.mul.Tensor, aten.mul.Scalar}
_DIVIDE = {aten.div.Tensor, aten.div.Scalar}
_ADD = {aten.add.Tensor, aten.add.Scalar}
_SUBTRACT = {aten.sub.Tensor, aten.sub.Scalar}
_SUBTRACT_FROM = {aten.rsub.Tensor, aten.rsub.Scalar}


@dataclass(frozen=True, slots=True)
class Affine:
    """`scale * x + shift` for each channel of `(N, C, *spatial)`.

    Attributes:
        scale: `(C,)` in float64.
        shift: `(C,)` in float64.
    """

    scale: Tensor
    shift: Tensor


def read_batchnorm(draft: Draft, node: fx.Node) -> tuple[fx.Node, Affine] | None:
    """Read a batch normalisation in evaluation mode.

    Args:
        draft: the graph.
        node: the node that carries the normalised tensor.

    Returns:
        the node it normalises and the numbers, or None for any other node.
    """
    norm = node
    if node.target is operator.getitem and node.args[1] == 0 and isinstance(node.args[0], fx.Node):
        norm = node.args[0]
    if norm.target is not (_NATIVE if norm is not node else _COMPOSITE):
        return None
    found = arguments_of(norm)
    mean, variance = draft.constant(found["running_mean"]), draft.constant(found["running_var"])
    if mean is None or variance is None or found.get("training", False):
        return None
    scale = (variance.double() + float(found["eps"])).rsqrt()
    shift = -mean.double() * scale
    for name, is_scale in (("weight", True), ("bias", False)):
        if found[name] is None:
            continue
        value = draft.constant(found[name])
        if value is None:
            return None
        scale, shift = (
            (scale * value.double(), shift * value.double()) if is_scale else (scale, shift + value.double())
        )
    return found["input"], Affine(scale, shift)


def read_scale(draft: Draft, node: fx.Node, channels: int, rank: int) -> tuple[fx.Node, Affine] | None:
    """Read a multiplication, division, addition or subtraction with a constant for each channel.

    Args:
        draft: the graph.
        node: the node that carries the result.
        channels: channels of the tensor that is scaled.
        rank: rank of that tensor, batch and channels included.
    """
    if node.op != "call_function" or len(node.args) < 2:
        return None
    tensor, constant, is_left = _split(draft, node)
    if tensor is None:
        return None
    values = _per_channel(constant, channels, rank)
    if values is None:
        return None
    alpha = float(arguments_of(node).get("alpha", 1))
    ones, zeros = torch.ones_like(values), torch.zeros_like(values)
    if node.target in _MULTIPLY:
        return tensor, Affine(values, zeros)
    if (
        node.target in _DIVIDE
        and is_left
        and bool((values != 0).all())
        and "rounding_mode" not in node.kwargs
    ):
        return tensor, Affine(1 / values, zeros)
    if node.target in _ADD:
        return tensor, Affine(ones, values * alpha) if is_left else Affine(ones * alpha, values)
    if node.target in _SUBTRACT:
        return tensor, Affine(ones, -values * alpha) if is_left else Affine(-ones * alpha, values)
    if node.target in _SUBTRACT_FROM and is_left:
        return tensor, Affine(-ones * alpha, values)
    return None


def _split(draft: Draft, node: fx.Node) -> tuple[fx.Node | None, Any, bool]:
    """Tell the tensor from the constant, and say whether the tensor is the left operand."""
    left, right = node.args[0], node.args[1]
    for tensor, other, is_left in ((left, right, True), (right, left, False)):
        constant = other if isinstance(other, int | float) else draft.constant(other)
        if constant is not None and isinstance(tensor, fx.Node) and draft.constant(tensor) is None:
            return tensor, constant, is_left
    return None, None, True


def _per_channel(constant: float | Tensor, channels: int, rank: int) -> Tensor | None:
    if isinstance(constant, int | float):
        return torch.full((channels,), float(constant), dtype=torch.float64)
    if not constant.is_floating_point() or constant.ndim > rank:
        return None
    if constant.numel() == 1:
        return constant.double().reshape(1).expand(channels).clone()
    shape = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if shape != (1, channels) + (1,) * (rank - 2):
        return None
    return constant.double().flatten()
