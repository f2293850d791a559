"""Hosts that keep what they made for the size they saw last, and make it anew for another one.

A tracer sees the size that it traces compared with the one that was kept. Where they are equal, the host
hands on what it kept, and the graph is fixed to that size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from .inputs import grown, with_batch
from .replay import run
from .trace import Example
from .ways import private_copy

Memory = dict[tuple[str, str], Any]  # by module and name of the attribute


def memory_of(host: nn.Module) -> Memory:
    """Return what the modules of a host hold, its parameters and submodules aside."""
    return {(path, name): value for path, module in host.named_modules() for name, value in _held(module)}


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield from module._buffers.items()
    for name, value in vars(module).items():
        if name not in _OF_TORCH:
            yield name, value


_OF_TORCH = frozenset(vars(nn.Module()))


def has_changed(host: nn.Module, before: Memory) -> bool:
    """Tell whether running a host has set an attribute to something else than it was."""
    now = memory_of(host)
    return now.keys() != before.keys() or any(not _is_same(now[key], before[key]) for key in now)


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (_is_plain(one) and _is_plain(other) and one == other)


def _is_plain(value: Any) -> bool:
    """Tell whether a value can be compared as it is, which a tuple of tensors cannot."""
    if isinstance(value, tuple):
        return all(_is_plain(part) for part in value)
    return isinstance(value, int | float | str)


def as_attributes(host: nn.Module, before: Memory) -> None:
    """Make plain attributes, in place, of buffers that a run replaced by ones of another shape.

    torch.export copies what is assigned to a buffer into the buffer at hand, and shapes must agree there.
    """
    for path, module in host.named_modules():
        for name, buffer in list(module._buffers.items()):
            kept = before.get((path, name))
            if isinstance(buffer, Tensor) and isinstance(kept, Tensor) and buffer.shape != kept.shape:
                del module._buffers[name]
                setattr(module, name, buffer)


def run_elsewhere(host: nn.Module, example: Example) -> nn.Module | None:
    """Copy a host that remembers its last run, and run the copy on inputs that nothing traces with.

    None where it remembers nothing, or takes no such inputs.
    """
    twin = private_copy(host)
    before = memory_of(twin)
    for _, larger in grown(example):
        for other in (with_batch(larger, 1), larger):
            try:
                run(twin, other)
            except Exception:  # noqa: BLE001 - a host may refuse a size in any way
                continue
            if not has_changed(twin, before):
                return None
            as_attributes(twin, before)
            return twin
    return None
