"""Calls that take turns, by the clock on the wall and by the processor's."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

ADDED = "added over added by plain"
WARM_UP, LEAST = 2, 5

Rounds = Mapping[str, Sequence[float]]
"""Milliseconds of each call, round by round."""


@dataclass(frozen=True, slots=True)
class Times:
    """What calls took.

    Attributes:
        wall: as a user waits.
        processor: that the process computed, on all threads; another process does not count into it.
    """

    wall: dict[str, list[float]] = field(default_factory=dict)
    processor: dict[str, list[float]] = field(default_factory=dict)


def timed(calls: Mapping[str, Callable[[], Any]], runs: int, seconds: float) -> Times:
    """Time all calls in turn.

    Args:
        calls: what to time, by name.
        runs: rounds at most.
        seconds: when to stop, after some rounds at least.
    """
    times = Times({name: [] for name in calls}, {name: [] for name in calls})
    rounds = 0
    with torch.inference_mode():
        for call in calls.values():
            for _ in range(WARM_UP):
                call()
        end = time.perf_counter() + seconds
        while rounds < runs and (rounds < LEAST or time.perf_counter() < end):
            rounds += 1
            for name, call in calls.items():
                start, spent = time.perf_counter(), time.process_time()
                call()
                times.processor[name].append(round(1000 * (time.process_time() - spent), 3))
                times.wall[name].append(round(1000 * (time.perf_counter() - start), 3))
    return times


def medians(times: Rounds) -> dict[str, float]:
    """Return the median milliseconds of each call."""
    return {name: round(statistics.median(taken), 3) for name, taken in times.items()}


def ratios(files: Rounds, torch_calls: Rounds, beside_host: str = "ours") -> dict[str, float]:
    """Return what the targets are about: medians over rounds, since a machine's speed drifts between them.

    Args:
        files: `ours`, `plain`, `host plain`, and other exports.
        torch_calls: `ours` once more, `eager`, and `torch.compile` where that was run.
        beside_host: which export of ours is right at no fewer and no more sizes than `host plain`.
    """
    rivals = [name for name in ("plain", "onnxslim", "onnxsim") if name in files]
    best = min(rivals, key=lambda name: statistics.median(files[name]))
    over_other = _paired(files, "ours", best, operator.truediv)
    if "torch.compile" in torch_calls:
        over_other = max(over_other, _paired(torch_calls, "ours", "torch.compile", operator.truediv))
    found = {
        "over host's plain export": round(_paired(files, beside_host, "host plain", operator.truediv), 3),
        "over best other": round(over_other, 3),
        "over eager": round(_paired(torch_calls, "ours", "eager", operator.truediv), 3),
    }
    added, added_plain = (_paired(files, name, "host plain", operator.sub) for name in ("ours", "plain"))
    # Where the plain export's cells cost less than the noise there is nothing to divide by.
    return {ADDED: round(added / added_plain, 3), **found} if added_plain > 0 else found


def paired_ratio(times: Rounds, first: str, second: str) -> float:
    """Return what one call takes over another, the median over rounds."""
    return _paired(times, first, second, operator.truediv)


def _paired(times: Rounds, first: str, second: str, compared: Callable[[float, float], float]) -> float:
    return statistics.median(map(compared, times[first], times[second]))
