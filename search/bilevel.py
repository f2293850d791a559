"""The search: first-order bilevel steps, as PC-DARTS publishes them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import Batches, Cohort, Loader, Window
from surgeon.scores import Scores, Task, evaluate
from surgeon.splicing import SplicedNetwork

from .cells import Architecture, BatchedSearchCell, SearchCell
from .config import Config
from .features import FeatureCache
from .fleet import Fleet
from .forward import Forward
from .gradients import Gradients
from .operations import BatchNorm
from .precision import Precision
from .randomness import generator_for
from .selection import select_all
from .stability import Watch, dominant_eigenvalue, identity_share


@dataclass(frozen=True, slots=True)
class Supply:
    """What a phase trains and is measured on.

    Attributes:
        training: batches for the weights.
        validation: batches for architecture weights and validation loss; other subjects.
        cohort: the validation cases, whole, for Dice.
        task: loss and prediction.
        device: where the network is.
        norm_batches: training batches from which BatchNorm statistics are estimated before measuring.
        cache: keeps what the host computes before its implants.
        choosing: whether the validation cases are enough to choose a state of the training by them.
        fleet: the processes that share the batches and the cases.
        precision: in which networks compute.
    """

    training: Batches
    validation: Batches
    cohort: Cohort
    task: Task
    device: torch.device
    norm_batches: int = 0
    cache: FeatureCache = field(default_factory=FeatureCache)
    choosing: bool = True
    fleet: Fleet = field(default_factory=Fleet)
    precision: Precision = Precision.FP32

    def forward(self, network: SplicedNetwork) -> Forward:
        """Return the forward pass of training for a network."""
        with self.computing():
            return Forward(network, self.training, self.device, self.cache)

    def loader(self, batches: Batches) -> Loader:
        """Return what gets batches ready while others are computed on."""
        return Loader(batches, self.training.steps, self.device)

    def computing(self) -> contextlib.AbstractContextManager[object]:
        """Return the block in which networks compute in the operation's precision."""
        return self.precision.computing(self.device)

    def gradients(self) -> Gradients:
        """Return what turns losses into steps."""
        return Gradients(self.fleet, self.precision)

    def loss(self, output: Any, label: Tensor) -> Tensor:
        """Return the loss of the whole batch, of which this process has a share."""
        return self.task.loss(output, label, self.fleet.total)

    def score(self, network: nn.Module, window: Window | None = None) -> Scores:
        """Score a network on the validation cases, shared among the processes."""
        with self.computing():
            return evaluate(
                network, self.cohort, self.task, device=self.device, window=window, peers=self.fleet
            )

    def batch(self, batches: Batches, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return images `(N, C, *spatial)` and labels `(N, *spatial)` of a step, on the device."""
        drawn = batches.batch(epoch, step)
        return drawn.image.to(self.device), drawn.label.to(self.device)

    @torch.no_grad()
    def measure(self, network: nn.Module, epoch: int) -> dict[str, float]:
        """Return the loss on one validation batch and the mean Dice on the validation cases, in eval mode.

        The statistics of the implants' BatchNorm are estimated again first: those that ran along with the
        training lag behind the weights, and after few steps they make a good cell look bad.
        """
        with self.computing():
            self._estimate_norms(network, epoch)
            network.eval()
            image, label = self.batch(self.validation, epoch, 0)
            loss = float(self.loss(network(image), label))
        window = self.cohort.preparation.window
        scores = self.score(network, None if window is None else window.unmirrored())
        return {"validation_loss": loss, "validation_dice": scores.dice_mean}

    def glance(self, cases: int) -> Supply:
        """Return the same with a few of the validation cases, evenly spread."""
        every = max(1, math.ceil(len(self.cohort.cases) / cases))
        return replace(self, cohort=replace(self.cohort, cases=self.cohort.cases[::every]))

    def _estimate_norms(self, network: nn.Module, epoch: int) -> None:
        norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
        if not norms or not self.norm_batches:
            return
        for norm in norms:
            norm.restart()
        network.train()
        for step in range(min(self.norm_batches, self.training.steps)):
            network(self.batch(self.training, epoch, step)[0])


class SearchPhase:
    """Search cells in a frozen host: architecture steps on validation batches, weight steps on training ones.

    Alpha and beta stay where they are for the first share of the epochs (`architecture_start`): operations
    without weights would win before the others have learnt.

    Args:
        network: the host with search cells on its skips.
        cells: the cells by skip id.
        architectures: alpha and beta by name: one for each skip, or one named `shared`.
        supply: batches, cases and loss.
        config: rates, epochs and steps.
    """

    name = "search"

    def __init__(
        self,
        network: SplicedNetwork,
        cells: Mapping[str, SearchCell | BatchedSearchCell],
        architectures: Mapping[str, Architecture],
        supply: Supply,
        config: Config,
    ) -> None:
        self.epochs = config.epochs
        self.steps = supply.training.steps
        self._network, self._cells, self._architectures = network, nn.ModuleDict(cells), architectures
        self._supply, self._config = supply, config
        self._forward = supply.forward(network)
        self._weights = [weight for cell in cells.values() for weight in cell.weight_parameters()]
        self._architecture = [weight for one in architectures.values() for weight in one.parameters()]
        self._weight_optimizer = torch.optim.SGD(
            self._weights, lr=config.weight_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self._architecture_optimizer = torch.optim.Adam(
            self._architecture,
            lr=config.architecture_rate,
            betas=(0.5, 0.999),
            weight_decay=config.architecture_decay,
        )
        self._gradients = supply.gradients()
        self._training, self._validation = supply.loader(supply.training), supply.loader(supply.validation)
        self._first = math.ceil(config.architecture_start * config.epochs)
        self._watch = Watch(config)
        self.ended = "all epochs were done"

    def begin_epoch(self, epoch: int) -> None:
        """Set the weights' learning rate: a cosine over the epochs."""
        rate = cosine(self._config.weight_rate, self._config.weight_rate_end, epoch / self.epochs)
        set_rate(self._weight_optimizer, rate)

    def step(self, epoch: int, step: int) -> float:
        """Make an architecture step (after the first epochs) and a weight step; return the training loss."""
        self._network.train()
        if self._config.rotate:
            for cell in self._cells.values():
                cell.rotate(epoch * self.steps + step)  # type: ignore[operator]
        if epoch >= self._first:
            self._descend(self._validation, epoch, step, self._architecture_optimizer)
            self._decay(epoch)
            self._gradients.follow(self._architecture_optimizer)
        loss = self._descend(self._training, epoch, step, self._weight_optimizer)
        nn.utils.clip_grad_norm_(self._weights, self._config.clip)
        self._gradients.follow(self._weight_optimizer)
        return loss

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Measure on the validation cases; add the architecture weights."""
        for cell in self._cells.values():
            cell.rotate(0)  # type: ignore[operator]
        measured = self._supply.measure(self._network, epoch)
        if epoch >= self._first:
            measured |= self._judge(epoch)
        weights = {name: one.to_dict() for name, one in self._architectures.items()}
        return {
            **measured,
            "alphas": {name: alphas for name, (alphas, _) in weights.items()},
            "betas": {name: betas for name, (_, betas) in weights.items()},
        }

    def _judge(self, epoch: int) -> dict[str, float]:
        """Look at what the epoch made of alpha; where it is enough, end the search by ending its epochs."""
        measured = {}
        if self._config.hessian:
            image, label = self._supply.batch(self._supply.validation, epoch, 0)
            loss = self._supply.loss(self._network(image), label)
            generator = generator_for(self._config.seed, f"eigenvalue {epoch}")
            alphas = [one.alpha for one in self._architectures.values()]
            measured["eigenvalue"] = dominant_eigenvalue(loss, alphas, generator, self._supply.fleet)
        found = select_all(
            {name: cell.spec for name, cell in self._cells.items()},  # type: ignore[misc]
            self._architectures,
            scope=self._config.genotype,
            merge=self._config.merge,
            inputs=self._config.inputs,
        )
        reason = self._watch.see(self._architectures, identity_share(found), measured.get("eigenvalue"))
        if reason:
            self.ended, self.epochs = reason, epoch + 1
        return measured

    def _decay(self, epoch: int) -> None:
        """Add the gradient of beta-decay, whose weight grows with the epochs (arXiv 2203.01665)."""
        if not self._config.beta_decay:
            return
        weight = self._config.beta_decay * (epoch + 1) / self._config.epochs
        for one in self._architectures.values():
            loss = weight * one.alpha.logsumexp(1).mean()
            (gradient,) = torch.autograd.grad(loss, one.alpha)
            one.alpha.grad = gradient if one.alpha.grad is None else one.alpha.grad + gradient

    def state_dict(self) -> dict[str, Any]:
        """Return cells, alpha, beta, the state of both optimizers, and what was seen of alpha."""
        return {
            "watch": self._watch.state_dict(),
            "ended": self.ended,
            "epochs": self.epochs,
            "cells": self._cells.state_dict(),
            "weight_optimizer": self._weight_optimizer.state_dict(),
            "architecture_optimizer": self._architecture_optimizer.state_dict(),
            "gradients": self._gradients.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._cells.load_state_dict(state["cells"])
        self._watch.load_state_dict(state["watch"])
        self.ended, self.epochs = state["ended"], state["epochs"]
        self._weight_optimizer.load_state_dict(state["weight_optimizer"])
        self._architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self._gradients.load_state_dict(state["gradients"])

    def _descend(self, batches: Loader, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> float:
        """Put the gradients of a batch's loss on an optimizer's parameters alone, and return the loss."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        wanted = {id(parameter) for parameter in parameters}
        with held(one for one in (*self._weights, *self._architecture) if id(one) not in wanted):
            with self._supply.computing():
                output, label = self._forward(batches, epoch, step)
            return self._gradients.put(self._supply.loss(output, label), parameters, optimizer)


@contextlib.contextmanager
def held(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let no gradients be computed for some parameters inside the block."""
    still = list(parameters)
    for parameter in still:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(True)


def cosine(start: float, end: float, share: float) -> float:
    """Return the rate at a share 0..1 of the way from start to end, on half a cosine.

    >>> cosine(1.0, 0.0, 0.0), round(cosine(1.0, 0.0, 0.5), 3)
    (1.0, 0.5)
    """
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def set_rate(optimizer: torch.optim.Optimizer, rate: float, factors: Iterable[float] = ()) -> None:
    """Set the learning rate of every parameter group, times the group's factor where factors are given."""
    scales = tuple(factors) or (1.0,) * len(optimizer.param_groups)
    for group, factor in zip(optimizer.param_groups, scales, strict=True):
        group["lr"] = rate * factor
