"""What a finished operation leaves in its RUN folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgeon.files import write_text

from .costs import peak_memory
from .decision.comparison import summarise_random
from .decision.finding import Found
from .decision.outcome import Outcome, versions, write_samples
from .implants import Binding, describe_inputs, place_of, save_implant
from .planning import Plan
from .runs import RunFolder


@dataclass(frozen=True, slots=True)
class Findings:
    """All that is reported of an operation.

    Attributes:
        plan: what was done, to which host, with which data.
        found: what is recommended, and how it was found.
        outcome: how it compares with its host.
        spent: seconds of all trainings by part of the work.
        estimate: of its time, beside what it took; empty where nobody asked.
    """

    plan: Plan
    found: Found
    outcome: Outcome
    spent: Mapping[str, float]
    estimate: Mapping[str, Any] = field(default_factory=dict)


def describe(findings: Findings) -> dict[str, Any]:
    """Return the content of `report.json`."""
    plan, found, outcome = findings.plan, findings.found, findings.outcome
    report = {
        "host": _describe_host(plan),
        "data": plan.cohort.to_dict(),
        "splits": plan.splits.to_dict(),
        "search": {
            "seconds": found.search.seconds,
            "epochs": found.search.epoch,
            "stopped_because": found.ended,
            "retrain_seconds": found.trained.position.seconds,
            "retrain_epochs": found.trained.position.epoch,
            **_bill(findings),
            "estimate": dict(findings.estimate),
            **found.trained.facts,
        },
        "trained": _describe_training(findings),
        "finalists": found.contest or {},
        "comparison": {"rows": list(outcome.comparison), "random": summarise_random(outcome.comparison)}
        if outcome.comparison
        else {},
        "prices": found.prices.to_dict() if found.prices else {},
        "scores": {name: scores.to_dict() for name, scores in outcome.scores.items()},
        "gain": dict(outcome.gain),
        "cost": dict(outcome.cost),
        "verdict": outcome.verdict.value,
        "seed": plan.config.seed,
        "versions": versions(),
        "anatomy": plan.anatomy.to_dict(),
        "genotype": found.genotype.to_dict(),
        "config": plan.config.to_dict(),
        "task": plan.task.to_dict(),
    }
    return {key: _plain(value) for key, value in report.items()}


def publish(folder: RunFolder, findings: Findings, report: dict[str, Any]) -> None:
    """Write everything into the RUN folder.

    Args:
        folder: of the run.
        findings: all that is reported.
        report: the content of `report.json`.
    """
    from .reporting import write_report

    plan, found, network = findings.plan, findings.found, findings.found.trained.network
    binding = Binding(
        fingerprint=plan.fingerprint,
        genotype=found.genotype,
        specs=plan.specs,
        places={skip_id: place_of(plan.anatomy[skip_id]) for skip_id in plan.specs},
        inputs=describe_inputs(plan.inputs),
    )
    save_implant(folder.path / "implant.safetensors", network, binding, found.trained.moved)
    folder.write_json("genotype.json", found.genotype.to_dict())
    folder.write_json("host.json", plan.config.host_spec or {})
    write_text(folder.path / "preparation.toml", plan.cohort.preparation.to_toml())
    write_samples(folder.path / "samples.npz", plan, network, findings.outcome)
    # Last: a folder with a report.json is a finished run.
    folder.write_json("report.json", report)
    write_report(folder.path)


def _bill(findings: Findings) -> dict[str, Any]:
    """Return what the work took of the machine.

    Training images a second, measuring included; the memory of the process that took most; and the seconds of
    all trainings, short list and comparison included, by what they were spent on.
    """
    plan = findings.plan
    images = plan.supply().training.steps * plan.config.batch_size  # in an epoch
    found = {"search": findings.found.search, "retrain": findings.found.trained.position}
    rates = {
        f"{name}_images_per_second": images * one.epoch / one.seconds if one.seconds else None
        for name, one in found.items()
    }
    peaks = [peak for peak in plan.fleet.gather(peak_memory(plan.device)) if peak is not None]
    return {
        **rates,
        "peak_memory_mib": max(peaks, default=None),
        "graphs": None if plan.ledger is None else plan.ledger.sentence,
        "spent_seconds": {name: round(seconds, 3) for name, seconds in findings.spent.items()},
    }


def _describe_training(findings: Findings) -> dict[str, Any]:
    """Name what moved: how many parameters of the implants and of the host."""
    trained, state = findings.found.trained, dict(findings.found.trained.network.named_parameters())
    implants = [value.numel() for name, value in state.items() if name.startswith("implants.")]
    host = [state[name].numel() for name in trained.moved]
    return {
        "choice": findings.plan.config.train.value,
        "implant_parameters": sum(implants),
        "host_parameters": sum(host),
        "host_names": list(trained.moved),
    }


def _describe_host(plan: Plan) -> dict[str, Any]:
    loaded = plan.config.host_spec or {}
    return {
        "name": plan.anatomy.host,
        "spec": loaded.get("spec", ""),
        "checkpoint": loaded.get("checkpoint"),
        "fingerprint": plan.fingerprint,
        "parameters": plan.anatomy.parameters,
    }


def _plain(value: Any) -> Any:
    """Turn what JSON cannot say (numbers that are none) into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
