"""Copies of networks that have been run: what a forward has left on its modules belongs to a graph."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from surgeon.errors import HostError

Network = TypeVar("Network", bound=nn.Module)


def copied(network: Network, shared: Iterable[Tensor] = ()) -> Network:
    """Copy a network.

    Attributes of its modules that cannot be copied (locks, files, dictionaries that answer every name with
    an item) are shared where no tensor and no module hangs on them.

    Args:
        network: stays as it is.
        shared: tensors that the copy holds too, instead of copies of them.

    Raises:
        HostError: a module of the network cannot be copied.
    """
    memory: dict[int, Any] = {id(tensor): tensor for tensor in shared}
    with _activations_detached():
        with contextlib.suppress(Exception):
            return copy.deepcopy(network, dict(memory))
        return _copied_but_for(network, memory | _uncopyable(network, memory))


def _copied_but_for(network: Network, memory: dict[int, Any]) -> Network:
    try:
        return copy.deepcopy(network, memory)
    except Exception as problem:
        raise HostError(
            f"the network cannot be copied: {type(problem).__name__}: {str(problem)[:200]}",
            where=type(network).__name__,
            fix="remove what holds files, locks or generators from its modules, or hand in a .pt2 of it",
        ) from problem


def _uncopyable(network: nn.Module, memory: dict[int, Any]) -> dict[int, Any]:
    """Find attributes of modules that cannot be copied and hold nothing of the network, by their identity."""
    found = {}
    for module in network.modules():
        for name, value in vars(module).items():
            if name == "_modules":
                continue
            try:
                copy.deepcopy(value, dict(memory))
            except Exception:  # noqa: BLE001 - a value may refuse in any way
                if not _holds_tensors(value, set()):
                    found[id(value)] = value
    return found


def _holds_tensors(value: object, seen: set[int]) -> bool:
    """Tell whether a tensor or a module is within reach of a value."""
    if id(value) in seen:
        return False
    seen.add(id(value))
    if isinstance(value, Tensor | nn.Module):
        return True
    inside = list(getattr(value, "__dict__", {}).values())
    if isinstance(value, Mapping):
        inside += value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        inside += value
    return any(_holds_tensors(each, seen) for each in inside)


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
