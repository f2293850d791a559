"""How much of a full-length search is needed, and how much time is saved in all?

`full` is the published schedule: 200 epochs of a PC-DARTS search by SGD, the first 30 % of them at rest, the
choice by weight. `default` is the tool's: fewer epochs, AdamW, an end as soon as the choice is stable. `sep5`
is no search at all: that operation on every edge. All choose cells for the same host and images. What they
chose is trained alike, with several seeds, since a training moves Dice as much as a choice does, and judged
by the validation subjects (in a development world; no test subject is scored). Time: what the default search
took, all measuring included, against the steps of the full schedule as a straightforward op-by-op cell makes
them (`search_steps`), whose seconds are taken in turn with those of the search; its measuring counts nothing.
`python -m benchmarks.search_length [--seeds N] [--epochs N] [--json]`; finished parts are kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from surgeon.search import Config
from surgeon.search.entrants import fixed_cell, shared_genotype
from surgeon.search.genotype import Genotype
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import Plan, plan_operation
from surgeon.search.training.bilevel import first_moving_epoch
from surgeon.search.training.loop import Loop
from surgeon.search.training.stages import search_cells, train_genotype

from benchmarks.gain.cells import WORLDS, open_world
from benchmarks.gain.runs import KEPT
from benchmarks.gain.tasks import Place
from benchmarks.record import ROOT, Parts, Target, commit, conclude, machine, say, versions
from benchmarks.search_steps import Place as Machine
from benchmarks.search_steps import seconds_in_turn, step_of

SETTINGS = {"steps": 10, "retrain_epochs": 30, "search_cases": 8, "batch_size": 4}
SOURCES = ("search", "benchmarks/search_length.py", "benchmarks/search_steps.py", "benchmarks/gain")
WAYS: Mapping[str, Mapping[str, Any]] = {
    "default": {"epochs": Config().epochs},
    "sep5": {},
    "full": {"early": False, "prune": False, "weight_step": "sgd"},
}
_APART = 1000  # between the seeds of two trainings
TRAININGS = 3  # of what each search chose
_ROUNDS = 15


def planned(seed: int, **changes: Any) -> Plan:
    """Plan an operation in the first development world."""
    host, cohort, settings = open_world(WORLDS[0], Place(KEPT / "data", ROOT))
    config = Config.create(**{"seed": seed, **SETTINGS, **settings, **changes})
    return plan_operation(host, cohort, config, OPERATIONS)


def measured(way: str, seed: int, epochs: int) -> dict[str, Any]:
    """Search in one way, train what was found, and return steps, seconds and validation Dice."""
    plan = planned(seed, **{"epochs": epochs, **WAYS[way]})
    if way == "sep5":
        cell = fixed_cell(next(iter(plan.specs.values())), way)
        genotype, took = shared_genotype(cell, plan.config), {"epochs": 0, "ended": "no search"}
    else:
        supply, begin = plan.supply(), time.perf_counter()
        searched = search_cells(plan, supply, Loop(StopRequest()))
        genotype = searched.genotype
        took = {
            "epochs": searched.position.epoch,
            "steps": searched.position.epoch * supply.training.steps,
            "seconds": round(time.perf_counter() - begin, 1),
            "ended": searched.ended,
        }
    trained = [trained_facts(genotype, seed, training) for training in range(TRAININGS)]
    return {
        **took,
        "dice": [facts["validation_dice"] for facts in trained],
        "host": trained[0]["validation_dice_before"],
        "genotype": genotype.to_dict(),
    }


def trained_facts(genotype: Genotype, seed: int, training: int) -> dict[str, Any]:
    """Train a genotype on the subjects of its search, with a seed of its own, and return what came of it."""
    plan = planned(seed + training * _APART, split=seed)
    return train_genotype("retrain", plan, plan.supply(), Loop(StopRequest()), genotype).facts


def reference_seconds() -> dict[str, float]:
    """Return seconds a step of the op-by-op reference and of the search, both halves, taken in turn."""
    host, _, settings = open_world(WORLDS[0], Place(KEPT / "data", ROOT))
    shape = (SETTINGS["batch_size"], 1, *settings["crop"])
    place = Machine("cpu", torch.get_num_threads(), ROOT)
    ways = {"reference search": "reference", "search": "batched"}
    steps = {
        way: step_of(host, shape, place, Config.create(architecture_start=0.0, cell=cell), way)
        for way, cell in ways.items()
    }
    return seconds_in_turn(steps, _ROUNDS, place.wait)[0]


def full_seconds(step: float, epochs: int) -> float:
    """Return the seconds of a full-length schedule: a step at rest makes one of the two halves."""
    resting = first_moving_epoch(Config.create(epochs=epochs))
    return SETTINGS["steps"] * step * (epochs - resting / 2)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_length", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="as many searches of each kind")
    parser.add_argument("--epochs", type=int, default=200, help="of the full schedule")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    parts = Parts(f"search_length_{options.epochs}", SOURCES)
    if parts.find("step") is None:
        parts.keep("step", reference_seconds())
    step = parts.find("step")
    say(f"seconds a step: {step}", options.json)
    names = [(way, seed) for seed in range(options.seeds) for way in WAYS]
    for way, seed in names:
        name = f"{way} {seed}"
        if parts.find(name) is None:
            parts.keep(name, measured(way, seed, options.epochs))
        say(line(name, parts.find(name)), options.json)
    found = {way: [parts.find(f"{way} {seed}") for seed in range(options.seeds)] for way in WAYS}
    return conclude(summary(found, step, options.epochs), options.json)


def line(name: str, row: dict[str, Any]) -> str:
    """Say what came of one search."""
    dice = ", ".join(f"{one:.4f}" for one in row["dice"])
    time_taken = f"{row['epochs']} epochs in {row['seconds']:.0f} s, " if row["epochs"] else ""
    return f"{name}: {time_taken}Dice {row['host']:.4f} to {dice}; {row['ended']}"


def summary(found: dict[str, list[dict[str, Any]]], step: dict[str, float], epochs: int) -> dict[str, Any]:
    """Hold steps, Dice and time against their bars; the spread is that of single runs of `full`."""
    full = found["full"]
    fewer = mean_of("steps", full) / mean_of("steps", found["default"])
    by_full, by_default = (
        [dice for row in found[way] for dice in row["dice"]] for way in ("full", "default")
    )
    lost = fmean(by_full) - fmean(by_default)
    spread = statistics.stdev(by_full) if len(by_full) > 1 else 0.0
    faster = full_seconds(step["reference search"], epochs) / mean_of("seconds", found["default"])
    targets = [
        Target.at_least("default: times fewer steps", round(fewer, 1), 5.0),
        Target.at_most("full-length Dice over that of the default", round(lost, 4), round(spread, 4)),
        Target.at_least("default: times less time than the reference", round(faster, 1), 16.0),
    ]
    return {
        "benchmark": "search_length",
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "step": step,
        "full_seconds": full_seconds(step["reference search"], epochs),
        "searches": found,
        "targets": [target.to_dict() for target in targets],
        "not_measured": [] if len(full) > 2 else ["three seeds"],
    }


def mean_of(key: str, rows: list[dict[str, Any]]) -> float:
    """Return the mean of one of the figures of searches."""
    return fmean(row[key] for row in rows)


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(main())
