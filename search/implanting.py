"""The whole operation: search, discretize, train, compare, write."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import Cohort
from surgeon.errors import GateError, InputError, WorseError
from surgeon.skips import Anatomy
from surgeon.splicing import SplicedNetwork

from .assembly import Table, build_adapters, build_architectures, build_derived_cells, build_search_cells
from .bilevel import SearchPhase, Supply
from .config import Config
from .genotype import Genotype
from .implants import Binding, describe_inputs, place_of, save_implant
from .interrupts import stop_requests
from .loop import Loop, Position, ProgressCallback
from .operations import OPERATIONS
from .outcome import Outcome, Verdict, compare_networks, versions, write_samples
from .planning import Plan, plan_operation
from .randomness import seeded
from .retraining import TrainingPhase
from .runs import RunFolder, open_run
from .selection import select_all


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


@dataclass(frozen=True, slots=True)
class Trained:
    """A network whose implants were trained.

    Attributes:
        network: at the state that was best on the validation cases.
        position: how long it took.
        facts: best epoch and validation Dice, before and after.
    """

    network: SplicedNetwork
    position: Position
    facts: dict[str, float]


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
    operations: Table = OPERATIONS,
) -> ImplantResult:
    """Search cells for the skips of a host, train them in place and compare with the host.

    The host is not changed. Subjects are split in three: weights, architecture and selection, test; the test
    subjects are scored once, at the end.

    Args:
        host: a segmentation network that takes `(N, C, *spatial)` and gives a map for each class.
        data: labelled cases, or the folder they are in.
        config: the settings; None takes the defaults.
        out: the RUN folder to write; None writes nothing, and then nothing can be resumed.
        inputs: an example input; None takes a training image.
        kwargs: keyword inputs are not supported here; give None.
        resume: go on with the stopped run in `out`.
        progress: called at every step.
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
    folder = open_run(Path(out), plan.identity, resume=resume) if out is not None else None
    with stop_requests() as stop:
        loop = Loop(stop, folder, progress)
        supply = plan.supply()
        genotype, search = search_cells(plan, supply, loop)
        cells = build_derived_cells(plan.specs, genotype, plan.config.seed, plan.table)
        trained = train_implants("retrain", plan, supply, loop, cells)
        baselines = _train_baselines(plan, supply, loop)
    outcome = compare_networks(plan, trained.network, {name: one.network for name, one in baselines.items()})
    report = _report(plan, genotype, search, trained, outcome)
    if folder is not None:
        _write(folder, plan, genotype, trained.network, outcome, report)
    _refuse_worse(plan.config, outcome, folder)
    return ImplantResult(trained.network, plan.anatomy, genotype, report, folder.path if folder else None)


def search_cells(plan: Plan, supply: Supply, loop: Loop) -> tuple[Genotype, Position]:
    """Search the cells of a host.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    config = plan.config
    architectures = build_architectures(plan.specs, config)
    cells = build_search_cells(plan.specs, architectures, config, plan.table)
    network = plan.splice(cells)
    before = _host_state(network)
    with seeded(config.seed, "search"):
        position = loop.run(SearchPhase(network, cells, architectures, supply, config))
    _check_untouched(before, network)
    scope, merge, given = config.genotype, config.merge, config.inputs
    return select_all(plan.specs, architectures, scope=scope, merge=merge, inputs=given), position


def train_implants(
    name: str, plan: Plan, supply: Supply, loop: Loop, implants: Mapping[str, nn.Module]
) -> Trained:
    """Train modules on the skips of the frozen host, and keep the state best on the validation cases.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    network = plan.splice(implants)
    before = _host_state(network)
    phase = TrainingPhase(name, network, network.implants, supply, plan.config)
    with seeded(plan.config.seed, name):
        position = loop.run(phase)
    phase.finish()
    _check_untouched(before, network)
    return Trained(network, position, phase.facts())


def _train_baselines(plan: Plan, supply: Supply, loop: Loop) -> dict[str, Trained]:
    builders = {"adapter": build_adapters}
    return {
        name: train_implants(name, plan, supply, loop, builders[name](plan.specs))
        for name in plan.config.baselines
    }


def _host_state(network: SplicedNetwork) -> dict[str, Tensor]:
    state = network.state_dict()
    return {name: value.clone() for name, value in state.items() if not name.startswith("implants.")}


def _check_untouched(before: Mapping[str, Tensor], network: SplicedNetwork) -> None:
    after = network.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    if changed:
        raise GateError(
            f"the frozen host changed: {', '.join(changed[:3])}",
            where=f"{len(changed)} tensors",
            fix="the host writes to its own state in eval mode; make it stop, or it cannot be implanted",
        )


def _report(
    plan: Plan, genotype: Genotype, search: Position, trained: Trained, outcome: Outcome
) -> dict[str, Any]:
    config, loaded = plan.config, plan.config.host_spec or {}
    report = {
        "host": {
            "name": plan.anatomy.host,
            "spec": loaded.get("spec", ""),
            "checkpoint": loaded.get("checkpoint"),
            "fingerprint": plan.fingerprint,
            "parameters": plan.anatomy.parameters,
        },
        "data": plan.cohort.to_dict(),
        "splits": plan.splits.to_dict(),
        "search": {
            "seconds": search.seconds,
            "epochs": search.epoch,
            "stopped_because": "all epochs were done",
            "retrain_seconds": trained.position.seconds,
            "retrain_epochs": trained.position.epoch,
            **trained.facts,
        },
        "scores": {name: scores.to_dict() for name, scores in outcome.scores.items()},
        "gain": dict(outcome.gain),
        "cost": dict(outcome.cost),
        "verdict": outcome.verdict.value,
        "seed": config.seed,
        "versions": versions(),
        "anatomy": plan.anatomy.to_dict(),
        "genotype": genotype.to_dict(),
        "config": config.to_dict(),
        "task": plan.task.to_dict(),
    }
    return {key: _plain(value) for key, value in report.items()}


def _write(
    folder: RunFolder,
    plan: Plan,
    genotype: Genotype,
    network: SplicedNetwork,
    outcome: Outcome,
    report: dict[str, Any],
) -> None:
    from .reporting import write_report

    binding = Binding(
        fingerprint=plan.fingerprint,
        genotype=genotype,
        specs=plan.specs,
        places={skip_id: place_of(plan.anatomy[skip_id]) for skip_id in plan.specs},
        inputs=describe_inputs(plan.inputs),
    )
    save_implant(folder.path / "implant.safetensors", network.implants, binding)
    folder.write_json("genotype.json", genotype.to_dict())
    folder.write_json("host.json", plan.config.host_spec or {})
    write_samples(folder.path / "samples.npz", plan, network, outcome)
    # Last: a folder with a report.json is a finished run.
    folder.write_json("report.json", report)
    write_report(folder.path)


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


def _plain(value: Any) -> Any:
    """Turn what JSON cannot say (numbers that are none) into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
