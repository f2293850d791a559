"""Hosts that are trained here, from nothing, on training subjects alone; kept under `build/` by a digest."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.record import ROOT
from surgeon.data import Batches, Cohort
from surgeon.scores import read_task

KEPT = ROOT / "build" / "benchmarks" / "hosts"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a host is trained.

    Attributes:
        steps: of AdamW with a cosine to 0.
        crop: spatial size of a training patch.
        batch_size: patches in a batch.
        rate: learning rate at the start.
        stop: share of the steps after which training is stopped: below 1 for a host stopped early.
    """

    steps: int
    crop: tuple[int, ...]
    batch_size: int
    rate: float = 3e-3
    stop: float = 1.0


def trained_host(
    build: Callable[[], nn.Module], cohort: Cohort, recipe: Recipe, seed: int, folder: Path = KEPT
) -> nn.Module:
    """Train a network on every case of a cohort, or read what was trained like that before.

    Args:
        build: makes the network.
        cohort: the training subjects, and nobody else.
        recipe: steps, patches and rate.
        seed: of the weights and the batches.
        folder: where weights are kept.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build()
        path = folder / f"{_digest(build, cohort, recipe, seed)}.pt"
        if path.exists():
            network.load_state_dict(torch.load(path, weights_only=True))
            return network.eval()
        _train(network, cohort, recipe, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network.eval()


def _train(network: nn.Module, cohort: Cohort, recipe: Recipe, seed: int) -> None:
    batches = Batches(cohort, recipe.crop, recipe.batch_size, seed=seed, steps=recipe.steps)
    task = read_task(network.eval(), batches.batch(0, 0).image[:1], cohort)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    network.train()
    for step in range(round(recipe.stop * recipe.steps)):
        batch = batches.batch(0, step)
        loss = task.loss(network(batch.image), batch.label)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()


def _digest(build: Callable[[], nn.Module], cohort: Cohort, recipe: Recipe, seed: int) -> str:
    """Return a digest of everything that the weights depend on; of the images it takes names, not bytes."""
    source = inspect.getsource(build), inspect.getsource(_train)
    known = (*source, asdict(recipe), seed, torch.__version__, cohort.preparation, cohort.subjects)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:16]
