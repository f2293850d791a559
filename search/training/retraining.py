"""Training what was implanted, in the frozen host, keeping the state that is best on the validation cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from surgeon.splicing import SplicedNetwork

from ..config import Config
from ..step.descent import cosine, set_rate
from ..step.optimizers import optimizer_of
from ..step.supply import Supply


class TrainingPhase:
    """Train the implants of a frozen host; the state before training competes as well.

    With the residual merge the state before training is the host itself, so on the validation cases the
    result is never below the host. Where the validation cases are too few to choose by (`supply.choosing`),
    or are to judge what comes of it, the last state is kept.

    Args:
        name: `retrain`, or the name of a baseline.
        network: the host with its implants.
        implants: the modules to train, and what of the host is trained with them (`Moving`).
        supply: batches, cases and loss.
        config: rates, epochs and steps.
    """

    def __init__(
        self, name: str, network: SplicedNetwork, implants: nn.Module, supply: Supply, config: Config
    ) -> None:
        self.name = name
        self.epochs = config.retrain_epochs
        self.steps = supply.training.steps
        self._network, self._implants, self._supply, self._config = network, implants, supply, config
        self._factors = (1.0, config.gamma_factor, config.host_factor)
        self._descent = supply.descent(
            supply.forward(network), supply.training, _optimizer(implants, config), clip=config.clip
        )
        self._best: dict[str, Tensor] | None = None
        self._best_dice = self._first_dice = float("-inf")
        self._best_epoch = 0

    def facts(self) -> dict[str, float]:
        """Return the epoch (from 1; 0 is the state before training) that was best on the validation cases.

        Beside it the Dice there, and the Dice before training.
        """
        return {
            "best_epoch": self._best_epoch,
            "validation_dice_before": self._first_dice,
            "validation_dice": self._best_dice,
        }

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rates: a cosine to 0 over the epochs; measure the state before the first epoch."""
        rate = cosine(self._config.retrain_rate, 0.0, epoch / self.epochs)
        set_rate(self._descent.optimizer, rate, self._factors)
        if epoch == 0 and self._best is None:
            self._first_dice = self._supply.measure(self._network, 0)["validation_dice"]
            self._keep(self._first_dice, 0)

    def step(self, epoch: int, step: int) -> Tensor:
        """Make one step on a training batch and return its loss."""
        if not self._network.training:
            self._network.train()
        loss = self._descent.put(epoch, step)
        self._descent.follow()
        return loss

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Measure on the validation cases, and keep the state if it is the best so far."""
        measured = self._supply.measure(self._network, epoch)
        self._keep(measured["validation_dice"], epoch + 1)
        return measured

    def finish(self) -> None:
        """Bring back the best state, in eval mode."""
        if self._best is not None:
            self._implants.load_state_dict(self._best)
        self._network.eval()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer state and the best state so far."""
        return {
            "implants": self._implants.state_dict(),
            "descent": self._descent.state_dict(),
            "best": self._best,
            "best_dice": self._best_dice,
            "best_epoch": self._best_epoch,
            "first_dice": self._first_dice,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._implants.load_state_dict(state["implants"])
        self._descent.load_state_dict(state["descent"])
        self._best, self._best_dice, self._best_epoch = state["best"], state["best_dice"], state["best_epoch"]
        self._first_dice = state["first_dice"]

    def _keep(self, dice: float, epoch: int) -> None:
        if dice > self._best_dice or not self._supply.choosing:
            self._best = {name: value.clone() for name, value in self._implants.state_dict().items()}
            self._best_dice, self._best_epoch = dice, epoch


def _optimizer(implants: nn.Module, config: Config) -> torch.optim.Optimizer:
    kinds: dict[str, list[nn.Parameter]] = {"others": [], "gamma": [], "host": []}
    for name, parameter in implants.named_parameters():
        last = name.rpartition(".")[2]
        kinds["host" if name.startswith("host.") else "gamma" if last == "gamma" else "others"].append(
            parameter
        )
    # Weight decay would pull gamma back to 0, to the host, whatever the data say.
    groups = [
        {"params": kinds["others"], "weight_decay": config.retrain_decay},
        {"params": kinds["gamma"], "weight_decay": 0.0},
        {"params": kinds["host"], "weight_decay": config.retrain_decay},
    ]
    return optimizer_of(config.retrain_optimizer, groups, rate=config.retrain_rate, momentum=config.momentum)
