"""Does an implant earn its gain, beside everything simpler, and does the tool say so?

Tasks: `nuclei-*` (a host that comes without code, on images of another domain; 200, 16 or 4 of them to train
on), `volumes` and `slices` (hippocampus, with hosts trained here from nothing; `slices-early` stops that
training early, and the others meet images changed in intensity, noise or spacing), `lines` (thin structures
among specks, where a neighbourhood is needed) and `right` (the world that the host of `lines` was trained on:
nothing to gain). For each split and seed the whole operation runs with its comparison; what is finished is
kept beside the benchmark. How much an early end costs is measured by `benchmarks.search_length`.
`python -m benchmarks.gain [--quick] [--json] [--task NAME] [--data DIR] [--parts N] [--report]`;
`--report` runs nothing and prints what the finished parts say, wherever they were run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.gain.kept import KeptParts, places
from benchmarks.gain.runs import KEPT, QUICK, WHOLE, Size, run_part
from benchmarks.gain.tables import bar_lines, bars, lines, summary_targets, targets, together
from benchmarks.gain.tasks import TASKS, Place, Task
from benchmarks.record import ROOT, commit, conclude, machine, say, versions
from surgeon.errors import Stopped


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gain", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a true subset, smaller in every way")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument(
        "--task",
        action="append",
        choices=[task.name for task in TASKS],
        help="only this task; repeat it for more",
    )
    for name in ("split", "seed"):
        parser.add_argument(f"--{name}", type=int, help=f"run new parts of this {name} alone")
    parser.add_argument("--parts", type=int, default=sys.maxsize, help="run at most so many new parts")
    default = os.environ.get("SURGEON_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder of the archives")
    parser.add_argument("--report", action="store_true", help="print what finished parts say, as Markdown")
    options = parser.parse_args(arguments)
    if options.report:
        return _report(options.json)
    size = QUICK if options.quick else WHOLE
    wanted = options.task or size.tasks
    chosen = [task for task in TASKS if task.name in wanted or not wanted]
    try:
        report = summary(_parts(size, chosen, options), size, chosen)
    except Stopped as stopped:
        say(f"{stopped.where}: the same command goes on from here", options.json)
        return stopped.exit_code
    for line in report["lines"]:
        say(line, options.json)
    return conclude(report, options.json)


def _report(as_json: bool) -> int:
    """Print tables and bars of the parts that are kept; returns 0 when every bar holds."""
    kept = KeptParts()
    there = kept.all()
    by_task = {task.name: [part for part in there if part["task"] == task.name] for task in TASKS}
    parts = {name: found for name, found in by_task.items() if found}
    told = summary(parts, WHOLE, TASKS) | {"places": places(there), "stale": kept.stale()}
    told["bars"] = bars(parts, [task.name for task in TASKS], len(WHOLE.splits) * len(WHOLE.seeds))
    if as_json:
        print(json.dumps(told, indent=2))
    else:
        print("\n".join((*told["lines"], "", *bar_lines(told["bars"]), "", *told["places"])))
        if told["stale"]:
            print(f"{told['stale']} finished parts do not count: what they depend on has changed since")
    return 0 if all(bar["outcome"] == "holds" for bar in told["bars"]) else 1


def _parts(size: Size, tasks: Sequence[Task], options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Run what is not finished yet, part after part, and return all parts by task."""
    kept = KeptParts()
    found: dict[str, list[dict[str, Any]]] = {}
    absent = {task.needs for task in tasks if task.needs and not (options.data / task.needs).exists()}
    for needed in sorted(absent):
        say(f"{options.data / needed} is not there: what needs it is left out", options.json)
    left = options.parts
    place = Place(KEPT / "data", options.data)
    for task, split, seed in _wanted(size, tasks):
        part = kept.find(task.name, split, seed)
        if part is None:
            others = (options.split, options.seed) not in product((None, split), (None, seed))
            if left <= 0 or others or task.needs in absent:
                continue
            left -= 1
            kept.keep(run_part(task, size, place, split, seed))
            part = kept.find(task.name, split, seed)
            assert part is not None
        found.setdefault(task.name, []).append(part)
        told = f"{task.name} split {split} seed {seed}: {part['recommended']}, {part['seconds']:.0f} s"
        say(told, options.json)
    return found


def _wanted(size: Size, tasks: Sequence[Task]) -> Iterator[tuple[Task, int, int]]:
    """Yield the parts, each task once before any comes again."""
    for split in size.splits:
        for seed in size.seeds:
            yield from ((task, split, seed) for task in tasks)


def summary(parts: Mapping[str, list[dict[str, Any]]], size: Size, tasks: Sequence[Task]) -> dict[str, Any]:
    """Return lines to read, targets, and what was not measured."""
    wanted = [f"{task.name} split {split} seed {seed}" for task, split, seed in _wanted(size, tasks)]
    there = {
        f"{part['task']} split {part['split']} seed {part['seed']}"
        for found in parts.values()
        for part in found
    }
    reached = [target for name, found in parts.items() for target in targets(name, found)]
    return {
        "lines": [*(line for name, found in parts.items() for line in lines(name, found)), *together(parts)],
        "targets": [target.to_dict() for target in (*reached, *summary_targets(parts))],
        "not_measured": [name for name in wanted if name not in there],
        "size": size.name,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "parts": {name: [_short(part) for part in found] for name, found in parts.items()},
    }


def _short(part: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in ("dice", "domains")}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    sys.exit(main())
