"""A search, as it happens: bars, Dice and the operations that lead."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgeon.rendering import format_seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from surgeon.search import Progress

_LEADERS = 6  # edges shown at once
_PHASES = {"search": "searching", "retrain": "training the cells"}
_ROUND = re.compile(r"(-\d+)?(-slower|-faster)?(-fold\d+)?$")
_SERIES = {"try": "trying", "compare": "comparing with"}


@contextlib.contextmanager
def watching(console: Console) -> Iterator[Callable[[Progress], None]]:
    """Show a run on a console: live on a terminal, one line an epoch elsewhere.

    Yields:
        what to call at every step.
    """
    if not console.is_terminal:
        yield lambda event: _print_epoch(console, event)
        return
    from rich.live import Live

    board = Board()
    with Live(board, console=console, refresh_per_second=4, transient=False):
        yield board.show


def _print_epoch(console: Console, event: Progress) -> None:
    if event.row is None:
        return
    leaders = ", ".join(f"{edge} {operation}" for edge, operation, _ in find_leaders(event.row)[:2])
    left = _left(event.remaining)
    console.print(
        f"{_words(event.phase)}: epoch {event.epoch} of {event.epochs},"
        f" loss {event.train_loss:.4f}, validation Dice {_dice(event.validation_dice)}"
        + (f", leading: {leaders}" if leaders else "")
        + (f"; {left}" if left else ""),
        highlight=False,
    )


def _left(seconds: float | None) -> str:
    """Say what is left of the whole operation; empty where that is not known."""
    return "" if seconds is None else f"at most {format_seconds(seconds)} left in all"


def find_leaders(row: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """Return, for each edge of the first cell, the operation with the largest weight; the surest edge first.

    Args:
        row: a line of the history.
    """
    cells = row.get("alphas") or {}
    if not cells:
        return []
    edges: Mapping[str, Mapping[str, float]] = next(iter(cells.values()))
    found = [(edge, *max(weights.items(), key=lambda item: item[1])) for edge, weights in edges.items()]
    return sorted(found, key=lambda leader: leader[2], reverse=True)


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


@dataclass(slots=True)
class Board:
    """What the live display shows; drawn anew from the last event.

    Attributes:
        events: the last event of each row: a phase, or a series of phases.
        row: the last line of the history that holds architecture weights.
        started: when the phase of each row began, and the share that was done by then (a resumed run).
        latest: when each row was last heard of.
        remaining: seconds that are left of the whole operation, at most, where that is known.
    """

    events: dict[str, Progress] = field(default_factory=dict)
    row: Mapping[str, Any] | None = None
    started: dict[str, tuple[float, float]] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    remaining: float | None = None

    def show(self, event: Progress) -> None:
        """Take over an event."""
        self.remaining = event.remaining
        done, now, row = _share(event), time.monotonic(), _series(event.phase)
        if row not in self.events or self.events[row].phase != event.phase:
            self.started[row] = (now, done)
        self.events[row] = event
        self.latest[row] = now
        if event.row is not None and event.row.get("alphas"):
            self.row = event.row

    def __rich__(self) -> RenderableType:
        from rich.console import Group

        parts: list[RenderableType] = [self._bars()]
        left = _left(self.remaining)
        if left:
            parts.append(left)
        if self.row is not None:
            parts.append(_leader_table(self.row))
        return Group(*parts)

    def _bars(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        for phase, event in self.events.items():
            share = _share(event)
            grid.add_row(
                _words(event.phase),
                ProgressBar(total=1.0, completed=share, width=28),
                f"epoch {min(event.epoch + 1, event.epochs)}/{event.epochs}",
                f"loss {event.train_loss:.3f}",
                f"Dice {_dice(event.validation_dice)}",
                self._remaining(phase, share),
            )
        return grid

    def _remaining(self, phase: str, share: float) -> str:
        since, before = self.started[phase]
        spent, done = self.latest[phase] - since, share - before
        if share >= 1:
            return f"done in {format_seconds(spent)}"
        return f"{format_seconds(spent / done * (1 - share))} left" if done > 0 else ""


def _series(phase: str) -> str:
    """Return the row of the display that a phase is shown in: finalists share one, and so do baselines."""
    first = phase.partition("-")[0]
    return first if first in _SERIES else phase


def _words(phase: str) -> str:
    first, _, rest = phase.partition("-")
    if first in _SERIES:
        return f"{_SERIES[first]} {_ROUND.sub('', rest)}"
    return _PHASES.get(phase, phase)


def _share(event: Progress) -> float:
    return (event.epoch + event.step / max(event.steps, 1)) / max(event.epochs, 1)


def _leader_table(row: Mapping[str, Any]) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    for edge, operation, weight in find_leaders(row)[:_LEADERS]:
        grid.add_row(
            edge,
            f"[bold]{operation}[/bold]",
            ProgressBar(total=1.0, completed=weight, width=20),
            f"{weight:.3f}",
        )
    return grid
