"""Which fixed cell belongs on the short list: measured in worlds that no test image of the benchmark is in.

Every cell that has one operation alone is trained as long as a finalist is, with the learning rate that suits
`sep3` best, and judged by the validation subjects of a development world: generated scenes of other seeds
with hosts of other seeds, and of the real images those that no split of the benchmark compares on.
`python -m benchmarks.gain.cells [--data DIR] [--world NAME] [--seeds N]`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from surgeon.search import Config
from surgeon.search.entrants import fixed_cell, plain_entrants, shared_genotype
from surgeon.search.genotype import Genotype
from surgeon.search.interrupts import StopRequest
from surgeon.search.loop import Loop
from surgeon.search.operations import OPERATIONS
from surgeon.search.panel import seat_panel
from surgeon.search.planning import Plan, plan_operation
from surgeon.search.trials import Trials

from benchmarks.gain.runs import KEPT, QUICK, WHOLE
from benchmarks.gain.scenes import train_host
from benchmarks.gain.tasks import TASKS, Place, Task, deal, open_scenes
from benchmarks.record import ROOT
from surgeon.data import Cohort

OPERATIONS_TRIED = ("pointwise", "sep3", "sep5", "dil3", "dil5")


def open_world(name: str, place: Place) -> tuple[torch.nn.Module, Cohort, Mapping[str, object]]:
    """Return host, images and settings of a development world.

    Args:
        name: `scenes-N`, or that of a task with real images.
        place: where images are.
    """
    if name.startswith("scenes-"):
        seed = int(name.removeprefix("scenes-"))
        task = Task(name, (160, 60, 20), lambda p: open_scenes(p, seed=seed, specks=True), None, {})
        return train_host(120, seed), deal(task.cohort(place), task, 0), {"crop": (64, 64)}
    task = next(task for task in TASKS if task.name == name)
    cohort = task.cohort(place)
    compared = {s for split in WHOLE.splits for s in deal(cohort, task, split).splits["test"]}
    free = cohort.select(tuple(s for s in cohort.subjects if s not in compared))
    count = len(free.subjects)
    dealt = deal(free, replace(task, counts=(count * 2 // 3, count // 4, count // 12)), 0)
    return task.host(place, dealt.splits["train"]), dealt, task.settings


def measure_world(name: str, place: Place, seed: int, steps: int) -> dict[str, float]:
    """Return the gain in validation Dice over the host, by name of what was trained."""
    host, cohort, settings = open_world(name, place)
    config = Config.create(
        seed=seed, steps=steps, retrain_epochs=3, states=QUICK.settings["states"], **settings
    )
    plan = plan_operation(host, cohort, config, OPERATIONS)
    panel = seat_panel(plan, plan.supply())
    trials = Trials(plan, Loop(StopRequest()), panel)
    brief = config.model_copy(update={"retrain_epochs": 1})
    before = panel.judge_one(plan.host).dice_mean
    rates: dict[str, float] = {}
    found = {}
    for word, genotype in _genotypes(plan):
        kind = word if word == "adapter" else "cell"
        if kind not in rates:
            rates[kind] = trials.tune(f"{word}-1", genotype, brief).rate
        changed = config.model_copy(update={"retrain_rate": rates[kind]})
        found[word] = trials.run(word, genotype, changed).scores.dice_mean - before
        print(f"{name} seed {seed}: {word} {found[word]:+.4f}", flush=True)
    return found


def _genotypes(plan: Plan) -> Iterator[tuple[str, Genotype]]:
    yield "adapter", plain_entrants(plan.specs, plan.config)[1].genotype
    spec = next(iter(plan.specs.values()))
    for operation in ("sep3", *(o for o in OPERATIONS_TRIED if o != "sep3")):
        yield operation, shared_genotype(fixed_cell(spec, operation), plan.config)


def main(arguments: list[str] | None = None) -> int:
    """Print the gain of every fixed cell in every world."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gain.cells", description=__doc__)
    default = os.environ.get("SURGEON_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--world", action="append")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args(arguments)
    place = Place(KEPT / "data", options.data)
    worlds = options.world or ["scenes-11", "scenes-12", "slices-early", "nuclei-200"]
    rows = [
        measure_world(name, place, seed, options.steps) for name in worlds for seed in range(options.seeds)
    ]
    for word in rows[0]:
        gains = [row[word] for row in rows]
        print(f"| {word} | {' | '.join(f'{gain:+.4f}' for gain in gains)} | {fmean(gains):+.4f} |")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(main())
