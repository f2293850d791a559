"""What an operation takes of the machine: where the time of its trainings goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgeon.splicing import SplicedNetwork


class Part(StrEnum):
    """What time is spent on: waiting for batches, the host, its implants, steps, scoring between epochs."""

    DATA = "data"
    HOST = "host"
    CELLS = "cells"
    OPTIMISER = "optimiser"
    MEASURING = "measuring"


Shares = Mapping[Part, float]


class Clock:
    """Counts the seconds of each part of the work; one part is under way at a time.

    Args:
        device: on a GPU the marks are events of its stream: nothing waits for them before `take`.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device if device is not None and device.type == "cuda" else None
        self._marks: list[tuple[Part | Shares | None, Any]] = []
        self._mute = False

    def rest(self) -> None:
        """End the part that is under way; what follows is not counted."""
        self.enter(None)

    def enter(self, part: Part | None) -> None:
        """Begin a part; the one before it ends."""
        if not self._mute and (not self._marks or self._marks[-1][0] is not part):
            self._marks.append((part, self._now()))

    def enter_shared(self, shares: Shares) -> None:
        """Begin what cannot be told apart: each part gets its share of the time."""
        self._marks.append((shares, self._now()))

    @contextlib.contextmanager
    def sharing(self) -> Iterator[dict[Part, float]]:
        """Give the shares of the parts in the time inside the block, once that has ended."""
        shares: dict[Part, float] = {}
        first = len(self._marks)
        yield shares
        spent = self._spent(self._marks[first:])
        total = sum(spent.values()) or 1.0
        shares.update({part: seconds / total for part, seconds in spent.items()})

    @contextlib.contextmanager
    def muted(self) -> Iterator[None]:
        """Hear of no part inside the block."""
        self._mute = True
        try:
            yield
        finally:
            self._mute = False

    def take(self) -> dict[str, float]:
        """Return the seconds of each part since the last time, and begin anew with no part under way."""
        spent = self._spent(self._marks)
        self._marks.clear()
        return {part.value: seconds for part, seconds in spent.items()}

    def _spent(self, marks: Sequence[tuple[Part | Shares | None, Any]]) -> dict[Part, float]:
        """Return the seconds of each part from the first of some marks until now."""
        if not marks:
            return {}
        ends = [mark for _, mark in marks[1:]] + [self._now()]
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        spent: dict[Part, float] = {}
        for (part, start), end in zip(marks, ends, strict=True):
            shares = part if isinstance(part, Mapping) else {} if part is None else {part: 1.0}
            for one, share in shares.items():
                spent[one] = spent.get(one, 0.0) + share * _between(start, end)
        return spent

    def _now(self) -> Any:
        if self._device is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event


def _between(start: Any, end: Any) -> float:
    return float(end - start if isinstance(start, float) else start.elapsed_time(end) / 1000)


class Watch:
    """Tells a clock when a network goes from its host to an implant and back, forward and backward.

    A backward pass takes the operations in the reverse of their order forward. So it comes to an implant when
    it comes to its output, and back to the host at what the host computed last before the implant: there a
    call is put into the graph, which changes nothing of what is computed.

    Args:
        network: the host with its implants.
        second: half of the network, which gets the calls; without it, what follows an implant backward counts
            as the implant's.
        clock: that is told.
    """

    def __init__(self, network: SplicedNetwork, second: fx.GraphModule | None, clock: Clock) -> None:
        self._cells = list(network.get_submodule("implants").children())
        self._clock = clock
        self._watching = False
        if second is not None:
            self._put_calls(second)

    def _put_calls(self, second: fx.GraphModule) -> None:
        places = {place for place in map(_last_before, _implants(second)) if place is not None}
        for place in places:
            with second.graph.inserting_after(place):
                second.graph.call_function(self._leave_host, (place,))
        second.recompile()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward passes inside the block, and the backward passes that follow them."""
        hooks = [cell.register_forward_pre_hook(self._enter_cell) for cell in self._cells]
        hooks += [cell.register_forward_hook(self._leave_cell) for cell in self._cells]
        self._watching = True
        self._clock.enter(Part.HOST)
        try:
            yield
        finally:
            self._watching = False
            for hook in hooks:
                hook.remove()

    def _enter_cell(self, *_: Any) -> None:
        self._clock.enter(Part.CELLS)

    def _leave_cell(self, _cell: nn.Module, _given: Any, output: Any) -> None:
        self._clock.enter(Part.HOST)
        self._mark(output, Part.CELLS)

    def _leave_host(self, x: Tensor) -> None:
        if self._watching:
            self._mark(x, Part.HOST)

    def _mark(self, x: Any, part: Part) -> None:
        """Enter a part when the backward pass comes to what computed a tensor."""
        if isinstance(x, Tensor) and x.requires_grad:
            x.register_hook(lambda _: self._clock.enter(part))  # type: ignore[no-untyped-call]


def _implants(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if str(node.target).startswith("implants.")]


def _last_before(implant: fx.Node) -> fx.Node | None:
    """Return what the host computes last before an implant; None where another implant comes first."""
    node = implant.prev
    while node.op not in {"root", "placeholder"} and not str(node.target).startswith("implants."):
        if node.op in {"call_function", "call_module", "call_method"} and "shape" in node.meta:
            return node
        node = node.prev
    return None
