"""Convolutions of an ATen graph, 1-D to 3-D, plain and transposed, read and written in one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from .draft import Draft, arguments_of

aten = torch.ops.aten

_PLAIN = {
    getattr(getattr(aten, name), form)
    for name in ("conv1d", "conv2d", "conv3d")
    for form in ("default", "padding")
}
_TRANSPOSED = {aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input}
_GENERAL = aten.convolution.default


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution.

    Attributes:
        weight: `(out, in / groups, *kernel)`; transposed `(in, out / groups, *kernel)`.
        bias: `(out,)` or None.
        stride: for each spatial dimension.
        padding: for each spatial dimension; None when the two sides differ.
        dilation: for each spatial dimension.
        groups: number of groups.
        transposed: whether it is a transposed convolution.
    """

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...] | None
    dilation: tuple[int, ...]
    groups: int
    transposed: bool

    @property
    def kernel(self) -> tuple[int, ...]:
        """Return the size of the kernel."""
        return tuple(self.weight.shape[2:])

    @property
    def channels_out(self) -> int:
        """Return the number of channels it makes."""
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def channels_in(self) -> int:
        """Return the number of channels it reads."""
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def is_unpadded(self) -> bool:
        """Say whether every output sees the input alone, no border."""
        return self.padding is not None and not any(self.padding)

    def with_output_affine(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias of `scale * conv(x) + shift`, `scale` and `shift` of shape `(out,)`."""
        weight = self.weight.double()
        if self.transposed:
            grouped = weight.reshape(self.groups, -1, *weight.shape[1:])  # (g, in/g, out/g, *kernel)
            wide = scale.reshape(self.groups, 1, -1, *[1] * len(self.kernel))
            weight = (grouped * wide).flatten(0, 1)
        else:
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
        bias = torch.zeros_like(shift) if self.bias is None else self.bias.double()
        return weight, bias * scale + shift

    def with_input_affine(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return weight and bias of `conv(scale * x + shift)` away from borders; shapes `(in,)`."""
        spatial = [1] * len(self.kernel)
        weight = self.weight.double()
        bias = self.bias.double() if self.bias is not None else weight.new_zeros(self.channels_out)
        if self.transposed:
            return weight * scale.reshape(-1, 1, *spatial), bias
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])  # (g, out/g, in/g, *kernel)
        added = (grouped * shift.reshape(self.groups, 1, -1, *spatial)).flatten(2).sum(2).flatten()
        return (grouped * scale.reshape(self.groups, 1, -1, *spatial)).flatten(0, 1), bias + added


def read_convolution(draft: Draft, node: Any) -> Convolution | None:
    """Read a convolution with constant weights; None for any other node."""
    if not isinstance(node, fx.Node) or node.op != "call_function":
        return None
    if node.target not in _PLAIN and node.target not in _TRANSPOSED and node.target is not _GENERAL:
        return None
    found = arguments_of(node)
    weight, bias = draft.constant(found["weight"]), draft.constant(found["bias"])
    if weight is None or (found["bias"] is not None and bias is None):
        return None
    rank = weight.ndim - 2
    transposed = node.target in _TRANSPOSED or bool(found.get("transposed", False))
    dilation = _spread(found["dilation"], rank)
    padding = _read_padding(found["padding"], tuple(weight.shape[2:]), dilation)
    return Convolution(
        weight, bias, _spread(found["stride"], rank), padding, dilation, int(found["groups"]), transposed
    )


def write_convolution(draft: Draft, node: fx.Node, weight: Tensor, bias: Tensor | None) -> None:
    """Give a convolution node a new weight and bias, in the type of the old weight."""
    old = draft.constant(node.args[1])
    name = str(node.args[1].target) if isinstance(node.args[1], fx.Node) else node.name
    dtype = old.dtype if old is not None else weight.dtype
    arguments = [*node.args, None] if len(node.args) == 2 else [*node.args]
    arguments[1] = draft.add_constant(name, weight.to(dtype), node)
    if bias is not None:
        stem = name.removesuffix("_fused").removesuffix("weight")
        arguments[2] = draft.add_constant(f"{stem}bias", bias.to(dtype), node)
    node.args = tuple(arguments)
    node.kwargs = {key: value for key, value in node.kwargs.items() if key != "bias"}


def _spread(value: Any, rank: int) -> tuple[int, ...]:
    values = [value] if isinstance(value, int) else list(value)
    return tuple(int(item) for item in (values * rank if len(values) == 1 else values))


def _read_padding(value: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...] | None:
    if value == "valid":
        return (0,) * len(kernel)
    if value != "same":
        return _spread(value, len(kernel))
    both = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    return tuple(size // 2 for size in both) if all(size % 2 == 0 for size in both) else None
