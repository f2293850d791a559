"""The whole operation: search, discretize, train, compare, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from surgeon.data import Cohort
from surgeon.errors import InputError, WorseError
from surgeon.skips import Anatomy
from surgeon.splicing import SplicedNetwork

from .assembly import Table
from .config import Config
from .decision.comparison import train_contenders, with_comparison
from .decision.finding import find_implant
from .decision.outcome import Outcome, Verdict, compare_networks
from .decision.panel import seat_panel
from .decision.reconsidering import reconsider
from .fleet import together
from .forecast import Forecast, choose_compilation, described, known_paces, plan_chapters, reported
from .genotype import Genotype
from .interrupts import stop_requests
from .operations import OPERATIONS
from .planning import Plan, plan_operation
from .publishing import Findings, describe, publish
from .runs import RunFolder, open_run
from .step.supply import Supply
from .training.loop import Loop, ProgressCallback
from .training.stages import train_baselines

NoteCallback = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImplantResult:
    """What came of an operation.

    Attributes:
        network: the host with its trained cells, in eval mode.
        anatomy: the skips of the host.
        genotype: of the cells.
        report: the content of `report.json`.
        run: the RUN folder, if one was written.
    """

    network: SplicedNetwork
    anatomy: Anatomy
    genotype: Genotype
    report: dict[str, Any]
    run: Path | None


def implant(
    host: nn.Module,
    data: Cohort | str | Path,
    config: Config | None = None,
    *,
    out: str | Path | None = None,
    inputs: Tensor | tuple[Tensor, ...] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: ProgressCallback | None = None,
    note: NoteCallback | None = None,
    operations: Table = OPERATIONS,
) -> ImplantResult:
    """Search cells for the skips of a host, train them in place and compare with the host.

    The host is not changed. Subjects are split in three: weights, architecture and selection, test; the test
    subjects are scored once, at the end.

    Args:
        host: a segmentation network that takes `(N, C, *spatial)` and gives a map for each class.
        data: labelled cases, or the folder they are in; a 2-D network then takes volumes as slices.
        config: the settings; None takes the defaults.
        out: the RUN folder to write; None writes nothing, and then nothing can be resumed.
        inputs: an example input; None takes a training image.
        kwargs: keyword inputs are not supported here; give None.
        resume: go on with the stopped run in `out`.
        progress: called at every step.
        note: called with what was decided and estimated before the start, a sentence each.
        operations: the table of operations (`with_operations` adds your own).

    Raises:
        InputError: settings, host or data cannot be used, or the run in `out` cannot be resumed.
        GateError: the host cannot be traced or a skip cannot be implanted; the loss is no number.
        WorseError: the implanted network is worse than the host and `allow_worse` is off; all is written.
        Stopped: the user stopped it; with `out`, it can be resumed.
    """
    if kwargs:
        raise InputError(
            "keyword inputs cannot be trained with",
            where=", ".join(kwargs),
            fix="wrap the host in a module that takes the image alone and fills in the others",
        )
    if resume and out is None:
        raise InputError("there is nothing to resume without a RUN folder", where="out", fix="give out")
    plan = plan_operation(host, data, config or Config(), operations, inputs)
    with together(plan.fleet):
        speaks = plan.fleet.is_first
        watcher = _Watcher(progress if speaks else None, note if speaks and note else _say_nothing)
        return _operate(plan, None if out is None else Path(out), resume, watcher)


def _say_nothing(sentence: str) -> None:
    """Take a sentence, and tell nobody."""


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Who is told how it goes."""

    progress: ProgressCallback | None
    note: NoteCallback


def _operate(plan: Plan, out: Path | None, resume: bool, watcher: _Watcher) -> ImplantResult:
    """Do what was planned; every process comes to the same result, and the first one writes it."""
    fleet = plan.fleet
    folder = fleet.first(lambda: open_run(out, plan.identity, resume=resume)) if out is not None else None
    with stop_requests() as stop:
        supply = plan.supply(folder.path / "features" if folder else None)
        loop = Loop(stop, folder, watcher.progress, fleet=fleet, clock=supply.clock)
        for remark in plan.remarks:
            watcher.note(remark)
        forecast = _estimate(plan, supply, loop)
        supply, compilation = choose_compilation(plan, supply, loop, forecast)
        watcher.note(compilation)
        if plan.ledger is not None and forecast is not None:
            watcher.note(plan.ledger.sentence)
        if forecast is not None:
            watcher.note(described(forecast))
            loop = replace(loop, progress=forecast.telling(watcher.progress))
        begun = time.perf_counter()
        found = find_implant(plan, supply, loop)
        baselines = train_baselines(plan, supply, loop)
        rows = train_contenders(plan, supply, loop, found) if plan.config.compare else ()
        found = reconsider(plan, supply, loop, found, rows) if rows else found
        supply.cache.clear()
    network = found.trained.network
    outcome = compare_networks(plan, network, {name: one.network for name, one in baselines.items()})
    if rows:
        outcome = with_comparison(plan, outcome, found, rows)
    took = time.perf_counter() - begun + sum(loop.earlier.values())
    estimate = {} if forecast is None else reported(forecast, loop.done, found.trained_name, took)
    findings = Findings(plan, found, outcome, loop.spent, estimate)
    report = describe(findings)
    if folder is not None and fleet.is_first:
        publish(folder, findings, report)
    fleet.wait()
    _refuse_worse(plan.config, outcome, folder)
    return ImplantResult(network, plan.anatomy, found.genotype, report, folder.path if folder else None)


def _estimate(plan: Plan, supply: Supply, loop: Loop) -> Forecast | None:
    """Estimate how long the operation will take, if that was asked for."""
    if not plan.config.estimate:
        return None
    begun = time.perf_counter()
    chapters = plan_chapters(plan, supply, seat_panel(plan, supply))
    paces = known_paces(plan, supply, loop, chapters)
    return Forecast(chapters, paces, time.perf_counter() - begun)


def _refuse_worse(config: Config, outcome: Outcome, folder: RunFolder | None) -> None:
    if outcome.verdict is not Verdict.WORSE or config.allow_worse:
        return
    gain = outcome.gain
    raise WorseError(
        f"the implanted network is worse than its host: Dice {gain['dice_mean']:+.4f},"
        f" 95 % interval {gain['low']:+.4f} to {gain['high']:+.4f}",
        where=str(folder.path) if folder else "the test subjects",
        fix="keep the host; allow_worse (--allow-worse) accepts the implant all the same",
    )
