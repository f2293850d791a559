"""Everything that an operation may have to do, chapter by chapter, and the time of it at known paces."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean

from ..cells import CellSpec
from ..config import Config
from ..decision.contest import first_epochs, last_epochs, most_kept
from ..decision.panel import Panel
from ..decision.perturbation import BATCHES, TRIED
from ..decision.trials import RATES
from ..entrants import EDGES_KEPT, plain_entrants, wider_entrants
from ..genotype import Scope
from ..planning import Plan
from ..step.supply import Supply
from ..training.bilevel import first_moving_epoch

SEARCH, HOST, CELL = "search", "host", "cell"
"""Kinds of networks beside the entrants of the short list, which are kinds of their own by name.

What a search will find is not known yet: `cell` is the mean of random ones.
"""


@dataclass(frozen=True, slots=True)
class Pace:
    """The seconds that a kind of network takes on this machine.

    Attributes:
        start: to build it, before its first step.
        step: a step of its training; of the search, with a step of the architecture.
        resting: a step of the search while the architecture rests.
        measure: what is done for every measuring, however many cases there are (norms, validation loss).
        case: to score one case.
    """

    start: float = 0.0
    step: float = 0.0
    resting: float = 0.0
    measure: float = 0.0
    case: float = 0.0


def mean_pace(paces: Iterable[Pace]) -> Pace:
    """Return the mean of paces, part by part."""
    rows = list(paces)
    return Pace(*(fmean(getattr(row, name) for row in rows) for name in Pace.__slots__))


@dataclass(frozen=True, slots=True)
class Training:
    """A training as it is planned.

    Attributes:
        kind: of the network.
        epochs: of it.
        steps: in an epoch.
        cases: scored after every epoch.
        resting: of the epochs, the first in which the architecture rests.
        before: measurings before the first epoch.
        judged: cases that are scored at the end.
    """

    kind: str
    epochs: int
    steps: int
    cases: int
    resting: int = 0
    before: int = 1
    judged: int = 0

    def seconds(self, pace: Pace, epochs: float | None = None) -> float:
        """Return how long it takes; with `epochs`, how long it takes to come so far."""
        done = self.epochs if epochs is None else epochs
        resting = min(done, self.resting)
        steps = self.steps * (resting * pace.resting + (done - resting) * pace.step)
        measuring = (self.before + done) * (pace.measure + self.cases * pace.case)
        return pace.start + steps + measuring + (self.judged * pace.case if done >= self.epochs else 0.0)


@dataclass(frozen=True, slots=True)
class Scoring:
    """Cases that are scored beside the trainings.

    Attributes:
        kind: of the network.
        cases: scored each time.
        times: how often.
        share: of what a measuring does beside the cases.
    """

    kind: str
    cases: int
    times: int = 1
    share: float = 0.0

    def seconds(self, pace: Pace) -> float:
        """Return how long it takes."""
        return self.times * (self.share * pace.measure + self.cases * pace.case)


@dataclass(frozen=True, slots=True)
class Chapter:
    """A part of an operation.

    Attributes:
        name: in files.
        words: for people.
        phases: a regular expression of the names of its phases.
        trainings: the most that there may be.
        scorings: what is scored beside them.
    """

    name: str
    words: str
    phases: str
    trainings: tuple[Training, ...] = ()
    scorings: tuple[Scoring, ...] = ()

    def holds(self, phase: str) -> bool:
        """Tell whether a phase is of this chapter."""
        return bool(self.phases) and re.fullmatch(self.phases, phase) is not None

    @property
    def works(self) -> tuple[Training | Scoring, ...]:
        """All that takes time."""
        return (*self.trainings, *self.scorings)

    def seconds(self, paces: Mapping[str, Pace]) -> float:
        """Return how long it takes at most."""
        return sum(one.seconds(paces[one.kind]) for one in self.works)


def kinds_in(chapters: Iterable[Chapter]) -> set[str]:
    """Return the kinds of networks whose paces have to be known."""
    return {one.kind for chapter in chapters for one in chapter.works}


def plan_chapters(plan: Plan, supply: Supply, panel: Panel) -> tuple[Chapter, ...]:
    """Return everything that an operation may have to do, in order.

    Args:
        plan: of the operation.
        supply: of its trainings in full.
        panel: who trains and judges the short list.
    """
    return tuple(_Schedule(plan, supply, panel).chapters())


class _Schedule:
    def __init__(self, plan: Plan, supply: Supply, panel: Panel) -> None:
        self._plan, self._config, self._supply, self._panel = plan, plan.config, supply, panel
        self._cases = len(supply.cohort.cases)
        self._plain = [one.name for one in plain_entrants(plan.specs, self._config)]
        self._wider = [one.name for one in wider_entrants(plan.specs, self._config)]
        self._full = Training(CELL, self._config.retrain_epochs, supply.training.steps, self._cases)

    def chapters(self) -> Iterator[Chapter]:
        config = self._config
        if config.finalists:
            yield self._trying()
        yield self._searching()
        if config.finalists:
            yield from self._comparing_found()
        yield Chapter("retrain", "training what is chosen", "retrain", (self._full,), self._doubts())
        if config.baselines:
            trainings = tuple(replace(self._full, kind=name) for name in config.baselines)
            yield Chapter("baselines", "baselines", "|".join(config.baselines), trainings)
        rows = self._compared() if config.compare else []
        if rows:
            trainings = tuple(one for kind in rows for one in (*self._trials(kind, RATES), self._with(kind)))
            yield Chapter("compare", "comparison", "compare-.*", trainings)
        tested = (HOST, CELL, *config.baselines, *rows)
        cases = len(self._plan.test.cases)
        yield Chapter("test", "test subjects", "", (), tuple(Scoring(kind, cases) for kind in tested))

    def _trying(self) -> Chapter:
        names = "|".join((*self._plain, *self._wider))
        tuned = tuple(one for kind in self._plain for one in self._trials(kind, RATES))
        trainings = (*tuned, *(one for _ in self._wider for one in self._trials(CELL, ("",))))
        judged = sum(len(one.cohort.cases) for one in self._panel.supplies)
        phases = rf"try-({names})(-fitted)?-1.*"
        return Chapter("plain", "what needs no search", phases, trainings, (Scoring(HOST, judged),))

    def _searching(self) -> Chapter:
        config = self._config
        cases = len(self._supply.glance(config.search_cases).cohort.cases)
        resting = min(first_moving_epoch(config), config.epochs)
        search = Training(SEARCH, config.epochs, self._supply.training.steps, cases, resting, before=0)
        scorings: tuple[Scoring, ...] = ()
        if config.finalists and config.selection != "weight":
            # A measuring runs networks for the norms and one loss; here there are more losses.
            norms = min(config.norm_batches, self._supply.training.steps)
            share = (norms + min(BATCHES, len(self._supply.validation))) / (norms + 1)
            scorings = (Scoring(SEARCH, cases, _absences(self._plan.specs, config), share),)
        return Chapter("search", "search", "search", (search,), scorings)

    def _comparing_found(self) -> Iterator[Chapter]:
        config = self._config
        found = 1 + (config.selection != "weight")
        randoms = [f"random{number}" for number in range(1, config.random_cells + 1)]
        kinds = [*[CELL] * found, *(name if name in timed_cells(config) else CELL for name in randoms)]
        trainings = tuple(one for kind in kinds for one in self._trials(kind, ("",)))
        yield Chapter(
            "found", "what was found", r"try-(searched|perturbed|random\d+)(-fitted)?-1.*", trainings
        )
        entrants = len(self._plain) + len(self._wider) + len(kinds)
        last = self._trials(CELL, ("",), last=True) * (most_kept(entrants) + 1 + len(self._wider))
        yield Chapter("last", "last round", r"try-.*-2(-fold\d+)?", tuple(last))
        yield Chapter("rate", "learning rate", "rate-.*", tuple(self._trials(CELL, RATES)))

    def _trials(self, kind: str, rates: Iterable[str], *, last: bool = False) -> list[Training]:
        """Return the brief trainings of an entrant: one for each rate and fold."""
        count = last_epochs if last else first_epochs
        epochs = count(self._config, self._supply.training.steps)
        folds = [(one.training.steps, len(one.cohort.cases)) for one in self._panel.supplies]
        return [Training(kind, epochs, steps, cases, judged=cases) for _ in rates for steps, cases in folds]

    def _with(self, kind: str) -> Training:
        return replace(self._full, kind=kind)

    def _doubts(self) -> tuple[Scoring, ...]:
        """Return what is scored after the training in full: the cells that may not be missed."""
        if not self._config.finalists:
            return ()
        splits = self._plan.splits
        every = len(self._plan.cohort.select((*splits.train, *splits.validation)).cases)
        worth = self._cases if self._supply.choosing else every
        skips = len(self._plan.specs)
        return (Scoring(HOST, self._cases), Scoring(CELL, self._cases), Scoring(CELL, worth, skips))

    def _compared(self) -> list[str]:
        searched = [CELL] * 2 if self._config.finalists else []
        cells = [*searched, *[CELL] * self._config.compare_cells]
        return ["norms", "adapter", self._plain[-1], *cells, "gate", "decoder", "full"]


def timed_cells(config: Config) -> tuple[str, ...]:
    """Return the names of the random cells that are timed, as a sample of what a search may find."""
    return tuple(f"random{number}" for number in range(1, min(2, max(1, config.random_cells)) + 1))


def _absences(specs: Mapping[str, CellSpec], config: Config) -> int:
    """Count the measurings of a selection by perturbation."""
    spec = next(iter(specs.values()))
    operations = min(TRIED, sum(name != "none" for name in spec.operations))
    fans = [len(incoming) for incoming in spec.incoming]
    of_cell = len(spec.edges) * operations + sum(fan for fan in fans if fan > EDGES_KEPT)
    return of_cell * (1 if config.genotype is Scope.SHARED else len(specs))
