"""Copies of networks that have been run: what a forward has left on its modules belongs to a graph."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch import Tensor, nn

from surgeon.errors import HostError

Network = TypeVar("Network", bound=nn.Module)


def copied(network: Network, shared: Iterable[Tensor] = ()) -> Network:
    """Copy a network.

    Args:
        network: stays as it is.
        shared: tensors that the copy holds too, instead of copies of them.

    Raises:
        HostError: a module of the network cannot be copied.
    """
    memory: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    try:
        with _activations_detached():
            return copy.deepcopy(network, memory)
    except Exception as problem:
        raise HostError(
            f"the network cannot be copied: {type(problem).__name__}: {str(problem)[:200]}",
            where=type(network).__name__,
            fix="remove what holds files, locks or generators from its modules, or hand in a .pt2 of it",
        ) from problem


@contextlib.contextmanager
def _activations_detached() -> Iterator[None]:
    """Let tensors be copied that a graph holds (kept by hooks, say): torch refuses it."""
    native: Any = Tensor.__deepcopy__

    def deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
        if tensor.is_leaf or id(tensor) in memo:
            found: Tensor = native(tensor, memo)
            return found
        detached: Tensor = memo.setdefault(id(tensor), tensor.detach())
        return detached

    Tensor.__deepcopy__ = deepcopy  # type: ignore[method-assign]
    try:
        yield
    finally:
        Tensor.__deepcopy__ = native  # type: ignore[method-assign]
