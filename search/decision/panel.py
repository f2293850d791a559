"""Who trains the entrants of the short list, and who judges them.

Where enough subjects were held out, entrants are trained on the training subjects and judged by the others.
With fewer, those few may all be ones on which the host is right already, or all wrong: then training and
validation subjects are put together and dealt into folds, each entrant is trained once for each fold on
everybody else, and every subject judges networks that never saw it (cross-fitting). The test subjects have no
part in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from surgeon.data import Splits
from surgeon.scores import Scores

from ..planning import Plan
from ..randomness import seed_for
from ..step.supply import Supply

FOLDS = 3


@dataclass(frozen=True, slots=True)
class Panel:
    """The supplies that entrants are trained and judged on.

    Attributes:
        supplies: one for each fold; a single one where enough subjects were held out.
    """

    supplies: tuple[Supply, ...]

    @property
    def crosswise(self) -> bool:
        """Whether every subject of training and validation judges."""
        return len(self.supplies) > 1

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: how many subjects judge, and in how many folds."""
        return {
            "subjects": sum(len(one.cohort.subjects) for one in self.supplies),
            "folds": len(self.supplies),
        }

    def judge(self, networks: Sequence[nn.Module]) -> Scores:
        """Score networks, one for each fold, on the subjects that are held out in it."""
        pairs = zip(networks, self.supplies, strict=True)
        return Scores.together([supply.score(network) for network, supply in pairs])

    def judge_one(self, network: nn.Module) -> Scores:
        """Score one network on all subjects of the panel."""
        return self.judge([network] * len(self.supplies))


def seat_panel(plan: Plan, supply: Supply) -> Panel:
    """Return the panel of a plan.

    No state of an entrant is chosen by those who judge it: what its last step left is judged.

    Args:
        plan: with its splits, and how few subjects are too few (`crosswise_below`).
        supply: of the plan.
    """
    alone = (replace(supply, choosing=False),)
    if supply.choosing:
        return Panel(alone)
    folds = deal_folds(plan)
    return Panel(
        tuple(
            replace(
                plan.supply_of(fold),
                cache=supply.cache,
                clock=supply.clock,
                compiler=supply.compiler,
                choosing=False,
            )
            for fold in folds
        )
    )


def deal_folds(plan: Plan) -> tuple[Splits, ...]:
    """Deal the subjects of training and validation out to folds, each with its share of every stratum."""
    strata = plan.cohort.strata
    pool = sorted((*plan.splits.train, *plan.splits.validation))
    order = np.random.default_rng(seed_for(plan.config.seed, "folds")).permutation(len(pool))
    dealt = sorted((pool[place] for place in order), key=lambda subject: strata[subject])
    held = [frozenset(dealt[start::FOLDS]) for start in range(min(FOLDS, len(dealt)))]
    return tuple(
        Splits(tuple(s for s in pool if s not in fold), tuple(sorted(fold)), plan.splits.test)
        for fold in held
    )
