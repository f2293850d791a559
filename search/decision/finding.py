"""From a plan to the network that is recommended: the short list, the training in full, the last doubts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..entrants import FIXED, Entrant, nothing, plain_entrants, random_entrants, wider_entrants
from ..genotype import Genotype
from ..planning import Plan
from ..randomness import seeded
from ..step.supply import Supply
from ..training.loop import Loop, Position
from ..training.stages import Searched, Trained, search_cells, train_genotype
from .contest import (
    Standing,
    after_round,
    choose,
    describe_contest,
    first_epochs,
    is_futile,
    is_promising,
    last_epochs,
    survivors,
)
from .fitting import fit_genotype
from .panel import seat_panel
from .perturbation import BATCHES, select_by_perturbation
from .prices import Budget, Price, Prices
from .settling import Settling
from .timings import Timings, known_prices, price_of
from .trials import Trials

_DRAWS = 200
"""Random cells that are drawn at most to find some that fit the budget."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is recommended for a host.

    Attributes:
        genotype: what goes onto which skip.
        trained: the network with it, trained.
        search: how long the search took.
        ended: why it ended.
        contest: the short list, as plain JSON; None where there was none.
        prices: what everything costs; None where nobody asked.
        beside: seconds of other trainings that it was chosen from (`reconsider`).
    """

    genotype: Genotype
    trained: Trained
    search: Position
    ended: str
    contest: dict[str, Any] | None = None
    prices: Prices | None = None
    beside: float = 0.0

    @property
    def trained_name(self) -> str:
        """Name of the entrant that was trained in full; empty where there was no short list."""
        return str((self.contest or {}).get("trained", ""))

    @property
    def seconds(self) -> float:
        """Time of everything that trained: the search, the short list, what was trained in full."""
        brief = sum(row["seconds"] for row in (self.contest or {}).get("rows", ()))
        return float(self.search.seconds + brief + self.trained.position.seconds + self.beside)


def find_implant(plan: Plan, supply: Supply, loop: Loop) -> Found:
    """Find, train and doubt an implant.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    if plan.config.finalists:
        return ShortList(plan, supply, loop).find()
    searched = search_cells(plan, supply, loop)
    genotype = searched.genotype
    prices = (
        known_prices(plan, Timings(loop.folder, plan.fleet)) if Budget.of(plan.config) != Budget() else None
    )
    if prices is not None:
        genotype = fit_genotype(genotype, prices, Budget.of(plan.config), _worths(searched))
    trained = train_genotype("retrain", plan, supply, loop, genotype)
    return Found(genotype, trained, searched.position, searched.ended, None, prices)


class ShortList:
    """Entrants with their standings, from the first that is tried to the one that is recommended.

    Args:
        plan: host and data.
        supply: batches, cases and loss.
        loop: what runs the phases.
    """

    def __init__(self, plan: Plan, supply: Supply, loop: Loop) -> None:
        self._plan, self._supply, self._loop, self._config = plan, supply, loop, plan.config
        self._nothing = nothing(plan.config)
        self._budget = Budget.of(plan.config)
        self._timings = Timings(loop.folder, plan.fleet)
        self._prices = known_prices(plan, self._timings)
        self._standings: dict[str, Standing] = {}
        self._through: set[str] = set()  # the last round
        self._tuned: set[str] = set()  # their learning rate
        self._same: dict[str, str] = {}  # what came to a genotype that was on the list already
        self._panel = seat_panel(plan, supply)
        self._trials = Trials(plan, loop, self._panel)
        self.host = self._panel.judge_one(plan.host)

    def find(self) -> Found:
        """Try what needs no search; search if any of it gains; train and doubt what is recommended."""
        self._enter(self._fitted(plain_entrants(self._plan.specs, self._config)))
        self._round(self._untried(), 1, tuning=True)
        self._enter(self._fitted(wider_entrants(self._plan.specs, self._config)), self._rate_of_cells())
        self._round(self._untried(), 1)
        searched: Searched | None = None
        ended = "nothing that was tried without a search can gain anything"
        if self._is_worth_a_search():
            searched = search_cells(self._plan, self._supply, self._loop)
            ended = searched.ended
            self._enter((*self._found(searched), *self._random()), self._rate_of_cells())
            self._round(self._untried(), 1)
            self._round(self._unfinished(), 2)
        choice = choose(list(self._standings.values()), self.host, self._nothing, self._config)
        settling = Settling(self._plan, self._supply, self._loop, self._prices)
        settled = settling.settle(choice, self._with_own_rate(choice.name), self.host)
        contest = describe_contest(list(self._standings.values()), self.host, settled.choice, self._config)
        contest |= {"judges": self._panel.to_dict(), "same": self._same, "trained": choice.name}
        position = searched.position if searched else Position()
        return Found(settled.genotype, settled.trained, position, ended, contest, self._prices)

    def _is_worth_a_search(self) -> bool:
        """Tell whether anything gains; giving up is final, so before it finalists get their second round."""
        if is_promising(list(self._standings.values()), self.host, self._config):
            return True
        finalists = self._unfinished()
        self._round(finalists, 2)
        names = [one.entrant.name for one in finalists]
        return not is_futile([self._standings[name] for name in names], self.host, self._config)

    def _unfinished(self) -> list[Standing]:
        """List who goes into the last round and has not been through it."""
        kept = survivors(list(self._standings.values()), self._config)
        new = [one for one in kept if one.entrant.name not in self._through]
        self._through |= {one.entrant.name for one in new}
        return new

    def _untried(self) -> list[Standing]:
        return [one for one in self._standings.values() if not one.epochs]

    def _fitted(self, entrants: Iterable[Entrant]) -> Iterable[Entrant]:
        """Yield what needs no search; a fixed cell that is too dear also cut down to the budget."""
        for entrant in entrants:
            yield entrant
            fitted = fit_genotype(entrant.genotype, self._prices, self._budget, {})
            if fitted != entrant.genotype:
                yield Entrant(f"{entrant.name}-fitted", fitted)

    def _found(self, searched: Searched) -> Iterable[Entrant]:
        fitted = fit_genotype(searched.genotype, self._prices, self._budget, _worths(searched))
        yield Entrant("searched", fitted)
        if self._config.selection != "weight":
            perturbed = self._perturbed(searched)
            yield Entrant("perturbed", fit_genotype(perturbed, self._prices, self._budget, _worths(searched)))

    def _perturbed(self, searched: Searched) -> Genotype:
        """Choose by what validation misses; a search network is measured as it was while it trained.

        What its loss misses comes first: in a network that trained briefly, a threshold hides most of what an
        operation does from Dice.
        """
        config, glance = self._config, self._supply.glance(self._config.search_cases)

        def measure() -> tuple[float, float]:
            self._loop.check_stop()
            found = glance.measure(searched.network, 0, BATCHES)
            return -found["validation_loss"], found["validation_dice"]

        with seeded(config.seed, "perturbation"):
            return select_by_perturbation(
                self._plan.specs,
                searched.architectures,
                measure,
                scope=config.genotype,
                merge=config.merge,
                inputs=config.inputs,
            )[0]

    def _random(self) -> Iterable[Entrant]:
        drawn = itertools.islice(random_entrants(self._plan.specs, self._config), _DRAWS)
        known = [one.entrant.genotype for one in self._standings.values()]
        new = (one for one in drawn if one.genotype not in known)
        fitting = (one for one in new if not self._refusal(self._prices.of(one.genotype)))
        return itertools.islice(fitting, self._config.random_cells)

    def _refusal(self, price: Price) -> str:
        return self._budget.refusal(price, self._prices.host)

    def _rate_of_cells(self) -> float | None:
        """Return the learning rate that the fixed cell was best with: other cells are much like it."""
        rates = [one.rate for name, one in self._standings.items() if name.startswith(FIXED)]
        return next((rate for rate in rates if rate is not None), None)

    def _with_own_rate(self, name: str) -> Standing | None:
        """Return the standing of what was chosen, with the learning rate that suits it; None for nothing.

        Until now a cell has had the rate of the fixed one.
        """
        one = self._standings.get(name)
        if one is None or name in self._tuned:
            return one
        brief = self._config.model_copy(update={"retrain_epochs": self._epochs(1)})
        tried = self._trials.tune(f"rate-{name}", one.entrant.genotype, brief)
        self._standings[name] = replace(one, rate=tried.rate, seconds=one.seconds + tried.seconds)
        return self._standings[name]

    def _enter(self, entrants: Iterable[Entrant], rate: float | None = None) -> None:
        """Put entrants on the list with their price; what is there already, or costs nothing, stays out."""
        for entrant in entrants:
            twin = self._twin(entrant)
            if twin:
                self._same[entrant.name] = twin
            if twin or self._prices.of(entrant.genotype) == Price():
                continue
            price = price_of(entrant, self._plan, self._prices, self._timings)
            self._standings[entrant.name] = Standing(entrant, price, rate=rate, refusal=self._refusal(price))

    def _twin(self, entrant: Entrant) -> str:
        """Name what is on the list with the same genotype; empty where nothing is."""
        known = self._standings.items()
        return next((name for name, one in known if one.entrant.genotype == entrant.genotype), "")

    def _round(self, standings: Iterable[Standing], number: int, *, tuning: bool = False) -> None:
        """Train entrants briefly and have them judged; tuning also finds the learning rate of each."""
        config, epochs = self._config, self._epochs(number)
        train = self._trials.tune if tuning else self._trials.run
        for one in standings:
            if one.refusal:
                continue
            changes = {"retrain_epochs": epochs, "retrain_rate": one.rate or config.retrain_rate}
            brief = config.model_copy(update=changes)
            tried = train(f"try-{one.entrant.name}-{number}", one.entrant.genotype, brief)
            self._standings[one.entrant.name] = after_round(one, epochs, tried)
            if tuning:
                self._tuned.add(one.entrant.name)

    def _epochs(self, number: int) -> int:
        """Return the epochs of a round."""
        count = first_epochs if number == 1 else last_epochs
        return count(self._config, self._supply.training.steps)


def _worths(searched: Searched) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    return {name: one.to_dict()[0] for name, one in searched.architectures.items()}
