"""How do seconds of a search step grow with the work: with skips, with states, with the image?

A host made for it: up to eight skips of one size between two columns of convolutions. Each series changes one
thing; a straight line is fitted to it by least squares.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST = 8
WIDTH = 16


@dataclass(frozen=True, slots=True)
class Work:
    """What a step has to do.

    Attributes:
        skips: with cells on them.
        states: of a cell.
        side: of the image, in pixels.
    """

    skips: int = 2
    states: int = 4
    side: int = 64


SERIES: Mapping[str, tuple[Work, ...]] = {
    "skips": tuple(Work(skips=number) for number in (1, 2, 4, 8)),
    "states": tuple(Work(states=number) for number in (2, 4, 6)),
    "pixels": tuple(Work(side=side) for side in (32, 64, 96, 128)),
}


class Rungs(nn.Module):
    """A host with eight concatenated skips of one size."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, WIDTH, 1)
        self.down = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(MOST))
        self.bottom = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.up = nn.ModuleList(nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1) for _ in range(MOST))
        self.leave = nn.Conv2d(WIDTH, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images `(N, 3, H, W)` to logits `(N, 1, H, W)`."""
        x = self.enter(x)
        kept = []
        for layer in self.down:
            x = layer(x).relu()
            kept.append(x)
        x = F.interpolate(self.bottom(F.max_pool2d(x, 2)).relu(), scale_factor=2.0)
        for layer in self.up:
            x = layer(torch.cat((x, kept.pop()), dim=1)).relu()
        out: Tensor = self.leave(x)
        return out


def amount(name: str, work: Work) -> int:
    """Return what a series changes: for states their edges, which are what is computed."""
    if name == "pixels":
        return work.side**2
    return work.skips if name == "skips" else sum(range(1, work.states + 1))


def measured_series(
    make_step: Callable[[Work], Callable[[], Any]], rounds: int, wait: Callable[[], None], warm_up: int
) -> dict[str, Any]:
    """Time the steps of every series in turn, and fit a line to each.

    Args:
        make_step: builds everything for an amount of work.
        rounds: of which the fastest counts.
        wait: until everything that was launched is done.
        warm_up: rounds before that.
    """
    works = set(itertools.chain.from_iterable(SERIES.values()))
    steps = {work: make_step(work) for work in sorted(works, key=lambda w: (w.skips, w.states, w.side))}
    spent = {
        work: [_seconds(step, wait) for _ in range(warm_up + rounds)][warm_up:]
        for work, step in steps.items()
    }
    return {
        name: fitted([amount(name, work) for work in series], [min(spent[work]) for work in series])
        for name, series in SERIES.items()
    }


def _seconds(step: Callable[[], Any], wait: Callable[[], None]) -> float:
    begin = time.perf_counter()
    step()
    wait()
    return time.perf_counter() - begin


def fitted(amounts: list[int], seconds: list[float]) -> dict[str, Any]:
    """Fit `seconds = start + slope * amount`; `explained` is the share of the variance.

    >>> line = fitted([1, 2, 4], [3.0, 5.0, 9.0])
    >>> round(line["slope"], 6), round(line["start"], 6), round(line["explained"], 6)
    (2.0, 1.0, 1.0)
    """
    slope, start = np.polyfit(amounts, seconds, 1)
    left = np.asarray(seconds) - (start + slope * np.asarray(amounts))
    return {
        "amounts": amounts,
        "seconds": [round(value, 4) for value in seconds],
        "slope": float(slope),
        "start": float(start),
        "explained": float(1 - left.var() / np.var(seconds)),
    }
