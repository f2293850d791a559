"""The last doubts: what was chosen is trained in full, and dropped or made less where validation says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import nn

from surgeon.data import Cohort
from surgeon.scores import Scores, bootstrap_gain

from ..entrants import nothing
from ..genotype import Genotype
from ..planning import Plan
from ..step.supply import Supply
from ..training.loop import Loop, Position
from ..training.stages import Trained, train_genotype
from .contest import Choice, Standing
from .prices import Prices

_LESS = 5e-4
"""Mean Dice by which the cell on a skip must be missed, or it goes where that is certain."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is recommended in the end.

    Attributes:
        genotype: what goes onto which skip.
        trained: the network with it.
        choice: the choice of the short list, or nothing with the reason why.
    """

    genotype: Genotype
    trained: Trained
    choice: Choice


class Settling:
    """Trains what the short list chose, and doubts it.

    Args:
        plan: host and data.
        supply: batches, cases and loss.
        loop: what runs the phases.
        prices: of everything that can be put onto the skips.

    Attributes:
        host: scores of the host on the validation cases.
    """

    def __init__(self, plan: Plan, supply: Supply, loop: Loop, prices: Prices) -> None:
        self._plan, self._supply, self._loop, self._prices = plan, supply, loop, prices
        self.host = self.scores(plan.host)

    def settle(self, choice: Choice, standing: Standing | None, host: Scores) -> Settled:
        """Train what was chosen in full; go back to the host if the evidence does not bear it out.

        Args:
            choice: of the short list.
            standing: of what was chosen, by those who judged it; None for nothing.
            host: scores of the host by the same.
        """
        if standing is None:
            return self._drop(choice)
        trained = self._train(choice.genotype, standing.rate)
        doubt = self._doubt(trained, standing, host)
        if doubt:
            return self._drop(replace(choice, name="nothing", reason=f"{choice.name}, {doubt}"))
        genotype, trained = self.thinned(choice.genotype, trained)
        return Settled(genotype, trained, choice)

    def _train(self, genotype: Genotype, rate: float | None) -> Trained:
        rate = rate or self._plan.config.retrain_rate
        config = self._plan.config.model_copy(update={"retrain_rate": rate})
        trained = train_genotype("retrain", self._plan, self._supply, self._loop, genotype, config=config)
        return replace(trained, facts={**trained.facts, "retrain_rate": rate})

    def _doubt(self, trained: Trained, standing: Standing, host: Scores) -> str:
        """Say why what was trained may be worth nothing; empty where it is worth it.

        Enough validation subjects decide alone. Fewer can only object: then the crosswise judgement of all
        subjects decides, as long as the few do not find the host better.
        """
        config = self._plan.config
        here = bootstrap_gain(self.host, self.scores(trained.network), config.seed)
        words = f"{here['dice_mean']:+.4f} ({here['low']:+.4f} to {here['high']:+.4f}) on validation"
        if self._is_certain(here):
            return ""
        if self._supply.choosing or standing.scores is None:
            return f"trained in full, gains {words}, which may be nothing"
        if here["dice_mean"] < -config.margin:
            return f"trained in full, gains {words}: the host is better there"
        gain = bootstrap_gain(host, standing.scores, config.seed)
        if self._is_certain(gain):
            return ""
        return (
            f"trained crosswise, gains {gain['dice_mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}),"
            " which may be nothing"
        )

    def _is_certain(self, gain: Mapping[str, float]) -> bool:
        return gain["low"] > 0 and gain["dice_mean"] >= self._plan.config.least_gain

    def gains(self, scores: Scores) -> bool:
        """Tell whether validation is certain that something is better than the host."""
        return self._is_certain(bootstrap_gain(self.host, scores, self._plan.config.seed))

    def _drop(self, choice: Choice) -> Settled:
        facts = dict.fromkeys(("validation_dice_before", "validation_dice"), self.host.dice_mean)
        untouched = Trained(self._plan.splice({}), Position(), {"best_epoch": 0, **facts})
        return Settled(nothing(self._plan.config).genotype, untouched, choice)

    def thinned(self, genotype: Genotype, trained: Trained) -> tuple[Genotype, Trained]:
        """Take away, the dearest first, what is not missed on a skip.

        Args:
            genotype: what was trained.
            trained: the network with it, trained in full.
        """
        left: dict[str, nn.Module] = dict(trained.network.get_submodule("implants").named_children())
        network, whole = trained.network, self._judged(trained.network)
        prices = {skip_id: self._prices.of_cell(skip_id, genotype.cell(skip_id)) for skip_id in left}
        for skip_id in sorted(left, key=lambda skip_id: prices[skip_id], reverse=True):
            others = {name: module for name, module in left.items() if name != skip_id}
            if not others:
                break
            thinner = self._plan.splice(others)
            thinner.load_state_dict(trained.network.state_dict(), strict=False)
            if not self._is_missed(whole, self._judged(thinner)):
                left, network = others, thinner
        dropped = prices.keys() - left.keys()
        if not dropped:
            return genotype, trained
        reached = self.scores(network).dice_mean
        facts = {**trained.facts, "validation_dice": reached, "taken_away": sorted(dropped)}
        return genotype.without(dropped, self._plan.specs), replace(trained, network=network, facts=facts)

    def _is_missed(self, whole: Scores, thinner: Scores) -> bool:
        """Tell whether what was taken away may have been worth something.

        That nobody misses it takes evidence: the lower end of the 95 % interval of the change lies above
        `-margin`. A mean over few subjects hides what one in three of them loses.
        """
        change = bootstrap_gain(whole, thinner, self._plan.config.seed)
        return change["dice_mean"] < -_LESS or change["low"] < -self._plan.config.margin

    def _judged(self, network: nn.Module) -> Scores:
        """Score a network on those who say whether a cell is missed.

        Where validation subjects are few, training ones count too: that leans towards keeping what they
        trained.
        """
        splits = self._plan.splits
        every = self._plan.cohort.select((*splits.train, *splits.validation))
        return self.scores(network, None if self._supply.choosing else every)

    def scores(self, network: nn.Module, cohort: Cohort | None = None) -> Scores:
        """Score a network on cases; None takes those of validation.

        Raises:
            Stopped: the user stopped it.
        """
        self._loop.check_stop()
        return replace(self._supply, cohort=cohort or self._supply.cohort).score(network)
