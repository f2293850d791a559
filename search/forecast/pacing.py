"""The paces of an operation on this machine: a few steps of each kind, made on copies that are thrown away.

The copies begin as the operation's own networks do and see its own batches. Nothing of them stays: the
operation has its own networks, batches depend on the seed alone, and torch's generators get back their state.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from surgeon.modes import in_eval

from ..assembly import build_derived_cells
from ..config import Config
from ..entrants import nothing, plain_entrants, plain_genotype, random_entrants
from ..genotype import Form, Genotype
from ..planning import Plan
from ..randomness import seeded
from ..runs import RunFolder
from ..step.bill import Clock
from ..step.moving import Train
from ..step.recording import USUAL
from ..step.supply import Supply
from ..training.bilevel import SearchPhase, first_moving_epoch
from ..training.loop import Loop
from ..training.retraining import TrainingPhase
from ..training.stages import begin_search, begin_training
from .schedule import CELL, HOST, SEARCH, Chapter, Pace, kinds_in, mean_pace, timed_cells

_FILE = "checkpoints/paces.json"
_STEPS = 4
"""Steps that are timed, after those that warm up."""
_PATIENCE = 10.0
"""Seconds after which no further step is timed."""
_CASES = 2
"""Cases that every kind of network scores."""
_MORE_CASES = 16
"""Cases that the host scores, for the size of cases differs."""


def known_paces(plan: Plan, supply: Supply, loop: Loop, chapters: Collection[Chapter]) -> Mapping[str, Pace]:
    """Return the pace of every kind of network that is planned; a run that is resumed keeps its first ones.

    Raises:
        Stopped: the user stopped it.
    """
    folder, fleet = loop.folder, loop.fleet
    kept: dict[str, Any] | None = fleet.first(lambda: _read(folder))
    if kept is not None:
        return {kind: Pace(**row) for kind, row in kept.items()}
    measured = _measured(plan, supply, loop, kinds_in(chapters))
    paces = fleet.first(lambda: measured)
    if folder is not None and fleet.is_first:
        folder.write_json(_FILE, {kind: asdict(pace) for kind, pace in paces.items()})
    return paces


def _read(folder: RunFolder | None) -> dict[str, Any] | None:
    path = folder.path / _FILE if folder else None
    if path is None or not path.exists():
        return None
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _measured(plan: Plan, supply: Supply, loop: Loop, kinds: Collection[str]) -> dict[str, Pace]:
    timer = Timer(plan, supply, loop)
    cells = timed_cells(plan.config)
    wanted = sorted((set(kinds) - {CELL}) | set(cells if CELL in kinds else ()))
    paces = {kind: timer.pace(kind) for kind in wanted}
    if CELL in kinds:
        paces[CELL] = mean_pace(paces[name] for name in cells)
    return paces


class Timer:
    """Times kinds of networks on copies.

    Args:
        plan: of the operation.
        supply: of its trainings in full; their clock does not hear of it.
        loop: to stop by.
    """

    def __init__(self, plan: Plan, supply: Supply, loop: Loop) -> None:
        self._plan, self._loop = plan, loop
        self._supply = replace(supply, clock=Clock(plan.device))
        randoms = itertools.islice(random_entrants(plan.specs, plan.config), plan.config.random_cells or 1)
        entrants = (*plain_entrants(plan.specs, plan.config), *randoms)
        self._genotypes = {one.name: one.genotype for one in entrants}
        self._few = self._supply.glance(_CASES)
        self._usual: float | None = None

    def pace(self, kind: str) -> Pace:
        """Time a kind of network.

        Raises:
            Stopped: the user stopped it.
        """
        self._loop.check_stop()
        with seeded(self._plan.config.seed, f"pace of {kind}"):
            if kind == HOST:
                return replace(self._scoring(self._plan.host), measure=0.0)
            if kind == SEARCH:
                return self._of_search()
            return self._of_training(kind)

    def _of_search(self) -> Pace:
        start, (network, _, phase) = self._timed(lambda: begin_search(self._plan, self._supply))
        moving = first_moving_epoch(self._plan.config)
        resting = self._step(phase, 0) if moving else 0.0
        step = self._step(phase, moving) if moving < phase.epochs else resting
        return replace(self._scoring(network), start=start, step=step, resting=resting)

    def _of_training(self, kind: str) -> Pace:
        genotype, config = self._entry(kind)
        specs, seed, table = self._plan.specs, self._plan.config.seed, self._plan.table
        implants = build_derived_cells(specs, genotype, seed, table)
        start, (network, _, phase) = self._timed(
            lambda: begin_training(kind, self._plan, self._supply, implants, config)
        )
        return replace(self._scoring(network), start=start, step=self._step(phase, 0))

    def _entry(self, kind: str) -> tuple[Genotype, Config]:
        """Return what is put onto the skips, and the settings of its training."""
        config = self._plan.config
        if kind in self._genotypes:
            return self._genotypes[kind], config
        if kind in (Form.ADAPTER.value, Form.GATE.value):
            return plain_genotype(Form(kind), config), config
        train = Train.ALL if kind == "full" else Train(kind)
        return nothing(config).genotype, config.model_copy(update={"train": train})

    def _step(self, phase: SearchPhase | TrainingPhase, epoch: int) -> float:
        """Return the seconds of a step: the mean of several, of as many in every process."""
        for step in range(1 if self._supply.ledger is None else 1 + USUAL):
            phase.step(epoch, step % phase.steps)
        spent: list[float] = []
        while len(spent) < _STEPS and not self._loop.fleet.any(sum(spent) > _PATIENCE):
            place = divmod(len(spent) + 1, phase.steps)
            spent.append(self._timed(lambda at=place: phase.step(epoch + at[0], at[1]))[0])  # type: ignore[misc]
        return sum(spent) / len(spent)

    def _scoring(self, network: nn.Module) -> Pace:
        """Time a measuring and what it takes for each case, on a few of the cases."""
        network.eval()
        few = self._score(network)
        measuring = 0.0
        if network is not self._plan.host:
            measuring = self._timed(lambda: self._few.measure(network, 0))[0]
        return Pace(measure=max(0.0, measuring - few), case=few / self._cases * self._size_of_cases())

    @property
    def _cases(self) -> int:
        return len(self._few.cohort.cases)

    def _score(self, network: nn.Module) -> float:
        """Return the seconds that the few cases take, once everything was run before."""
        self._few.score(network)
        return self._timed(lambda: self._few.score(network))[0]

    def _size_of_cases(self) -> float:
        """Return how long cases take on the mean over how long the few take: they may be large or small."""
        if self._usual is None:
            host = in_eval(self._plan.host)
            few = self._score(host) / self._cases
            affordable = self._loop.fleet.first(lambda: int(_PATIENCE / max(few, 1e-6)))
            more = self._supply.glance(max(_CASES, min(_MORE_CASES, affordable)))
            self._usual = self._timed(lambda: more.score(host))[0] / len(more.cohort.cases) / few
        return self._usual

    def _timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        """Return the seconds of a work and its result, all that a GPU was given done."""
        begin = time.perf_counter()
        found = work()
        if self._plan.device.type == "cuda":
            torch.cuda.synchronize(self._plan.device)
        return time.perf_counter() - begin, found
