"""Floating-point operations of a graph, counted from the shapes that it computes with."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from .operations import OPERATIONS

aten = torch.ops.aten

# For each value that is read, or of the output where it says so: statistics and normalising; the
# largest value, its distance, an exponential, a sum and a quotient.
_PER_INPUT = {
    aten.native_group_norm.default: 7,
    aten.native_layer_norm.default: 7,
    aten._softmax.default: 5,
    aten._log_softmax.default: 5,
    aten.var.correction: 4,
    aten.std.correction: 4,
}
_PER_OUTPUT = {aten.batch_norm.default: 2, aten.native_batch_norm.default: 2, aten._prelu_kernel.default: 2}
_ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default
_POOLS = {
    getattr(aten, name).default
    for name in ("avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices")
}
_COPIES = {aten.clone.default, aten._to_copy.default}
# What is counted by what it does: within an operation of our own, a convolution arrives whole.
_OPENED = {each.target: each.compute for each in OPERATIONS} | {
    aten.conv2d.default: aten.conv2d.default.decompose
}
# An axis of a linear upsampling: two products and a sum for each value.
_PER_AXIS = 3


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count what is computed while it is active; a multiplication and an addition are two.

    Convolutions and matrix products count all taps, those in padding too, and their bias. Pointwise
    operations count one for each value, whatever the function; copies and views count nothing.

    Attributes:
        total: operations so far.

    Example:
        >>> with FlopCounter() as counter:
        ...     _ = torch.nn.functional.conv1d(torch.ones(1, 2, 8), torch.ones(3, 2, 5), padding=2).relu()
        >>> counter.total == 2 * (8 * 3) * (2 * 5) + 8 * 3
        True
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        if func in _OPENED:
            with self:
                return _OPENED[func](*args, **kwargs)
        out = func(*args, **kwargs)
        self.total += _operations(func, args, kwargs, out)
        return out


def _operations(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> int:
    first = out[0] if isinstance(out, tuple | list) and out else out
    if not isinstance(first, Tensor) or not args:
        return 0
    made = first.numel()
    read = int(args[0].numel()) if isinstance(args[0], Tensor) else 0
    if func is _ATTENTION:
        query, key, value = args[:3]
        scores: int = math.prod(query.shape[:-1]) * int(key.shape[-2])
        each = 2 * int(query.shape[-1] + value.shape[-1]) + _PER_INPUT[aten._softmax.default]
        return scores * (each + (kwargs.get("attn_mask") is not None))
    if func._overloadpacket in flop_registry:
        products = int(flop_registry[func._overloadpacket](*args, **kwargs, out_val=out))
        biased = func is aten.convolution.default and args[2] is not None
        return products + (made if biased or func is aten.addmm.default else 0)
    if func in _PER_INPUT:
        return _PER_INPUT[func] * read
    if func in _PER_OUTPUT:
        return _PER_OUTPUT[func] * made
    if func in _POOLS:
        kernel: list[int] = args[1] if len(args[1]) > 1 else list(args[1]) * (first.ndim - 2)
        return math.prod(kernel) * made
    if "linear" in func._opname and func._opname.startswith("upsample"):
        return _PER_AXIS * (first.ndim - 2) * made
    if torch.Tag.pointwise in func.tags and func not in _COPIES:
        return made if first.is_floating_point() else 0
    return read if torch.Tag.reduction in func.tags else 0
