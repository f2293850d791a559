"""The search: first-order bilevel steps, as PC-DARTS publishes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.splicing import SplicedNetwork

from ..cells import Architecture, BatchedSearchCell, SearchCell
from ..config import Config
from ..randomness import generator_for
from ..step.descent import cosine, set_rate
from ..step.mirror import architecture_optimizer
from ..step.optimizers import Kind, optimizer_of
from ..step.supply import Supply
from .selection import select_all
from .stability import Watch, dominant_eigenvalue, identity_share

_SGD_RATE = 0.05


def first_moving_epoch(config: Config) -> int:
    """Return the epoch, from 0, in which alpha and beta begin to move."""
    return math.ceil(config.architecture_start * config.epochs)


def step_of_weights(config: Config) -> tuple[Kind, float, float]:
    """Return what moves the search cells' weights, and its rates at the start and the end of a cosine."""
    kind = config.weight_step or ("adamw" if config.weight_rate is None else "sgd")
    if kind == "adamw":
        return kind, config.adamw_rate, 0.0
    return kind, config.weight_rate or _SGD_RATE, config.weight_rate_end


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
        forward = supply.forward(network)
        weights = [weight for cell in cells.values() for weight in cell.weight_parameters()]
        architecture = [weight for one in architectures.values() for weight in one.parameters()]
        kind, self._start, self._end = step_of_weights(config)
        of_weights = optimizer_of(
            kind,
            weights,
            rate=self._start,
            momentum=config.momentum,
            decay=config.weight_decay,
        )
        of_architecture = architecture_optimizer(tuple(architectures.values()), config)
        self._weights = supply.descent(
            forward, supply.training, of_weights, held=architecture, clip=config.clip
        )
        self._architecture = supply.descent(forward, supply.validation, of_architecture, held=weights)
        self._first = first_moving_epoch(config)
        self._watch = Watch(config)
        self.ended = "all epochs were done"

    def begin_epoch(self, epoch: int) -> None:
        """Set the weights' learning rate: a cosine over the epochs."""
        set_rate(self._weights.optimizer, cosine(self._start, self._end, epoch / self.epochs))

    def step(self, epoch: int, step: int) -> Tensor:
        """Make an architecture step (after the first epochs) and a weight step; return the training loss."""
        if not self._network.training:
            self._network.train()
        if self._config.rotate:
            for cell in self._cells.values():
                cell.rotate(epoch * self.steps + step)  # type: ignore[operator]
        if epoch >= self._first:
            self._architecture.put(epoch, step)
            self._decay(epoch)
            self._architecture.follow()
        loss = self._weights.put(epoch, step)
        self._weights.follow()
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
        """Return cells, alpha, beta, the state of both descents, and what was seen of alpha."""
        return {
            "watch": self._watch.state_dict(),
            "ended": self.ended,
            "epochs": self.epochs,
            "cells": self._cells.state_dict(),
            "weights": self._weights.state_dict(),
            "architecture": self._architecture.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._cells.load_state_dict(state["cells"])
        self._watch.load_state_dict(state["watch"])
        self.ended, self.epochs = state["ended"], state["epochs"]
        self._weights.load_state_dict(state["weights"])
        self._architecture.load_state_dict(state["architecture"])
