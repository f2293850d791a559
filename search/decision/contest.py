"""The short list: entrants trained briefly and compared on validation, before one is trained in full."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from surgeon.scores import Scores, bootstrap_gain

from ..config import Config
from ..entrants import WIDER, Entrant
from ..genotype import Genotype
from .prices import Price
from .trials import Tried

SHARE = 12
"""The first round has one epoch in so many of the full training."""
GROWTH = 3
"""The second round has so many times the epochs, and so many times fewer entrants."""
LEAST_KEPT = 4
"""Large cells start slowly: what is fourth after forty steps may be first after more."""
LEAST_STEPS = 40
"""With fewer steps an entrant has hardly left the host, and would look useless."""


@dataclass(frozen=True, slots=True)
class Standing:
    """An entrant and what came of it.

    Attributes:
        entrant: what it is.
        price: what it adds to the host.
        epochs: of its last round; 0 before any.
        scores: on the validation cases after that round; None before any.
        seconds: spent on it.
        rate: learning rate that it trains with; None for the one that is set.
        refusal: why it may not be recommended; empty when it may.
    """

    entrant: Entrant
    price: Price
    epochs: int = 0
    scores: Scores | None = None
    seconds: float = 0.0
    rate: float | None = None
    refusal: str = ""

    @property
    def dice(self) -> float:
        """Mean validation Dice; minus infinity before any round."""
        return -math.inf if self.scores is None else self.scores.dice_mean


@dataclass(frozen=True, slots=True)
class Choice:
    """What is recommended, and why.

    Attributes:
        name: of the entrant.
        genotype: of the entrant.
        reason: in one sentence.
    """

    name: str
    genotype: Genotype
    reason: str


def first_epochs(config: Config, steps: int) -> int:
    """Return the epochs of the first round: a share of the full training, and never too few steps.

    Args:
        config: of the full training.
        steps: in an epoch.
    """
    share = config.finalist_epochs or math.ceil(config.retrain_epochs / SHARE)
    return min(config.retrain_epochs, max(share, math.ceil(LEAST_STEPS / steps)))


def last_epochs(config: Config, steps: int) -> int:
    """Return the epochs of the second and last round: never more than the full training."""
    return min(GROWTH * first_epochs(config, steps), config.retrain_epochs)


def most_kept(entrants: int) -> int:
    """Return how many of the entrants go into the second round for their Dice alone."""
    return max(LEAST_KEPT, entrants // GROWTH)


def survivors(standings: Sequence[Standing], config: Config) -> tuple[Standing, ...]:
    """Return who goes into the next round: the best third, and the cheapest that is tied with the best.

    The fixed cell of wide kernels always does: it starts slowly, and was the best of all where it had time.

    Args:
        standings: after a round.
        config: margin and seed of the tie.
    """
    allowed = sorted((one for one in standings if not one.refusal), key=lambda one: (-one.dice, one.price))
    kept = list(allowed[: most_kept(len(allowed))])
    cheapest = min(_tied(allowed, config), key=lambda one: one.price, default=None)
    late = [one for one in allowed if one is cheapest or one.entrant.name.startswith(WIDER)]
    return (*kept, *(one for one in late if one not in kept))


def choose(standings: Sequence[Standing], host: Scores, nothing: Entrant, config: Config) -> Choice:
    """Return the cheapest of the last round that is tied with its best, or nothing where none gains enough.

    Two are tied when the 95 % bootstrap interval of their difference over validation subjects holds 0 and
    the mean difference is at most `margin`.

    Args:
        standings: of all rounds.
        host: the host's scores on the validation cases.
        nothing: the host as an entrant.
        config: margin, least gain and seed.
    """
    last = max((one.epochs for one in standings), default=0)
    final = [one for one in standings if one.epochs == last and one.scores is not None and not one.refusal]
    best = max(final, key=lambda one: one.dice, default=None)
    if best is None:
        return Choice(nothing.name, nothing.genotype, "no finalist fits the budget")
    if is_futile(final, host, config):
        gain = best.dice - host.dice_mean
        reason = (
            f"the best finalist, {best.entrant.name}, changes validation Dice by {gain:+.4f}, and none"
            f" can gain {config.margin:g}"
        )
        return Choice(nothing.name, nothing.genotype, reason)
    chosen = min(_tied(final, config), key=lambda one: one.price)
    reason = f"the best of {len(final)} finalists on validation"
    if chosen is not best:
        reason = (
            f"the cheapest of {len(final)} finalists that validation cannot tell from the best,"
            f" {best.entrant.name} ({chosen.dice - best.dice:+.4f})"
        )
    return Choice(chosen.entrant.name, chosen.entrant.genotype, reason)


def _tied(standings: Sequence[Standing], config: Config) -> list[Standing]:
    best = max(standings, key=lambda one: one.dice, default=None)
    if best is None or best.scores is None:
        return list(standings)
    return [one for one in standings if one.scores and is_tied(best.scores, one.scores, config)]


def is_tied(best: Scores, other: Scores, config: Config) -> bool:
    """Tell whether validation subjects cannot tell two entrants apart.

    Args:
        best: scores of the better one.
        other: of the other, on the same cases.
        config: margin and seed.
    """
    gain = bootstrap_gain(other, best, config.seed)
    return gain["dice_mean"] <= config.margin and gain["low"] <= 0


def is_promising(standings: Sequence[Standing], host: Scores, config: Config) -> bool:
    """Tell whether some entrant gains enough on average to be worth a search."""
    return any(one.dice >= host.dice_mean + config.least_gain for one in standings)


def is_futile(standings: Sequence[Standing], host: Scores, config: Config) -> bool:
    """Tell whether every entrant is equivalent to the host, or worse.

    That takes evidence: the upper end of the 95 % interval of each one's gain lies below `margin`. With few
    subjects the intervals are wide, and giving up has to wait.

    Args:
        standings: those that were tried have scores.
        host: scores of the host on the same cases.
        config: margin and seed.
    """
    tried = [one.scores for one in standings if one.scores is not None and not one.refusal]
    return all(bootstrap_gain(host, one, config.seed)["high"] < config.margin for one in tried)


def pareto(standings: Sequence[Standing]) -> frozenset[str]:
    """Name the entrants of the last round that no other beats in Dice at the same price or less."""
    last = max((one.epochs for one in standings), default=0)
    final = sorted((one for one in standings if one.epochs == last), key=lambda one: (one.price, -one.dice))
    front, best = [], -math.inf
    for one in final:
        if one.dice > best:
            front.append(one.entrant.name)
            best = one.dice
    return frozenset(front)


def describe_contest(
    standings: Sequence[Standing], host: Scores, choice: Choice, config: Config
) -> dict[str, Any]:
    """Return the short list as plain JSON, the best first."""
    front = pareto(standings)
    rows = [
        _row(one, host, front, config) for one in sorted(standings, key=lambda one: (-one.epochs, -one.dice))
    ]
    return {
        "recommended": choice.name,
        "reason": choice.reason,
        "host_validation_dice": host.dice_mean,
        "rows": rows,
    }


def _row(one: Standing, host: Scores, front: frozenset[str], config: Config) -> dict[str, Any]:
    gain: Mapping[str, float] = bootstrap_gain(host, one.scores, config.seed) if one.scores else {}
    return {
        "name": one.entrant.name,
        "epochs": one.epochs,
        "validation_dice": one.dice,
        "gain": {key: gain[key] for key in ("dice_mean", "low", "high") if key in gain},
        "parameters": one.price.parameters,
        "flops": one.price.flops,
        "milliseconds": one.price.milliseconds or None,
        "seconds": round(one.seconds, 3),
        "rate": one.rate,
        "refusal": one.refusal,
        "pareto": one.entrant.name in front,
        "genotype": one.entrant.genotype.to_dict(),
    }


def after_round(one: Standing, epochs: int, tried: Tried) -> Standing:
    """Return a standing with the result of another round."""
    seconds = one.seconds + tried.seconds
    return replace(one, epochs=epochs, scores=tried.scores, rate=tried.rate, seconds=seconds)
