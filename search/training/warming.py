"""When the weights of new search cells have learnt enough for alpha and beta to move.

Before that, operations without weights would win: those with weights are still noise. The published schedule
rests for a fixed share of its epochs; the reason for the rest has gone as soon as the training loss no longer
falls as it did at first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from ..config import Config


def latest_moving_epoch(config: Config) -> int:
    """Return the epoch, from 0, in which alpha and beta begin to move at the latest."""
    return math.ceil(config.architecture_start * config.epochs)


def earliest_moving_epoch(config: Config) -> int:
    """Return the epoch, from 0, in which alpha and beta begin to move at the earliest."""
    latest = latest_moving_epoch(config)
    return min(latest, 2 * config.warm_window) if config.early else latest


@dataclass(slots=True)
class Warming:
    """The training losses while alpha and beta rest, and the epoch in which they begin to move.

    Attributes:
        config: how long they rest at most, and what counts as having learnt.
        losses: means of the epochs so far.
        first: the epoch, from 0, in which alpha and beta begin to move.
    """

    config: Config
    losses: list[float] = field(default_factory=list)
    first: int = field(init=False)

    def __post_init__(self) -> None:
        self.first = latest_moving_epoch(self.config)

    def see(self, loss: float) -> None:
        """Take in the mean training loss of an epoch in which alpha and beta rested."""
        self.losses.append(loss)
        if len(self.losses) >= earliest_moving_epoch(self.config) and self._has_learnt():
            self.first = min(self.first, len(self.losses))

    def _has_learnt(self) -> bool:
        """Tell whether little of all that the loss has fallen fell from the window before to the last one."""
        window = self.config.warm_window
        if len(self.losses) < 2 * window:
            return False
        before, now = fmean(self.losses[-2 * window : -window]), fmean(self.losses[-window:])
        return before - now <= self.config.warm_share * max(0.0, self.losses[0] - now)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"losses": list(self.losses), "first": self.first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.losses, self.first = list(state["losses"]), state["first"]
