"""What a phase trains and is measured on: batches, cases, loss, and how they are computed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.data import Batches, Cohort, Loader, Window
from surgeon.scores import Scores, Task, evaluate
from surgeon.splicing import SplicedNetwork

from ..fleet import Fleet
from ..norms import BatchNorm
from .bill import Clock
from .compiling import Compiler
from .descent import Descent
from .features import FeatureCache
from .forward import Forward
from .gradients import Gradients
from .precision import Precision
from .recording import Ledger, Recorder


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
        memory: bytes that a batch of a step may keep for the gradients before activations are computed again.
        clock: told of what the time of training goes to.
        compiler: of what the frozen host computes; None compiles nothing.
        ledger: of the passes that are recorded and replayed; None records none.
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
    memory: float = math.inf
    clock: Clock = field(default_factory=Clock)
    compiler: Compiler | None = None
    ledger: Ledger | None = None

    def forward(self, network: SplicedNetwork) -> Forward:
        """Return the forward pass of training for a network."""
        with self.computing():
            return Forward(
                network,
                self.training,
                self.device,
                self.cache,
                memory=self.memory,
                clock=self.clock,
                compiler=self.compiler,
            )

    def descent(
        self,
        forward: Forward,
        batches: Batches,
        optimizer: torch.optim.Optimizer,
        *,
        held: Sequence[nn.Parameter] = (),
        clip: float | None = None,
    ) -> Descent:
        """Return what moves an optimizer's parameters; see `Descent`."""
        ledger = self.ledger
        return Descent(
            forward,
            Loader(batches, self.training.steps, self.device),
            self.loss,
            optimizer,
            Gradients(self.fleet, self.precision, self.clock),
            self.computing,
            held,
            clip,
            None if ledger is None else Recorder(forward.halves.network, ledger, self.clock),
        )

    def computing(self) -> contextlib.AbstractContextManager[object]:
        """Return the block in which networks compute in the operation's precision."""
        return self.precision.computing(self.device)

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
    def measure(self, network: nn.Module, epoch: int, batches: int = 1) -> dict[str, float]:
        """Return the mean loss on validation batches and the mean Dice on the cases, in eval mode.

        The statistics of the implants' BatchNorm are estimated again first: those that ran along with the
        training lag behind the weights, and after few steps they make a good cell look bad.

        Args:
            network: the host with its implants.
            epoch: from which batches are drawn.
            batches: of the loss, at most.
        """
        with self.computing():
            self._estimate_norms(network, epoch)
            network.eval()
            most = min(batches, len(self.validation))
            drawn = (self.batch(self.validation, epoch, step) for step in range(most))
            loss = fmean(float(self.loss(network(image), label)) for image, label in drawn)
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
