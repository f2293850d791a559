"""A genotype made to fit a budget: cheaper operations where they cost least worth, then fewer cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..genotype import CellGenotype, Genotype
from .prices import Budget, Prices

Worths = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By name of a cell and `source->target`: the weight that a search gave each operation."""


def fit_genotype(genotype: Genotype, prices: Prices, budget: Budget, worths: Worths) -> Genotype:
    """Return the genotype changed as little as it takes to fit a budget; unchanged where it fits.

    One operation after the other is exchanged for one that brings the excess down, each time the exchange
    that loses least worth; when none is left, the dearest cell goes.

    Args:
        genotype: what a search found.
        prices: of everything that can be put onto the host's skips.
        budget: what implants may add.
        worths: what the search thought of the operations.
    """
    fitted = genotype
    while (excess := budget.excess(prices.of(fitted), prices.host)) > 0:
        better = [
            (loss, place, other)
            for place, (loss, other) in enumerate(_exchanges(fitted, prices, worths))
            if budget.excess(prices.of(other), prices.host) < excess
        ]
        fitted = min(better, key=lambda row: row[:2])[2] if better else _without_dearest(fitted, prices)
    return fitted


def _exchanges(genotype: Genotype, prices: Prices, worths: Worths) -> Iterator[tuple[float, Genotype]]:
    """Yield the worth that is lost and the genotype, for every exchange of one operation."""
    for place, (name, cell) in enumerate(genotype.cells):
        for index, edge in enumerate(cell.edges if cell else ()):
            assert cell is not None
            known = worths.get(name, {}).get(f"{edge.source}->{edge.target}", {})
            for operation in sorted(set().union(*prices.operations.values()) - {edge.operation}):
                loss = known.get(edge.operation, 0.0) - known.get(operation, 0.0)
                edges = (*cell.edges[:index], replace(edge, operation=operation), *cell.edges[index + 1 :])
                changed = (name, CellGenotype(cell.width, edges, cell.form))
                yield (
                    loss,
                    replace(genotype, cells=(*genotype.cells[:place], changed, *genotype.cells[place + 1 :])),
                )


def _without_dearest(genotype: Genotype, prices: Prices) -> Genotype:
    skips = list(prices.around)
    dearest = max(skips, key=lambda skip: prices.of_cell(skip, genotype.cell(skip)))
    gone = {skip for skip in skips if genotype.cell(skip) is None}
    return genotype.without({dearest, *gone}, skips)
