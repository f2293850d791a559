"""How fast is a step of the search, and of training what it found?

Against a straightforward op-by-op PC-DARTS cell in the same host: torch's default layout, the whole host in
every step, gradients of everything that is searched in both half-steps. All ways take turns in one process,
so that a busy machine slows them alike; memory is measured in processes of their own. Then seconds a step
against skips, states and image size, with the straight line that fits them best, and the estimate of a small
operation's time beside what it took. Seconds are those of the clock; those of the processor, which other work
on the machine moves less, are kept beside them. How many steps a search takes, and how much time it spares in
all, is measured by `benchmarks.search_length`.
`python -m benchmarks.search_speed [--quick] [--json] [--threads N] [--device cuda] [--data DIR] [HOST ...]`;
with hosts named, series and estimate are left out.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from surgeon.search import Config

from benchmarks.isolation import isolated
from benchmarks.record import ROOT, Parts, Target, commit, conclude, machine, say, versions
from benchmarks.search_estimate import estimated
from benchmarks.search_gpu import WARM_UP, gpu_lines, gpu_targets, measured_on_gpu
from benchmarks.search_steps import HPA, WAYS, Case, Place, make_step, seconds_in_turn, step_of
from benchmarks.search_work import Rungs, Work, measured_series

LIMIT = 3000.0  # seconds for one measurement
SOURCES = (
    "search",
    "surgeon/splicing.py",
    "benchmarks/search_estimate.py",
    "benchmarks/search_gpu.py",
    "benchmarks/search_speed.py",
    "benchmarks/search_steps.py",
    "benchmarks/search_work.py",
)


CASES = (
    Case("smp.Unet resnet34", (8, 3, 256, 256), 3),
    Case("MONAI DynUNet 3-D", (2, 1, 64, 64, 64), 1),
    Case(HPA, (8, 1, 128, 128), 3),
)
QUICK = (
    Case("smp.Unet resnet34", (4, 3, 128, 128), 3),
    Case("MONAI DynUNet 3-D", (1, 1, 32, 32, 32), 2),
    Case(HPA, (4, 1, 128, 128), 3),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller images, within ten minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch, on the processor")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds nuclei/hpa.pt2"
    )
    names = [case.name.split()[0] for case in CASES]
    parser.add_argument(
        "names", nargs="*", metavar="HOST", help=f"of {', '.join(names)}; all when none is given"
    )
    options = parser.parse_args(arguments)
    place = Place(options.device, options.threads, options.data)
    parts = Parts(f"search_speed{'_quick' if options.quick else ''}_{place.device}_{place.threads}", SOURCES)
    rows = []
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"no host is called {unknown[0]}")
    for case in QUICK if options.quick else CASES:
        left_out = options.names and case.name.split()[0] not in options.names
        if left_out or (case.name == HPA and not place.hpa.exists()):
            continue
        if case.name not in parts.parts:
            parts.keep(case.name, measured(case, place))
        rows.append(parts.parts[case.name])
        say((line if place.device == "cpu" else gpu_lines)(rows[-1]), options.json)
    rest = {} if options.names else in_all(parts, place, options.json)
    return conclude(summary(rows, rest, options.quick, place), options.json)


def in_all(parts: Parts, place: Place, as_json: bool) -> dict[str, Any]:
    """Measure what is of no one host: the series against work, and the estimate of an operation's time."""
    if "work" not in parts.parts:
        parts.keep("work", isolated(work_seconds, place, limit=LIMIT, start="spawn"))
    if "estimate" not in parts.parts:
        parts.keep("estimate", isolated(estimated, place, limit=LIMIT, start="spawn"))
    say(estimate_line(parts.parts["estimate"]), as_json)
    for name, found in parts.parts["work"].items():
        say(f"seconds a step by {name}: {described(found)}", as_json)
    return {name: parts.parts[name] for name in ("work", "estimate")}


def described(found: dict[str, Any]) -> str:
    """Say a series and the line through it."""
    pairs = zip(found["amounts"], found["seconds"], strict=True)
    points = ", ".join(f"{amount}: {seconds:.3f}" for amount, seconds in pairs)
    return f"{points}; {found['start']:.3g} + {found['slope']:.3g} each, R2 {found['explained']:.3f}"


def measured(case: Case, place: Place) -> dict[str, Any]:
    """Return seconds a step of each way, and the memory that a step of the search needs."""
    if place.device != "cpu":
        found: dict[str, Any] = isolated(measured_on_gpu, case, place, limit=LIMIT, start="spawn")
        return found
    seconds, processor = isolated(step_seconds, case, place, limit=LIMIT, start="spawn")
    memory = {way: isolated(step_memory, case, place, way, limit=LIMIT, start="spawn") for way in WAYS[:2]}
    shape = list(case.shape)
    return {
        "name": case.name,
        "shape": shape,
        "seconds": seconds,
        "processor": processor,
        "memory_kib": memory,
    }


def step_seconds(case: Case, place: Place) -> tuple[dict[str, float], dict[str, float]]:
    """Time the ways in turn, by the clock and on the processor."""
    steps = {way: make_step(case, place, way) for way in WAYS}
    return seconds_in_turn(steps, case.rounds, place.wait)


def step_memory(case: Case, place: Place, way: str) -> int:
    """Return by how many KiB two steps raise the memory of a process that holds the networks already."""
    step = make_step(case, place, way, cache=0.0)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
    before = resident("VmRSS")
    step()
    step()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """Return the memory of this process in KiB: `VmRSS` now, `VmHWM` at its peak."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith(name))


def work_seconds(place: Place) -> dict[str, Any]:
    """Time a search step against the amount of work."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(place.threads)

    def make(work: Work) -> Callable[[], Any]:
        torch.manual_seed(0)
        chosen = tuple(f"s{number}" for number in range(work.skips))
        config = Config.create(architecture_start=0.0, states=work.states, skips=chosen)
        return step_of(Rungs().eval(), (4, 3, work.side, work.side), place, config, "search")

    return measured_series(make, 5, place.wait, 1 if place.device == "cpu" else WARM_UP)


def line(row: dict[str, Any]) -> str:
    """Say what came out for one host."""
    seconds, memory = row["seconds"], row["memory_kib"]
    times = ", ".join(f"{way} {value:.3f}" for way, value in seconds.items())
    mebibytes = ", ".join(f"{way} {value / 1024:.0f}" for way, value in memory.items())
    busy = ", ".join(f"{value:.3f}" for value in row["processor"].values())
    shape = tuple(row["shape"])
    return f"{row['name']} {shape}: seconds a step: {times} (processor {busy}); MiB: {mebibytes}"


def estimate_line(found: dict[str, Any]) -> str:
    """Say what was estimated before an operation, and what it took."""
    return (
        f"an operation: estimated {found['of_what_ran_seconds']:.0f} s (at most"
        f" {found['at_most_seconds']:.0f}), took {found['took_seconds']:.0f} s"
    )


def summary(rows: list[dict[str, Any]], rest: dict[str, Any], quick: bool, place: Place) -> dict[str, Any]:
    """Hold the ratios against their bars."""
    targets = targets_of_all(**rest) if rest else []
    for row in rows:
        targets += cpu_targets(row) if place.device == "cpu" else gpu_targets(row)
    return {
        "benchmark": "search_speed",
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "threads": place.threads,
        "device": place.device,
        "rows": rows,
        **rest,
        "targets": [target.to_dict() for target in targets],
        "not_measured": absent(place),
    }


def targets_of_all(work: dict[str, Any], estimate: dict[str, Any]) -> list[Target]:
    """Hold the estimate and the series against their bars."""
    off = abs(estimate["of_what_ran_seconds"] / estimate["took_seconds"] - 1)
    return [
        Target.at_most("estimate of an operation's time: how far off", round(off, 2), 0.25),
        *(
            Target.at_least(
                f"seconds by {name}: share explained by a line", round(found["explained"], 3), 0.95
            )
            for name, found in work.items()
        ),
    ]


def cpu_targets(row: dict[str, Any]) -> list[Target]:
    """Hold the figures of one host against their bars."""
    seconds, memory, name = row["seconds"], row["memory_kib"], row["name"]
    faster = seconds["reference search"] / seconds["search"]
    smaller = memory["search"] / memory["reference search"]
    training = seconds["derived cells"] / seconds["whole host"]
    return [
        Target.at_least(f"{name}: search step, times faster", round(faster, 2), 3.0),
        Target.at_most(f"{name}: memory of a search step over the reference's", round(smaller, 2), 0.6),
        Target.at_most(f"{name}: cells' training step over the whole host's", round(training, 2), 1.0),
    ]


def absent(place: Place) -> list[str]:
    """Name what could not be measured in this place."""
    found = [] if place.device != "cpu" else ["every figure of a GPU (none was asked for)"]
    if not place.hpa.exists():
        found.append(f"{HPA} as a host ({place.hpa.name} is not in the data)")
    return found


if __name__ == "__main__":
    sys.exit(main())
