"""The steps that `benchmarks.search_speed` compares, each in a place of its own."""

from __future__ import annotations

import copy
import functools
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
from surgeon.search.entrants import fixed_cell
from surgeon.search.genotype import CellMerge, Genotype, Inputs, Scope
from surgeon.search.operations import OPERATIONS
from surgeon.search.step.descent import Computing
from surgeon.search.step.features import FeatureCache
from surgeon.search.step.moving import Moving
from surgeon.search.step.precision import Precision
from surgeon.search.step.recording import cuda_ledger
from surgeon.search.step.supply import Supply
from surgeon.search.training.bilevel import SearchPhase
from surgeon.search.training.retraining import TrainingPhase
from torch import Tensor, nn

from surgeon.data import Batch, digest_of
from surgeon.hosts.opening import open_host
from surgeon.scores import Task
from surgeon.scores.tasks import Activation
from surgeon.skips import locate
from surgeon.splicing import splice_trace
from surgeon.tracing import Trace, trace

HPA = "HPA.pth"
WAYS = ("reference search", "search", "whole host", "derived cells")


@dataclass(frozen=True)
class Case:
    """A host and the images it is trained on."""

    name: str
    shape: tuple[int, ...]
    rounds: int


@dataclass(frozen=True)
class Place:
    """Where it is measured, and where the data are."""

    device: str
    threads: int
    data: Path
    precision: Precision = Precision.FP32

    @property
    def hpa(self) -> Path:
        """The exported program with the weights of HPA.pth."""
        return self.data / "nuclei" / "hpa.pt2"

    def wait(self) -> None:
        """Wait until a GPU has done what it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()


def make_step(
    case: Case, place: Place, way: str, cache: float = 2.0**31, *, recorded: bool = True
) -> Callable[[], Any]:
    """Build everything for a way, and return a function that makes one step of training.

    On a GPU our own ways are replayed from recordings, unless that is not wanted.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(place.threads)
    torch.manual_seed(0)
    host, traced = traced_host(case, place.device, place.hpa)
    config = Config.create(architecture_start=0.0, cell="reference" if way.startswith("ref") else "batched")
    return step_of(host, case.shape, place, config, way, traced=traced, cache=cache, recorded=recorded)


@functools.cache
def traced_host(case: Case, device: str, hpa: Path) -> tuple[nn.Module, Trace]:
    """Return a host on a device, and its trace: all ways begin with copies of the same."""
    host = build_host(case, hpa).to(device)
    return host, trace(copy.deepcopy(host), torch.rand(1, *case.shape[1:], device=device))


def step_of(
    host: nn.Module,
    shape: tuple[int, ...],
    place: Place,
    config: Config,
    way: str,
    *,
    traced: Trace | None = None,
    cache: float = 2.0**31,
    recorded: bool = True,
) -> Callable[[], Any]:
    """Return a function that makes one step of training a host in a way."""
    device = torch.device(place.device)
    host = host.to(device)
    images, label = torch.rand(shape), torch.randint(0, 2, (shape[0], *shape[2:]))
    with torch.no_grad():
        inside = bool(host(images[:1].to(device)).min() >= 0)
    activation = Activation.PROBABILITIES if inside else Activation.LOGITS_SIGMOID
    task = Task(activation, ("background", "object"), 1, len(shape) - 2)
    computing = partial(place.precision.computing, device)
    if way == "whole host":
        return whole_host_step(host, images.to(device), label.to(device), task, computing)
    traced = traced or trace(host, images[:1].to(device))
    specs = specify_cells(locate(traced), config, OPERATIONS)
    batches = Repeated(images, label)
    supply = Supply(
        training=batches,  # type: ignore[arg-type]
        validation=batches,  # type: ignore[arg-type]
        cohort=None,  # type: ignore[arg-type]
        task=task,
        device=device,
        cache=FeatureCache(cache),
        precision=place.precision,
        ledger=cuda_ledger(always=True) if recorded and device.type == "cuda" else None,
    )
    if way == "derived cells":
        typical = fixed_cell(next(iter(specs.values())), "sep3")
        genotype = Genotype(Scope.SHARED, Inputs.ENCODER, CellMerge.RESIDUAL, 4, (("shared", typical),))
        network = splice_trace(traced, build_derived_cells(specs, genotype, 0, OPERATIONS)).to(device)
        awake(network)
        moving = Moving(network.get_submodule("implants"), {})
        training = TrainingPhase("retrain", network, moving, supply, config)
        return lambda: training.step(0, 0)
    architectures = build_architectures(specs, config)
    cells = build_search_cells(specs, architectures, config, OPERATIONS)
    network = splice_trace(traced, cells).to(device)
    awake(network)
    if way == "search":
        phase = SearchPhase(network, cells, architectures, supply, config)
        return lambda: phase.step(0, 0)
    return reference_step(network.train(), images.to(device), label.to(device), task, computing)


def seconds_in_turn(
    steps: Mapping[str, Callable[[], Any]], rounds: int, wait: Callable[[], None], warm_up: int = 1
) -> tuple[dict[str, float], dict[str, float]]:
    """Time ways in turn, and return medians by the clock and on the processor.

    The first rounds warm up and fill the cache, as the first epoch does.
    """
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in steps}
    for turn in range(warm_up + rounds):
        for way, step in steps.items():
            begin = time.perf_counter(), time.process_time()
            step()
            wait()
            if turn >= warm_up:
                spent[way].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    by_clock, processor = (
        {way: round(statistics.median(pair[k] for pair in pairs), 4) for way, pairs in spent.items()}
        for k in (0, 1)
    )
    return by_clock, processor


def awake(network: nn.Module) -> None:
    """Let gradients reach everything: gamma is 0 at birth."""
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.1)


def build_host(case: Case, hpa: Path) -> nn.Module:
    """Build the host: with random weights, or HPA.pth with its own."""
    if case.name == HPA:
        program: nn.Module = open_host(str(hpa)).module
        return program
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
        names = tuple(str(k) for k in range(len(images)))
        self._batch = Batch(images, label, names, tuple(digest_of(image) for image in images))

    def batch(self, epoch: int, step: int) -> Batch:
        """Return the batch."""
        del epoch, step
        return self._batch


def reference_step(
    network: nn.Module, images: Tensor, label: Tensor, task: Task, computing: Computing
) -> Callable[[], Any]:
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
            with computing():
                output = network(images)
            task.loss(output, label).backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()

    return step


def whole_host_step(
    host: nn.Module, images: Tensor, label: Tensor, task: Task, computing: Computing
) -> Callable[[], Any]:
    """Fine-tune everything of a copy of the host, its norms in eval mode."""
    network = copy.deepcopy(host)
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)

    def step() -> None:
        network.zero_grad()
        with computing():
            output = network(images)
        task.loss(output, label).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()

    return step
