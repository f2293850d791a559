"""How long a call takes, measured beside others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call takes.

    Attributes:
        p50: median, in milliseconds.
        p99: 99th percentile, in milliseconds; the slowest run when there are fewer than a hundred.
        runs: how many calls were timed.
    """

    p50: float
    p99: float
    runs: int

    def to_dict(self) -> dict[str, float | int]:
        """Return plain JSON."""
        return asdict(self)


def measure_latency(
    calls: Sequence[Callable[[], object]], *, runs: int = 30, seconds: float = 6.0, warmup: int = 3
) -> list[Latency]:
    """Time several calls in turn, so that what else the machine does falls on all of them alike.

    Args:
        calls: what to time.
        runs: how often each, at most.
        seconds: when to stop, after at least three runs of each.
        warmup: untimed calls of each first.
    """
    for call in calls:
        for _ in range(warmup):
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while len(times[0]) < runs and (len(times[0]) < 3 or time.perf_counter() < end):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [
        Latency(
            round(float(np.percentile(taken, 50)), 4),
            round(float(np.percentile(taken, 99, method="higher")), 4),
            len(taken),
        )
        for taken in times
    ]
