"""Times that a decision depends on: measured once, and kept with the run so that it resumes to the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..assembly import build_derived_cells
from ..costs import measure_latency
from ..entrants import Entrant
from ..fleet import Fleet
from ..planning import Plan
from ..runs import RunFolder
from .prices import Price, Prices, list_prices, measure_times, time_host

_FILE = "checkpoints/latency.json"


class Timings:
    """Measured times by what they are of; a run that is resumed finds those of its earlier sitting.

    Args:
        folder: of the run; None keeps them for as long as this object lives.
        fleet: the processes that decide by them; the first one measures.
    """

    def __init__(self, folder: RunFolder | None, fleet: Fleet | None = None) -> None:
        self._folder, self._fleet = folder, fleet or Fleet()
        self._known: dict[str, Any] = self._fleet.first(self._read)

    def _read(self) -> dict[str, Any]:
        path = self._folder.path / _FILE if self._folder else None
        known: dict[str, Any] = json.loads(path.read_text()) if path and path.exists() else {}
        return known

    def once(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what was measured under a name, measuring it where it was not."""
        if name not in self._known:
            self._known[name] = self._fleet.first(measure)
            if self._folder is not None and self._fleet.is_first:
                self._folder.write_json(_FILE, self._known)
        return self._known[name]


def known_prices(plan: Plan, timings: Timings) -> Prices:
    """Return what everything on the host's skips costs, with times where a budget or a comparison asks."""
    inputs = tuple(x.to(plan.device) for x in plan.inputs)
    prices = list_prices(plan.host, inputs, plan.anatomy, plan.specs, plan.table)
    if plan.config.max_latency is None and not plan.config.compare:
        return prices
    host = timings.once("host", lambda: time_host(plan.host, inputs))
    measured = timings.once(
        "operations", lambda: measure_times(prices, inputs, plan.anatomy, plan.specs, plan.table)
    )
    return prices.with_times(host, measured)


def price_of(entrant: Entrant, plan: Plan, prices: Prices, timings: Timings) -> Price:
    """Return what an entrant adds to its host; its time is measured whole where a budget limits it."""
    price = prices.of(entrant.genotype)
    if plan.config.max_latency is None:
        return price
    return replace(price, milliseconds=added_time(entrant, plan, timings))


def added_time(entrant: Entrant, plan: Plan, timings: Timings) -> float:
    """Return by how many milliseconds an entrant makes a forward pass of the host longer, measured once."""

    def measure() -> float:
        implants = build_derived_cells(plan.specs, entrant.genotype, plan.config.seed, plan.table)
        networks = {"host": plan.splice({}).eval(), "with": plan.splice(implants).eval()}
        spent = measure_latency(networks, tuple(x.to(plan.device) for x in plan.inputs))
        return max(0.0, spent["with"]["p50"] - spent["host"]["p50"])

    added: float = timings.once(f"added by {entrant.name}", measure)
    return added
