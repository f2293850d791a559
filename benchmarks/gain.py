"""Does an implant earn its gain, beside everything simpler, and does the tool say so?

Tasks: `nuclei` (a host that comes without code, on images of another domain; 200, 16 or 4 of them to train
on), `lines` (thin structures among specks, where a neighbourhood is needed) and `right` (the world that the
host of `lines` was trained on: nothing to gain). For each split and seed the whole operation runs with its
comparison. `python -m benchmarks.gain [--quick] [--json] [--task NAME] [--data DIR]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from surgeon.search import Config, implant
from torch import nn

from benchmarks.record import ROOT, Parts, Target, commit, conclude, machine, say, versions
from benchmarks.scenes import train_host, write_scenes
from surgeon.data import Cohort, Preparation, open_data

SOURCES = ("search", "surgeon/scores", "surgeon/splicing.py", "benchmarks/gain.py", "benchmarks/scenes.py")
DRAWS = 10_000
NUCLEI = "nuclei/dsb2018_fluo_gray.zip"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done: the whole, or a true subset of it.

    Attributes:
        name: of the file that parts are kept in.
        splits: seeds of the splits.
        seeds: of everything else.
        test: test images.
        settings: of `Config`.
    """

    name: str
    splits: tuple[int, ...]
    seeds: tuple[int, ...]
    test: int
    settings: Mapping[str, Any]


WHOLE = Size(
    "gain",
    (0, 1),
    (0, 1, 2),
    120,
    {"epochs": 30, "retrain_epochs": 12, "steps": 25, "compare_cells": 8, "architecture_rate": 3e-3},
)
QUICK = Size(
    "gain_quick",
    (0, 1),
    (0,),
    60,
    {
        "epochs": 6,
        "retrain_epochs": 4,
        "steps": 30,
        "states": 2,
        "compare_cells": 3,
        "architecture_rate": 0.01,
        "search_cases": 8,
    },
)


@dataclass(frozen=True, slots=True)
class Task:
    """One setting.

    Attributes:
        name: in tables and parts.
        train: training images.
        validation: images to choose on.
        open: gives host and all images, for a folder to write in and the folder of the data.
        crop: side of a training crop.
        quick: whether `--quick` runs it.
        needs: file under the data folder that it needs; empty for none.
        test: test images, where they are fewer than those of the size.
    """

    name: str
    train: int
    validation: int
    open: Callable[[Path, Path], tuple[nn.Module, Cohort]]
    crop: int
    quick: bool
    needs: str = ""
    test: int | None = None


def open_nuclei(folder: Path, data: Path) -> tuple[nn.Module, Cohort]:
    """Open the exported program and the images; those with sides beyond 360 are left out."""
    from PIL import Image

    from surgeon.hosts import open_host

    with zipfile.ZipFile(data / NUCLEI) as archive:
        archive.extractall(folder)
    how = Preparation(scale="minmax", multiple=16, channels=1, binarise=True)
    cohort = open_data(folder, preparation=how)
    small = [case for case in cohort.cases if max(Image.open(case.images[0]).size) <= 360]
    return open_host(data / "nuclei" / "hpa.pt2").module, replace(cohort, cases=tuple(small))


def open_lines(folder: Path, _: Path) -> tuple[nn.Module, Cohort]:
    """Train the host of the generated scenes, and draw scenes with specks."""
    scenes = write_scenes(folder / "lines", 400, 1, specks=True)
    return train_host(120), open_data(scenes, preparation=_SCENES)


def open_right(folder: Path, _: Path) -> tuple[nn.Module, Cohort]:
    """Train the same host, and draw scenes like those it was trained on."""
    scenes = write_scenes(folder / "right", 400, 2, specks=False)
    return train_host(120), open_data(scenes, preparation=_SCENES)


_SCENES = Preparation(scale="unit", channels=1)

TASKS = (
    Task("nuclei-200", 200, 60, open_nuclei, 128, False, NUCLEI),
    Task("nuclei-60", 60, 16, open_nuclei, 64, True, NUCLEI, test=30),
    Task("nuclei-16", 16, 8, open_nuclei, 128, False, NUCLEI),
    Task("nuclei-4", 4, 4, open_nuclei, 128, False, NUCLEI),
    Task("lines", 160, 60, open_lines, 64, True),
    Task("right", 160, 60, open_right, 64, True),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gain", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a true subset, smaller in every way")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--task", action="append", help="only this task; repeat it for more")
    default = os.environ.get("SURGEON_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder that holds nuclei/")
    options = parser.parse_args(arguments)
    size = QUICK if options.quick else WHOLE
    chosen = (
        [task for task in TASKS if task.name in options.task] if options.task else _default(options.quick)
    )
    report = summary(_parts(size, chosen, options.data, options.json), size, chosen)
    for line in report["lines"]:
        say(line, options.json)
    return conclude(report, options.json)


def _default(quick: bool) -> list[Task]:
    return [task for task in TASKS if task.quick == quick or (not quick and not task.needs)]


def _parts(size: Size, tasks: Sequence[Task], data: Path, as_json: bool) -> dict[str, list[dict[str, Any]]]:
    """Run what is not finished yet, part after part, and return all parts by task."""
    kept = Parts(size.name, SOURCES)
    found: dict[str, list[dict[str, Any]]] = {}
    for task in tasks:
        if task.needs and not (data / task.needs).exists():
            say(f"{task.name}: {data / task.needs} is not here", as_json)
            continue
        with tempfile.TemporaryDirectory() as folder:
            opened: tuple[nn.Module, Cohort] | None = None
            for split in size.splits:
                for seed in size.seeds:
                    name = f"{task.name} split {split} seed {seed}"
                    if name not in kept.parts:
                        opened = opened or task.open(Path(folder), data)
                        kept.keep(name, run_part(task, size, opened, split, seed))
                    part = kept.parts[name]
                    found.setdefault(task.name, []).append(part)
                    say(f"{name}: {part['recommended']}, {part['seconds']:.0f} s", as_json)
    return found


def run_part(
    task: Task, size: Size, opened: tuple[nn.Module, Cohort], split: int, seed: int
) -> dict[str, Any]:
    """Run the operation with its comparison on one split with one seed."""
    host, cohort = opened
    counts = (task.train, task.validation, task.test or size.test)
    order = np.random.default_rng(split).permutation(len(cohort.cases))[: sum(counts)]
    chosen = replace(cohort, cases=tuple(cohort.cases[i] for i in sorted(order)))
    config = Config.create(
        compare=True,
        seed=seed,
        split=split,
        fractions=tuple(count / sum(counts) for count in counts),
        crop=(task.crop, task.crop),
        allow_worse=True,
        samples=0,
        **size.settings,
    )
    start = time.perf_counter()
    report = implant(host, chosen, config).report
    dice = {
        name: {case: fmean(values["dice"].values()) for case, values in scores["per_case"].items()}
        for name, scores in report["scores"].items()
    }
    return {
        "seconds": time.perf_counter() - start,
        "recommended": report["finalists"]["recommended"],
        "reason": report["finalists"]["reason"],
        "verdict": report["verdict"],
        "search": report["search"],
        "rows": report["comparison"]["rows"],
        "finalists": [{k: v for k, v in r.items() if k != "genotype"} for r in report["finalists"]["rows"]],
        "dice": dice,
    }


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences over test images, and its 95 % bootstrap interval."""
    values = np.asarray(differences)
    picks = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[picks].mean(1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def differences(parts: Sequence[Mapping[str, Any]], one: str, other: str) -> list[float]:
    """Return Dice under one row less that under another, for every test image of every part that has both.

    `random` stands for the mean of the random cells.
    """
    found = []
    for part in parts:
        first, second = _row(part["dice"], one), _row(part["dice"], other)
        found += [first[case] - second[case] for case in first.keys() & second.keys()]
    return found


def _row(dice: Mapping[str, Mapping[str, float]], name: str) -> Mapping[str, float]:
    if name != "random":
        return dice.get(name, {})
    random = [values for row, values in dice.items() if row.startswith("random")]
    return {case: fmean(values[case] for values in random) for case in (random[0] if random else ())}


def summary(parts: Mapping[str, list[dict[str, Any]]], size: Size, tasks: Sequence[Task]) -> dict[str, Any]:
    """Return lines to read, targets, and what was not measured."""
    targets: list[Target] = []
    for name, found in parts.items():
        targets += _targets(name, found)
    if parts:
        worst = [regret(part) for found in parts.values() for part in found]
        targets.append(Target.at_most("mean regret over all parts", round(fmean(worst), 5), 0.001))
    return {
        "lines": [line for name, found in parts.items() for line in _lines(name, found)],
        "targets": [target.to_dict() for target in targets],
        "not_measured": [task.name for task in tasks if task.name not in parts]
        + ["hippocampus in 3-D and as slices, and their shifted hosts: no task of this program"],
        "size": size.name,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "parts": {name: [_short(part) for part in found] for name, found in parts.items()},
    }


def _short(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "dice"}


def regret(part: Mapping[str, Any]) -> float:
    """Return by how much the best row with a frozen host beats what was recommended, on the test images."""
    rows = {row["name"]: row for row in part["rows"]}
    best = max(row["dice"] for row in rows.values() if row["frozen"])
    return float(best - rows["implanted"]["dice"])


def _targets(name: str, parts: Sequence[Mapping[str, Any]]) -> list[Target]:
    gain, low, _ = interval(differences(parts, "implanted", "host"))
    found = [Target.at_most(f"{name}: regret", round(fmean(map(regret, parts)), 5), 0.003)]
    if name == "right":
        found.append(Target.at_least(f"{name}: lower end of the gain", round(low, 5), -0.002))
    if name.startswith("nuclei-") and name.split("-")[1] in ("200", "60"):
        full, _, _ = interval(differences(parts, "full", "host"))
        trained = [{row["name"]: row["trainable"] for row in part["rows"]} for part in parts]
        share = max(counts["implanted"] / counts["full"] for counts in trained)
        found += [
            Target.at_least(f"{name}: gain over the host", round(gain, 5), 0.04),
            Target.at_least(f"{name}: lower end of that gain", round(low, 5), 0.0),
            Target.at_least(f"{name}: share of what full fine-tuning gains", round(gain / full, 3), 0.95),
            Target.at_most(f"{name}: share of its trainable parameters", round(share, 3), 0.1),
        ]
    if name == "lines":
        for other in ("adapter", "random"):
            _, least, _ = interval(differences(parts, "implanted", other))
            found.append(Target.at_least(f"{name}: lower end over {other}", round(least, 5), 0.0))
    if any("searched" in part["dice"] for part in parts):
        _, least, _ = interval(differences(parts, "searched", "random"))
        found.append(Target.at_least(f"{name}: lower end of searched over random", round(least, 5), 0.0))
    return found


def _lines(name: str, parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table in Markdown: every row's Dice and gain over all parts of a task."""
    rows = {row["name"]: row for part in parts for row in part["rows"]}
    names = [row for row in rows if not row.startswith("random")] + ["random"]
    lines = [
        f"{name}: {len(parts)} parts; recommended {', '.join(part['recommended'] for part in parts)};"
        f" verdicts {', '.join(part['verdict'] for part in parts)}",
        "| row | Dice | gain over the host, 95 % interval | trained | latency over the host's |",
        "|---|---|---|---|---|",
    ]
    for row in names:
        dice = [value for part in parts for value in _row(part["dice"], row).values()]
        gain = interval(differences(parts, row, "host"))
        kind = row.rstrip("0123456789")
        same = [one for part in parts for one in part["rows"] if one["name"].rstrip("0123456789") == kind]
        cost = fmean(one["latency"]["it"] / one["latency"]["host"] for one in same) if same else 0.0
        trained = round(fmean(one["trainable"] for one in same)) if same else 0
        shown = f"{gain[0]:+.4f} ({gain[1]:+.4f} to {gain[2]:+.4f})"
        lines.append(f"| {row} | {fmean(dice):.4f} | {shown} | {trained} | {cost:.2f} |")
    return lines


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(main())
