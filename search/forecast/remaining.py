"""What is left of an operation while it runs, and how well its time was estimated when it has ended."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from surgeon.rendering import format_seconds

from ..training.loop import Position, Progress, ProgressCallback
from .schedule import CELL, HOST, SEARCH, Chapter, Pace, Training

_TRUST = 0.02
"""Share of the estimate that has to be behind a run before its own pace corrects what is left."""


class Forecast:
    """The estimate of an operation, held against what comes of it.

    Args:
        chapters: everything that there may be to do.
        paces: of every kind of network.
        timing: seconds that finding them took.
    """

    def __init__(self, chapters: Iterable[Chapter], paces: Mapping[str, Pace], timing: float = 0.0) -> None:
        self.chapters, self.paces, self.timing = tuple(chapters), dict(paces), timing
        self._left = {one.name: one.seconds(paces) for one in self.chapters}
        self._open = dict.fromkeys(self._left, True)
        self._at: dict[str, dict[str, float]] = {name: {} for name in self._left}
        self._began = time.perf_counter()
        self._before: float | None = None  # estimated seconds behind it when it was first heard of

    @property
    def seconds(self) -> float:
        """The seconds of the whole operation, at most."""
        return sum(one.seconds(self.paces) for one in self.chapters)

    def correct(self, kind: str, pace: Pace) -> None:
        """Take another pace for a kind of network, before the start."""
        self.paces[kind] = pace
        self._left = {one.name: one.seconds(self.paces) for one in self.chapters}

    def telling(self, progress: ProgressCallback | None) -> ProgressCallback | None:
        """Return a callback that adds what is left of the operation to every event, and passes it on."""
        if progress is None:
            return None
        return lambda event: progress(replace(event, remaining=self.remaining(event)))

    def remaining(self, event: Progress) -> float:
        """Return the seconds that are left at most, after an event.

        The paces are corrected by how long what is done has taken.
        """
        chapter = next((one for one in self.chapters if one.holds(event.phase)), None)
        if chapter is not None:
            self._close_before(chapter)
            training = _training(chapter, event.phase)
            epochs = min(event.epochs, event.epoch + event.step / max(event.steps, 1))
            self._at[chapter.name][event.phase] = training.seconds(self.paces[training.kind], epochs)
        left = sum(self._in_chapter(one) for one in self.chapters if self._open[one.name])
        return left * self._correction()

    def _in_chapter(self, chapter: Chapter) -> float:
        return max(0.0, self._left[chapter.name] - sum(self._at[chapter.name].values()))

    def _close_before(self, chapter: Chapter) -> None:
        """Count nothing any more of the chapters that this one ends.

        The last round may come before a search, if nothing gains at first: it ends what has begun alone.
        """
        for one in self.chapters:
            if one is chapter:
                return
            if chapter.name != "last" or self._at[one.name]:
                self._open[one.name] = False

    def _correction(self) -> float:
        """Return by how much what was done took longer than estimated."""
        behind = sum(sum(at.values()) for at in self._at.values())
        if self._before is None:
            self._before = behind
        done = behind - self._before
        if done < _TRUST * self.seconds:
            return 1.0
        return (time.perf_counter() - self._began) / done


def _training(chapter: Chapter, phase: str) -> Training:
    """Return the training that a phase of a chapter was planned as."""
    name = phase.split("-")[1] if "-" in phase else phase
    named = [one for one in chapter.trainings if one.kind == name]
    return (named or chapter.trainings)[0]


def described(forecast: Forecast) -> str:
    """Say how long an operation will take, before it starts."""
    parts = [(one.words, one.seconds(forecast.paces)) for one in forecast.chapters]
    listed = ", ".join(f"{words} {format_seconds(seconds)}" for words, seconds in parts if seconds >= 0.1)
    return f"estimated time: at most {format_seconds(forecast.seconds)} ({listed})"


def reported(forecast: Forecast, done: Mapping[str, Position], chosen: str, took: float) -> dict[str, Any]:
    """Return the estimate beside what came of it, as plain JSON.

    Args:
        forecast: as it was before the start.
        done: the phases that there were, by name.
        chosen: name of the entrant that was trained in full; empty for what a search found.
        took: seconds of the whole operation.

    Returns:
        the seconds at most; those at the same paces of the epochs that there were; and those it took.
    """
    ran = _of_what_ran(forecast, done, chosen)
    return {
        "at_most_seconds": round(forecast.seconds, 3),
        "of_what_ran_seconds": round(ran, 3),
        "took_seconds": round(took, 3),
        "estimate_over_actual": round(ran / took, 3) if took else None,
        "timing_seconds": round(forecast.timing, 3),
        "chapters": {one.name: round(one.seconds(forecast.paces), 3) for one in forecast.chapters},
        "paces": {kind: asdict(pace) for kind, pace in forecast.paces.items()},
    }


def _of_what_ran(forecast: Forecast, done: Mapping[str, Position], chosen: str) -> float:
    """Return the time, at the paces that were found, of what there was to do in the end."""
    total = 0.0
    for chapter in forecast.chapters:
        phases = [name for name in done if chapter.holds(name)]
        for name in phases:
            planned = _training(chapter, name)
            pace = _pace(forecast.paces, chosen if name == "retrain" else name)
            total += replace(planned, epochs=done[name].epoch).seconds(pace)
        if phases or not chapter.trainings:
            kinds = {CELL: chosen}
            scorings = [(one, kinds.get(one.kind, one.kind)) for one in chapter.scorings]
            total += sum(one.seconds(_pace(forecast.paces, kind)) for one, kind in scorings)
    return total


def _pace(paces: Mapping[str, Pace], phase: str) -> Pace:
    """Return the pace of what a phase trains: `try-adapter-1`, `rate-sep5`, `search`, or an entrant."""
    words = phase.split("-")
    name = words[1] if words[0] in {"try", "rate", "compare"} else words[0]
    if name == "nothing":
        return paces[HOST]
    return paces.get(name) or paces.get(CELL) or paces[SEARCH]
