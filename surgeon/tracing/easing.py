"""What torch.export is spared while it traces a host."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._prims_common import is_contiguous_or_false, make_contiguous_strides_for
from torch.utils._sympy.reference import PythonReferenceAnalysis

from .folding import folded_sizes
from .guiding import muted_export
from .raising import complaints_skipped
from .wholes import sizes_kept_free


@contextlib.contextmanager
def eased(host: nn.Module, *, free: bool, marked: bool = False) -> Iterator[None]:
    """Let torch.export trace what networks do, and keep what it prints to itself.

    Args:
        host: the network to be traced.
        free: whether sizes are free; they are kept free then (`sizes_kept_free`).
        marked: as `FreeForms` has it.
    """
    counting = sizes_kept_free(host, marked=marked) if free else contextlib.nullcontext()
    torchs_own = (muted_export(), _data_is_traced(), _plain_tensors(), quotients_are_checked())
    with contextlib.ExitStack() as eases:
        for ease in (
            *torchs_own,
            _views_are_short(),
            _sizes_are_keys(),
            complaints_skipped(),
            folded_sizes(),
            counting,
        ):
            eases.enter_context(ease)
        yield


@contextlib.contextmanager
def _data_is_traced() -> Iterator[None]:
    """Let tracers see `tensor.data`, which older residual networks read: it is `detach()` to them."""
    native: Any = torch._C.TensorBase.data
    # The property of the base class is native and leaves no trace; one on the subclass stands before it.
    Tensor.data = property(Tensor.detach, native.__set__)  # type: ignore[assignment]
    try:
        yield
    finally:
        del Tensor.data


@contextlib.contextmanager
def _plain_tensors() -> Iterator[None]:
    """Leave a tensor as it is where a host takes it for one of a subclass, as fastai's do at their end.

    What tracers compute with are subclasses themselves, and cannot be made others. A subclass that does more
    than carry remarks is found out when the graph is replayed.
    """
    own = vars(Tensor).get("as_subclass")  # where a library has put one before torch's
    Tensor.as_subclass = _as_it_is  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        if own is None:
            del Tensor.as_subclass
        else:
            Tensor.as_subclass = own  # type: ignore[method-assign]


@contextlib.contextmanager
def _views_are_short() -> Iterator[None]:
    """Let torch.export make a view of what is contiguous at once: it goes axis by axis, and asks at each.

    Where windows are cut out, it divides sizes that were divided before, and takes minutes. That both shapes
    hold as many values has been checked by then.
    """
    native = torch._refs._reshape_view_helper_core_alg

    def view(tensor: Tensor, shape: tuple[Any, ...], allow_copy: bool) -> Any:
        if not is_contiguous_or_false(tensor):
            return native(tensor, shape, allow_copy)
        return torch.as_strided(tensor, shape, make_contiguous_strides_for(shape))

    torch._refs._reshape_view_helper_core_alg = view  # type: ignore[assignment]
    try:
        yield
    finally:
        torch._refs._reshape_view_helper_core_alg = native


@contextlib.contextmanager
def _sizes_are_keys() -> Iterator[None]:
    """Let networks keep what they make for a size under that size, in a dictionary or an `lru_cache`.

    What stands for a size has no hash, so that such sizes were fixed. Each gets one of its own here: what was
    kept for a number is not found, and what is made for the free size is kept for it alone.
    """
    native = torch.SymInt.__hash__

    def by_identity(size: torch.SymInt) -> int:
        return native(size) if size.node.is_nested_int() else id(size)

    torch.SymInt.__hash__ = by_identity  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.SymInt.__hash__ = native  # type: ignore[method-assign]


@contextlib.contextmanager
def quotients_are_checked() -> Iterator[None]:
    """Let torch.export write what it checks of sizes that were divided, `floor((h - k) / s) + 1 == h`.

    It writes such checks as nodes, and has no way to write a quotient of whole numbers, or a rounded one.
    """
    native = {name: vars(PythonReferenceAnalysis).get(name) for name in _ROUNDED}
    for name, way in _ROUNDED.items():
        setattr(PythonReferenceAnalysis, name, staticmethod(way))
    try:
        yield
    finally:
        for name, own in native.items():
            if own is None:
                delattr(PythonReferenceAnalysis, name)
            else:
                setattr(PythonReferenceAnalysis, name, own)


def _noted(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Return a function of Python's own that becomes a node where it is called with what stands for one."""

    def way(number: Any, *_: Any) -> Any:
        if isinstance(number, fx.Proxy):
            kind = type(number)
            return kind.__torch_function__(function, (kind,), (number,))
        return function(number)

    return way


_ROUNDED: dict[str, Callable[..., Any]] = {
    "int_truediv": operator.truediv,
    "floor_to_int": _noted(math.floor),
    "ceil_to_int": _noted(math.ceil),
    "trunc_to_int": _noted(math.trunc),
    "round_to_int": _noted(round),
}


def _as_it_is(tensor: Any, kind: type) -> Any:
    del kind
    return tensor
