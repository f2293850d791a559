"""A genotype chosen by what validation misses when it is taken away (DARTS-PT, arXiv 2108.04392).

Alpha says how much an operation was used, not what it is worth; here each operation of an edge is taken out
of the trained search network, and the one whose absence costs most on validation is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ..cells import Architecture, CellSpec
from ..entrants import EDGES_KEPT
from ..genotype import CellGenotype, CellMerge, Edge, Genotype, Inputs, Scope

TRIED = 4
"""Operations of an edge that are tried, those that weigh most: what is worth most is among them."""
BATCHES = 4
"""Validation batches on which an operation's absence is felt."""
Measure = Callable[[], tuple[float, float]]
"""What is missed, the larger the better, and what decides between equals: minus the loss, then Dice."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one measurement showed.

    Attributes:
        cell: `shared`, or a skip id.
        edge: `source->target`.
        operation: that was taken out; empty for the edge as a whole.
        worth: the first of what was measured without it.
    """

    cell: str
    edge: str
    operation: str
    worth: float


def select_by_perturbation(
    specs: Mapping[str, CellSpec],
    architectures: Mapping[str, Architecture],
    measure: Measure,
    *,
    scope: Scope,
    merge: CellMerge,
    inputs: Inputs,
) -> tuple[Genotype, tuple[Trial, ...]]:
    """Choose, edge by edge, the operation that is missed most, then the two edges of each state.

    The masks of the architectures are back where they were at the end.

    Args:
        specs: the cell of each skip, by skip id.
        architectures: of the trained search network, by skip id; or one alone, named `shared`.
        measure: the search network as it stands, on the validation cases.
        scope: one genotype for all skips, or one for each.
        merge: what the cells return.
        inputs: what the cells are given.

    Returns:
        the genotype, and every measurement.
    """
    first = next(iter(specs.values()))
    trials: list[Trial] = []
    cells = []
    before = {name: (one.kept.clone(), one.kept_edges.clone()) for name, one in architectures.items()}
    try:
        for name, architecture in architectures.items():
            spec = specs.get(name, first)
            chooser = _Chooser(name, spec, architecture, measure, trials)
            cells.append((name, chooser.choose()))
    finally:
        for name, one in architectures.items():
            one.kept.copy_(before[name][0])
            one.kept_edges.copy_(before[name][1])
    return Genotype(scope, inputs, merge, first.states, tuple(cells)), tuple(trials)


class _Chooser:
    """Chooses one cell; the architecture's masks narrow with every choice."""

    def __init__(
        self, name: str, spec: CellSpec, architecture: Architecture, measure: Measure, trials: list[Trial]
    ) -> None:
        self._name, self._spec, self._architecture = name, spec, architecture
        self._measure, self._trials = measure, trials

    def choose(self) -> CellGenotype:
        operations = [self._choose_operation(index) for index in range(len(self._spec.edges))]
        edges = []
        for target, incoming in zip(
            self._spec.names[self._spec.inputs.number :], self._spec.incoming, strict=True
        ):
            for index, source in self._choose_edges(incoming):
                edges.append(Edge(self._spec.names[source], target, operations[index]))
        return CellGenotype(self._spec.width, tuple(edges))

    def _choose_operation(self, edge: int) -> str:
        kept = self._architecture.kept
        columns = self._leading(edge)
        worths = {}
        for column in columns:
            kept[edge, column] = False
            worths[column] = self._try(edge, self._spec.operations[column])
            kept[edge, column] = True
        chosen = min(columns, key=lambda column: worths[column])
        kept[edge] = torch.arange(kept.shape[1], device=kept.device) == chosen
        return self._spec.operations[chosen]

    def _leading(self, edge: int) -> list[int]:
        """Return the columns of the operations that are tried, those that weigh most."""
        weights = self._architecture()[0][edge].tolist()
        open_to = [
            column
            for column, name in enumerate(self._spec.operations)
            if name != "none" and bool(self._architecture.kept[edge, column])
        ]
        return sorted(open_to, key=lambda column: -weights[column])[:TRIED]

    def _choose_edges(self, incoming: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
        mask = self._architecture.kept_edges
        worths = {}
        if len(incoming) <= EDGES_KEPT:
            return list(incoming)
        for edge, _ in incoming:
            mask[edge] = False
            worths[edge] = self._try(edge, "")
            mask[edge] = True
        missed = sorted(incoming, key=lambda pair: worths[pair[0]])[:EDGES_KEPT]
        for edge, _ in incoming:
            mask[edge] = edge in {index for index, _ in missed}
        return sorted(missed)

    def _try(self, edge: int, operation: str) -> tuple[float, float]:
        found = self._measure()
        label = self._architecture.labels[edge]
        self._trials.append(Trial(self._name, label, operation, found[0]))
        return found
