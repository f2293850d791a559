"""Which fixed cell belongs on the short list, and how a short search has to move.

Measured in development worlds that no test image of the benchmark is in: generated scenes of other seeds with
hosts of other seeds, and of the real images those that no split of the benchmark compares on. Every cell that
has one operation alone, and what searches find, is trained as long as a finalist is, with the learning rate
that suits `sep3` best, and judged by validation subjects.
`python -m benchmarks.gain.cells [--data DIR] [--world NAME] [--seeds N] [--searched]`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from surgeon.search import Config
from surgeon.search.decision.panel import seat_panel
from surgeon.search.decision.trials import Trials
from surgeon.search.entrants import fixed_cell, plain_entrants, random_entrants, shared_genotype
from surgeon.search.genotype import Genotype
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import Plan, plan_operation
from surgeon.search.training.loop import Loop
from surgeon.search.training.stages import search_cells

from benchmarks.gain.runs import KEPT, QUICK, WHOLE
from benchmarks.gain.scenes import train_host
from benchmarks.gain.tasks import TASKS, Place, Task, deal, open_scenes, scene_host
from benchmarks.record import ROOT
from surgeon.data import Cohort

WORLDS = ("scenes-11", "scenes-12")
TRIED = ("sep3", "pointwise", "sep5", "dil3", "dil5")
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "searched, rates of the defaults": {},
    "searched, rates of the benchmark": {
        name: QUICK.settings[name] for name in ("partial", "weight_rate", "architecture_rate")
    },
}
RANDOM = 6
_SAME = ("steps", "epochs", "retrain_epochs", "states", "search_cases")


def open_world(name: str, place: Place) -> tuple[torch.nn.Module, Cohort, Mapping[str, Any]]:
    """Return host, images and settings of a development world.

    Args:
        name: `scenes-N`, or that of a task with real images.
        place: where images are.
    """
    if name.startswith("scenes-"):
        seed = int(name.removeprefix("scenes-"))
        scenes = Task(name, (160, 60, 20), lambda p: open_scenes(p, seed=seed, specks=True), scene_host, {})
        return train_host(120, seed), deal(scenes.cohort(place), scenes, 0), {"crop": (64, 64)}
    task = next(task for task in TASKS if task.name == name)
    cohort = task.cohort(place)
    dealt = [deal(cohort, task, split).splits or {} for split in WHOLE.splits]
    compared = {subject for splits in dealt for subject in splits["test"]}
    free = cohort.select([subject for subject in cohort.subjects if subject not in compared])
    counts = (len(free.subjects) * 2 // 3, len(free.subjects) // 4, len(free.subjects) // 12)
    free = deal(free, replace(task, counts=counts), 0)
    assert free.splits is not None
    return task.host(place, free.splits["train"]), free, task.settings


def measure_world(name: str, place: Place, seed: int, *, searched: bool = False) -> dict[str, float]:
    """Return the gain in validation Dice over the host, by name of what was trained.

    Args:
        name: of the world.
        place: where images are.
        seed: of everything but the images.
        searched: draw random cells and search, too.
    """
    host, cohort, settings = open_world(name, place)
    settings = {"seed": seed, **{key: QUICK.settings[key] for key in _SAME}, **settings}

    def planned(**changes: Any) -> Plan:
        return plan_operation(host, cohort, Config.create(**settings, **changes), OPERATIONS)

    plan = planned()
    panel = seat_panel(plan, plan.supply())
    trials = Trials(plan, Loop(StopRequest()), panel)
    before = panel.judge_one(plan.host).dice_mean
    brief = plan.config.model_copy(update={"retrain_epochs": 1})
    rates: dict[bool, float | None] = {}
    found: dict[str, float] = {}

    def train(word: str, genotype: Genotype) -> None:
        plain = word == "adapter"
        if plain not in rates:
            rates[plain] = trials.tune(f"{word}-1", genotype, brief).rate
        config = plan.config.model_copy(update={"retrain_rate": rates[plain]})
        found[word] = trials.run(word, genotype, config).scores.dice_mean - before
        print(f"{name}, seed {seed}: {word} {found[word]:+.4f}", file=sys.stderr, flush=True)

    for word, genotype in _fixed(plan):
        train(word, genotype)
    for one in itertools.islice(random_entrants(plan.specs, plan.config), RANDOM if searched else 0):
        train(one.name, one.genotype)
    for word, changes in SEARCHES.items() if searched else ():
        other = planned(**changes)
        train(word, search_cells(other, other.supply(), Loop(StopRequest())).genotype)
    return found


def _fixed(plan: Plan) -> Iterator[tuple[str, Genotype]]:
    yield "adapter", plain_entrants(plan.specs, plan.config)[1].genotype
    spec = next(iter(plan.specs.values()))
    for operation in TRIED:
        yield operation, shared_genotype(fixed_cell(spec, operation), plan.config)


def main(arguments: list[str] | None = None) -> int:
    """Print what every cell gains in every world, as a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gain.cells", description=__doc__)
    default = os.environ.get("SURGEON_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder of the archives")
    parser.add_argument("--world", action="append", help="scenes-N or a task; repeat it for more")
    parser.add_argument("--seeds", type=int, default=1, help="as many for each world")
    parser.add_argument("--searched", action="store_true", help="random cells and searches as well")
    options = parser.parse_args(arguments)
    place = Place(KEPT / "data", options.data)
    cases = [(name, seed) for name in options.world or WORLDS for seed in range(options.seeds)]
    rows = [measure_world(name, place, seed, searched=options.searched) for name, seed in cases]
    print(f"| | {' | '.join(f'{name}, seed {seed}' for name, seed in cases)} | mean |")
    print("|---" * (len(cases) + 2) + "|")
    for word in rows[0]:
        gains = [row[word] for row in rows]
        print(f"| {word} | {' | '.join(f'{gain:+.4f}' for gain in gains)} | {fmean(gains):+.4f} |")
    return 0


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(main())
