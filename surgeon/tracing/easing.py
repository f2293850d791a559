"""What torch.export is spared while it traces a host."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

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
    with muted_export(), _data_is_traced(), _plain_tensors(), complaints_skipped(), folded_sizes(), counting:
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


def _as_it_is(tensor: Any, kind: type) -> Any:
    del kind
    return tensor
