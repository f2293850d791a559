"""A second look at what is recommended, where a comparison has trained other implants in full as well.

The short list chooses after brief trainings, in which what starts slowly looks worse than it is. The
comparison trains most of its entrants to the end, at no further cost; so the recommendation is made once
more among them, by the same rule, on validation alone. Whether anything goes onto the skips stays as it was
decided: among many rows some gain by chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..entrants import Entrant, nothing
from ..genotype import Genotype
from ..planning import Plan
from ..step.moving import Train
from ..step.supply import Supply
from ..training.loop import Loop
from ..training.stages import Trained
from .comparison import Row
from .contest import Choice, Standing, choose
from .finding import Found
from .prices import Budget
from .settling import Settling
from .timings import Timings, price_of


def reconsider(plan: Plan, supply: Supply, loop: Loop, found: Found, rows: Sequence[Row]) -> Found:
    """Return the cheapest implant trained in full that validation cannot tell from the best of them.

    It is better than the host for certain, as what was found is. That may be what was found, and always is
    where there was no short list or nothing came of it, where validation subjects are too few to choose by,
    and where more than implants was to be trained.

    Args:
        plan: host and data.
        supply: the validation cases.
        loop: asked whether to stop; its folder keeps measured times.
        found: what the short list chose, trained in full.
        rows: of the comparison, trained in full.

    Raises:
        Stopped: the user stopped it.
    """
    none, prices = nothing(plan.config), found.prices
    if found.contest is None or prices is None or found.genotype == none.genotype:
        return found
    if not supply.choosing or plan.config.train is not Train.CELLS:
        return found
    first = found.contest["recommended"]
    others = {_named(row, first): row for row in rows if _is_implant(row, none.genotype)}
    settling = Settling(plan, supply, loop, prices)
    timings = Timings(loop.folder, plan.fleet)

    def standing(entrant: Entrant, trained: Trained) -> Standing:
        price, scores = price_of(entrant, plan, prices, timings), settling.scores(trained.network)
        refusal = Budget.of(plan.config).refusal(price, prices.host)
        return Standing(entrant, price, plan.config.retrain_epochs, scores, refusal=refusal)

    tried = (
        standing(Entrant(name, row.contender.genotype), row.trained(plan)) for name, row in others.items()
    )
    better = [one for one in tried if one.scores is not None and settling.gains(one.scores)]
    given = standing(Entrant(first, found.genotype), found.trained)
    choice = choose([given, *better], settling.host, none, plan.config)
    return _with_choice(plan, settling, found, others, choice) if choice.name in others else found


def _is_implant(row: Row, nowhere: Genotype) -> bool:
    """Tell whether a row puts something onto the skips of a frozen host."""
    return row.has_frozen_host and row.contender.genotype != nowhere


def _named(row: Row, first: str) -> str:
    """Name a row apart from what the short list chose, which may have been trained in the comparison too."""
    name = row.contender.name
    return f"{name} (trained again)" if name == first else name


def _with_choice(
    plan: Plan, settling: Settling, found: Found, others: Mapping[str, Row], choice: Choice
) -> Found:
    """Return what was found with another row as the recommendation, without cells that nobody misses."""
    contest, row = found.contest or {}, others[choice.name]
    genotype, trained = settling.thinned(choice.genotype, row.trained(plan))
    spent = found.trained.position.seconds + sum(one.seconds for one in others.values())
    words = f"{choice.reason}, all trained in full; the short list chose {contest['recommended']}"
    return replace(
        found,
        genotype=genotype,
        trained=trained,
        contest=contest | {"recommended": row.contender.name, "reason": words},
        beside=spent - trained.position.seconds,
    )
