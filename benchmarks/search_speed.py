"""How fast is a step of the search, and of training what it found?

Against a straightforward op-by-op PC-DARTS cell in the same host: torch's default layout, the whole host in
every step, gradients of everything that is searched in both half-steps. All ways take turns in one process,
so that a busy machine slows them alike; memory is measured in processes of their own.
`python -m benchmarks.search_speed [--quick] [--json]`.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from surgeon.search import Config
from surgeon.search.assembly import (
    build_architectures,
    build_derived_cells,
    build_search_cells,
    specify_cells,
)
from surgeon.search.bilevel import SearchPhase
from surgeon.search.entrants import fixed_cell
from surgeon.search.features import FeatureCache
from surgeon.search.genotype import CellMerge, Genotype, Inputs, Scope
from surgeon.search.moving import Moving
from surgeon.search.operations import OPERATIONS
from surgeon.search.retraining import TrainingPhase
from surgeon.search.supply import Supply
from torch import Tensor, nn

from benchmarks.isolation import isolated
from benchmarks.record import Parts, Target, commit, conclude, machine, say, versions
from surgeon.data import Batch
from surgeon.scores import Task
from surgeon.scores.tasks import Activation
from surgeon.skips import locate
from surgeon.splicing import splice_trace
from surgeon.tracing import trace

LIMIT = 3000.0  # seconds for one measurement
SOURCES = ("search", "surgeon/splicing.py")
WAYS = ("reference search", "search", "whole host", "derived cells")


@dataclass(frozen=True)
class Case:
    """A host and the images it is trained on."""

    name: str
    shape: tuple[int, ...]
    rounds: int


CASES = (
    Case("smp.Unet resnet34", (8, 3, 256, 256), 3),
    Case("MONAI DynUNet 3-D", (2, 1, 64, 64, 64), 1),
)
QUICK = (
    Case("smp.Unet resnet34", (4, 3, 128, 128), 3),
    Case("MONAI DynUNet 3-D", (1, 1, 32, 32, 32), 2),
)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; returns 0 when all targets hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_speed", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller images, within ten minutes")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    parts = None if options.quick else Parts("search_speed", SOURCES)
    rows = []
    for case in QUICK if options.quick else CASES:
        if parts is None:
            rows.append(measured(case))
        else:
            if case.name not in parts.parts:
                parts.keep(case.name, measured(case))
            rows.append(parts.parts[case.name])
        say(line(rows[-1]), options.json)
    report = summary(rows, options.quick)
    return conclude(report, options.json)


def measured(case: Case) -> dict[str, Any]:
    """Return seconds a step of each way, and the memory that a step of the search needs."""
    seconds = isolated(step_seconds, case, limit=LIMIT, start="spawn")
    memory = {way: isolated(step_memory, case, way, limit=LIMIT, start="spawn") for way in WAYS[:2]}
    return {"name": case.name, "shape": list(case.shape), "seconds": seconds, "memory_kib": memory}


def step_seconds(case: Case) -> dict[str, float]:
    """Time the ways in turn; the first round warms up and fills the cache, as the first epoch does."""
    steps = {way: make_step(case, way) for way in WAYS}
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(case.rounds + 1):
        for way, step in steps.items():
            begin = time.perf_counter()
            step()
            if turn:
                spent[way].append(time.perf_counter() - begin)
    return {way: round(statistics.median(times), 4) for way, times in spent.items()}


def step_memory(case: Case, way: str) -> int:
    """Return by how many KiB two steps raise the memory of a process that holds the networks already."""
    step = make_step(case, way, cache=0.0)
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


def make_step(case: Case, way: str, cache: float = 2.0**31) -> Callable[[], Any]:
    """Build everything for a way, and return a function that makes one step of training."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    host = build_host(case)
    images, label = torch.rand(case.shape), torch.randint(0, 2, (case.shape[0], *case.shape[2:]))
    task = Task(Activation.LOGITS_SIGMOID, ("background", "object"), 1, len(case.shape) - 2)
    if way == "whole host":
        return whole_host_step(host, images, label, task)
    traced = trace(host, images[:1])
    config = Config.create(architecture_start=0.0, cell="reference" if way.startswith("ref") else "batched")
    specs = specify_cells(locate(traced), config, OPERATIONS)
    batches = Repeated(images, label)
    supply = Supply(
        training=batches,  # type: ignore[arg-type]
        validation=batches,  # type: ignore[arg-type]
        cohort=None,  # type: ignore[arg-type]
        task=task,
        device=torch.device("cpu"),
        cache=FeatureCache(cache),
    )
    if way == "derived cells":
        typical = fixed_cell(next(iter(specs.values())), "sep3")
        genotype = Genotype(Scope.SHARED, Inputs.ENCODER, CellMerge.RESIDUAL, 4, (("shared", typical),))
        network = splice_trace(traced, build_derived_cells(specs, genotype, 0, OPERATIONS))
        awake(network)
        moving = Moving(network.get_submodule("implants"), {})
        training = TrainingPhase("retrain", network, moving, supply, config)
        return lambda: training.step(0, 0)
    architectures = build_architectures(specs, config)
    cells = build_search_cells(specs, architectures, config, OPERATIONS)
    network = splice_trace(traced, cells)
    awake(network)
    if way == "search":
        phase = SearchPhase(network, cells, architectures, supply, config)
        return lambda: phase.step(0, 0)
    return reference_step(network.train(), images, label, task)


def awake(network: nn.Module) -> None:
    """Let gradients reach everything: gamma is 0 at birth."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)


def build_host(case: Case) -> nn.Module:
    """Build the host with random weights."""
    if case.name.startswith("smp"):
        import segmentation_models_pytorch as smp

        network: nn.Module = smp.Unet("resnet34", encoder_weights=None, classes=1)
    else:
        from monai.networks.nets import DynUNet

        network = DynUNet(3, 1, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(16, 32, 64, 128))
    return network.eval()


class Repeated:
    """Batches that are the same images every time, as whole images without augmentation are."""

    steps, fixed = 1, True

    def __init__(self, images: Tensor, label: Tensor) -> None:
        self._batch = Batch(images, label, tuple(str(k) for k in range(len(images))))

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch."""
        del epoch, step
        return self._batch


def reference_step(network: nn.Module, images: Tensor, label: Tensor, task: Task) -> Callable[[], Any]:
    """Make a bilevel step as PC-DARTS's public code does it: all gradients in both halves."""
    searched = [p for p in network.parameters() if p.requires_grad]
    names = [name for name, p in network.named_parameters() if p.requires_grad]
    alphas = [p for name, p in zip(names, searched, strict=True) if "architecture" in name]
    weights = [p for name, p in zip(names, searched, strict=True) if "architecture" not in name]
    of_alphas = torch.optim.Adam(alphas, 6e-4, (0.5, 0.999), weight_decay=1e-3)
    of_weights = torch.optim.SGD(weights, 0.05, momentum=0.9, weight_decay=3e-4)

    def step() -> None:
        for optimizer in (of_alphas, of_weights):
            network.zero_grad()
            task.loss(network(images), label).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()

    return step


def whole_host_step(host: nn.Module, images: Tensor, label: Tensor, task: Task) -> Callable[[], Any]:
    """Fine-tune everything of a copy of the host, its norms in eval mode."""
    network = copy.deepcopy(host)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)

    def step() -> None:
        network.zero_grad()
        task.loss(network(images), label).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return step


def line(row: dict[str, Any]) -> str:
    """Say what came out for one host."""
    seconds, memory = row["seconds"], row["memory_kib"]
    times = ", ".join(f"{way} {value:.3f}" for way, value in seconds.items())
    mebibytes = ", ".join(f"{way} {value / 1024:.0f}" for way, value in memory.items())
    return f"{row['name']} {tuple(row['shape'])}: seconds a step: {times}; MiB: {mebibytes}"


def summary(rows: list[dict[str, Any]], quick: bool) -> dict[str, Any]:
    """Hold the ratios against their bars."""
    targets = []
    for row in rows:
        seconds, memory = row["seconds"], row["memory_kib"]
        faster = seconds["reference search"] / seconds["search"]
        smaller = memory["search"] / memory["reference search"]
        training = seconds["derived cells"] / seconds["whole host"]
        targets += [
            Target.at_least(f"{row['name']}: search step, times faster", round(faster, 2), 3.0),
            Target.at_most(
                f"{row['name']}: memory of a search step over the reference's", round(smaller, 2), 0.6
            ),
            Target.at_most(
                f"{row['name']}: cells' training step over the whole host's", round(training, 2), 1.0
            ),
        ]
    return {
        "benchmark": "search_speed",
        "quick": quick,
        "machine": machine(),
        "versions": versions(),
        "commit": commit(),
        "rows": rows,
        "targets": [target.to_dict() for target in targets],
        "not_measured": [
            "every figure of a GPU (none here)",
            "HPA.pth as a host",
            "seconds to the same validation Dice over a full-length schedule",
            "seconds a step for 1 to 8 skips, 2 to 6 states and other image sizes",
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
