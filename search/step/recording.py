"""Passes recorded once on a GPU and replayed: one launch (a CUDA graph) for what took thousands.

A search step is many small operations; on a GPU it is launching them that takes the time. A recording does
the same operations on the same places in memory, so it holds for one form of a pass: the shapes of what goes
in, what of the cells is open, what is trained. Passes of a new form run twice as they are; the third is
recorded, compared with the same pass run as it is, and kept where it gives the same in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from surgeon.tracing import first_line

from .bill import Clock, Shares

Results = tuple[Tensor | None, ...]
Pass = Callable[[Sequence[Tensor]], Results]

USUAL = 2
"""Passes of one form that run as they are first: libraries choose their algorithms meanwhile."""
_MOST = 4
"""Recordings that are kept; passes of further shapes run as they are."""
_GAIN = 0.95
"""A replay has to take less than this share of the pass."""
_ROUNDING = 1e-2
"""Largest difference, over the length of all that a pass gives, that counts as rounding.

Atomic additions come in any order, and half types carry that on; a wrong recording is off by its own length.
"""


class Recorded(Protocol):
    """A pass that can be replayed."""

    def __call__(self, given: Sequence[Tensor]) -> Results:
        """Put values in, replay, and return what is overwritten by the next replay."""


Capture = Callable[[Pass, Sequence[Tensor]], Recorded]


@dataclass(slots=True)
class Ledger:
    """What the passes of a run were recorded as, for whoever wants to know.

    Attributes:
        capture: records a pass.
        always: whether a recording is used where it spares no time.
        recorded: number of recordings that are used.
        usual: seconds of the passes that these stand for, each run once as it is.
        replayed: and replayed.
        refused: why others were not recorded, each reason once.
        failed: whether a recording broke off; the device may not be fit for another one then.
    """

    capture: Capture
    always: bool = False
    recorded: int = 0
    usual: float = 0.0
    replayed: float = 0.0
    refused: list[str] = field(default_factory=list)
    failed: bool = False

    def refuse(self, reason: str) -> None:
        """Remember why a pass is not recorded."""
        if reason not in self.refused:
            self.refused.append(reason)

    @property
    def sentence(self) -> str:
        """What was recorded, and why not."""
        if self.recorded:
            usual, replayed = (seconds / self.recorded for seconds in (self.usual, self.replayed))
            return f"CUDA graphs on: a pass takes {usual:.3g} s as it is, {replayed:.3g} s replayed"
        return f"CUDA graphs off: {'; '.join(self.refused) or 'no pass came often enough'}"


class Recorder:
    """Runs the passes of one descent, and replays those of a form that it has recorded.

    Args:
        network: the host with its implants: what they remember of a pass (running statistics) is part of it.
        ledger: shared by the recorders of a run.
        clock: told of what the time goes to; of a replay, in the shares of the pass that was recorded.
    """

    def __init__(self, network: nn.Module, ledger: Ledger, clock: Clock) -> None:
        self._network, self._ledger, self._clock = network, ledger, clock
        self._cells = [module for module in network.modules() if hasattr(module, "form")]
        self._form: Hashable = None
        self._kept: dict[Hashable, tuple[Recorded, Shares] | None] = {}
        self._seen: dict[Hashable, int] = {}

    def run(self, work: Pass, given: Sequence[Tensor], form: Hashable) -> Results:
        """Return what a pass gives; it holds until the next pass.

        Args:
            work: does the pass on what goes in, and gives tensors.
            given: goes in.
            form: what a recording depends on beside the shapes of `given` and the form of the cells.
        """
        key = self._key(given, form)
        if key not in self._kept:
            if self._ledger.failed or self._settling(key) or len(self._kept) >= _MOST:
                return work(given)
            self._kept[key], results = self._record(work, given)
            return results
        kept = self._kept[key]
        if kept is None:
            return work(given)
        recorded, shares = kept
        self._clock.enter_shared(shares)
        return recorded(given)

    def _key(self, given: Sequence[Tensor], form: Hashable) -> Hashable:
        """Return the form of a pass; where the cells have changed theirs, what was recorded is let go."""
        cells = tuple((cell.training, cell.form()) for cell in self._cells)  # type: ignore[operator]
        if cells != self._form:
            self._form = cells
            self._kept.clear()
            self._seen.clear()
        return (form, self._network.training, *((x.shape, x.dtype, x.stride()) for x in given))

    def _settling(self, key: Hashable) -> bool:
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] <= USUAL

    def _record(self, work: Pass, given: Sequence[Tensor]) -> tuple[tuple[Recorded, Shares] | None, Results]:
        """Run a pass as it is, record it and replay it; return the recording if it is right and pays."""
        state = list(self._network.buffers())
        before = [buffer.clone() for buffer in state]
        with self._clock.sharing() as shares:
            usual, slow = _timed(work, given)
        usual = tuple(x if x is None else x.clone() for x in usual)
        after = [buffer.clone() for buffer in state]
        try:
            with self._clock.muted():
                recorded = self._ledger.capture(work, given)
                for _ in range(2):  # the first replay brings the recording to the device
                    _put(before, state)
                    replayed, fast = _timed(recorded, given)
            reason = _difference(usual, replayed) or _difference(after, state)
        except Exception as error:  # noqa: BLE001 - nothing depends on it: the pass has been run
            reason, self._ledger.failed = first_line(_cause(error)), True
        if not reason and fast > _GAIN * slow and not self._ledger.always:
            reason = f"a pass takes {slow:.3g} s as it is, {fast:.3g} s replayed"
        if reason:
            _put(after, state)
            self._ledger.refuse(reason)
            return None, usual
        self._ledger.recorded += 1
        self._ledger.usual += slow
        self._ledger.replayed += fast
        return (recorded, dict(shares)), replayed


def _cause(error: BaseException) -> BaseException:
    """Return what came first: ending a recording that broke off raises once more."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _put(values: Sequence[Tensor], places: Sequence[Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def _timed(work: Callable[[Sequence[Tensor]], Results], given: Sequence[Tensor]) -> tuple[Results, float]:
    """Return what a pass gives, and its seconds."""
    _wait(given)
    begin = time.perf_counter()
    results = work(given)
    _wait(given)
    return results, time.perf_counter() - begin


def _wait(given: Sequence[Tensor]) -> None:
    if given[0].device.type == "cuda":
        torch.cuda.synchronize(given[0].device)


def _difference(usual: Sequence[Tensor | None], replayed: Sequence[Tensor | None]) -> str:
    """Say how two passes differ; empty where it is rounding."""
    there = [(a, b) for a, b in zip(usual, replayed, strict=True) if a is not None and b is not None]
    one, two = (torch.cat([pair[side].double().flatten() for pair in there]) for side in (0, 1))
    apart, length = float(torch.linalg.vector_norm(one - two)), float(torch.linalg.vector_norm(one))
    # Not turned round: what is no number is never within a bound.
    within = apart <= _ROUNDING * length
    return "" if within else f"the replay of a pass is off by {apart:.1e} of {length:.1e}"


class CudaGraph:
    """A pass recorded on a GPU.

    Args:
        pool: memory that recordings share which never run at once.
        stream: that it is recorded on.
        work: the pass.
        given: an example of what goes in, on the GPU.
    """

    def __init__(self, pool: Any, stream: Any, work: Pass, given: Sequence[Tensor]) -> None:
        self._given = [x.clone() for x in given]
        self._graph = torch.cuda.CUDAGraph()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            stream
        ):  # libraries make themselves at home on a stream when they first see it
            work(self._given)
        torch.cuda.current_stream().wait_stream(stream)
        # The loader's thread goes on meanwhile, so what other threads do is not forbidden.
        with torch.cuda.graph(self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            self._results = work(self._given)

    def __call__(self, given: Sequence[Tensor]) -> Results:
        """Replay on other values."""
        for place, value in zip(self._given, given, strict=True):
            place.copy_(value, non_blocking=True)
        self._graph.replay()
        return self._results


def cuda_ledger(*, always: bool) -> Ledger:
    """Return a ledger whose recordings are CUDA graphs with memory in common."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    pool = torch.cuda.graph_pool_handle()
    return Ledger(lambda work, given: CudaGraph(pool, stream, work, given), always)
