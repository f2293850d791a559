"""One part of the benchmark: the whole operation with its comparison, on one split with one seed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from surgeon.search import Config, implant

from benchmarks.gain.tasks import Place, Task, deal
from benchmarks.record import ROOT
from surgeon.data import Cohort

KEPT = ROOT / "build" / "benchmarks" / "gain"
"""Where data are unpacked and unfinished parts wait; what was trained is not trained again."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: the whole, or a true subset of it.

    Attributes:
        name: of the file that parts are kept in.
        splits: seeds of the splits.
        seeds: of everything else.
        settings: of `Config`.
        tasks: names; empty for all.
    """

    name: str
    splits: tuple[int, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    tasks: tuple[str, ...] = ()


_SETTINGS = {
    "epochs": 6,
    "retrain_epochs": 3,
    "steps": 40,
    "states": 2,
    "compare_cells": 3,
    "search_cases": 8,
    "partial": 1,
    "weight_rate": 0.5,
    "architecture_rate": 6e-3,
}
"""Few steps, the same for every row: a part takes minutes on a CPU, and no row is trained to its end.

So short a search needs larger rates than the defaults: with those, weights and alpha hardly move in 240
steps, and poolings, which have nothing to learn, weigh most (so it was in `scenes-11`, a development world).
"""
WHOLE = Size("gain", (0, 1), (0, 1, 2), _SETTINGS)
QUICK = Size("gain", (0,), (0,), _SETTINGS, ("lines", "right"))
"""Some of the parts of the whole."""


def run_part(
    task: Task, size: Size, place: Place, split: int, seed: int, *, unfinished: Path = KEPT / "runs"
) -> dict[str, Any]:
    """Run the operation with its comparison, or go on where it was stopped.

    Args:
        task: host and images.
        size: settings.
        place: where images are.
        split: seed of the split.
        seed: of everything else.
        unfinished: folder that holds a RUN until the part is finished.
    """
    cohort = deal(task.cohort(place), task, split)
    assert cohort.splits is not None
    host = task.host(place, cohort.splits["train"])
    settings = {"allow_worse": True, "samples": 0, **size.settings, **task.settings}
    out = unfinished / f"{size.name}-{task.name}-{split}-{seed}"
    started = (out / "checkpoints" / "run.json").exists()
    if (out / "report.json").exists():  # stopped between the report and the part: the same again
        shutil.rmtree(out)
        started = False
    start = time.perf_counter()
    config = Config.create(compare=True, seed=seed, **settings)
    report = implant(host, cohort, config, out=out, resume=started).report
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return describe_part(task, cohort, report) | {"split": split, "seed": seed, "seconds": seconds}


def describe_part(task: Task, cohort: Cohort, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the tables need of a report, as plain JSON."""
    domains = {case.volume: task.domain(case) for case in cohort.cases}
    dice = {
        name: {case: fmean(values["dice"].values()) for case, values in scores["per_case"].items()}
        for name, scores in report["scores"].items()
    }
    return {
        "task": task.name,
        "recommended": report["finalists"]["recommended"],
        "reason": report["finalists"]["reason"],
        "verdict": report["verdict"],
        "search": {name: report["search"][name] for name in ("seconds", "epochs", "stopped_because")},
        "rows": report["comparison"]["rows"],
        "finalists": [row | {"genotype": _operations(row)} for row in report["finalists"]["rows"]],
        "same": report["finalists"]["same"],
        "dice": {name: {case: round(x, 5) for case, x in values.items()} for name, values in dice.items()},
        "domains": {case: name for case, name in domains.items() if name != "in"},
    }


def _operations(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the operations of a finalist's cells, edge by edge."""
    cells = row["genotype"]["cells"].items()
    return {name: [edge["operation"] for edge in (cell or {}).get("edges", ())] for name, cell in cells}
