"""From architecture weights to a genotype."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..cells import Architecture, CellSpec
from ..genotype import CellGenotype, CellMerge, Edge, Genotype, Inputs, Scope

EDGES_KEPT = 2


@torch.no_grad()
def select_by_weight(spec: CellSpec, architecture: Architecture) -> CellGenotype:
    """Keep what weighs most, as PC-DARTS publishes it.

    An operation's worth is softmax(alpha) * softmax(beta). Each state keeps the two edges whose best
    operation other than `none` is worth most, with that operation. Ties go to the earlier edge or operation.

    Args:
        spec: a cell that the architecture weights are for.
        architecture: alpha and beta.
    """
    chosen = [index for index, name in enumerate(spec.operations) if name != "none"]
    operation_weights, edge_weights = architecture()
    worth = operation_weights[:, chosen] * edge_weights[:, None]  # (E, O)
    best = worth.max(dim=1)
    edges = []
    for target, incoming in zip(spec.names[spec.inputs.number :], spec.incoming, strict=True):
        for index, source in _strongest(incoming, best.values):
            operation = spec.operations[chosen[int(best.indices[index])]]
            edges.append(Edge(spec.names[source], target, operation))
    return CellGenotype(spec.width, tuple(edges))


def _strongest(incoming: tuple[tuple[int, int], ...], worth: Tensor) -> list[tuple[int, int]]:
    ranked = sorted(incoming, key=lambda edge: -float(worth[edge[0]]))
    return sorted(ranked[:EDGES_KEPT])


def select_all(
    specs: Mapping[str, CellSpec],
    architectures: Mapping[str, Architecture],
    *,
    scope: Scope,
    merge: CellMerge,
    inputs: Inputs,
) -> Genotype:
    """Select the cells of a host.

    Args:
        specs: the cell of each skip, by skip id.
        architectures: by skip id; or one alone, named `shared`.
        scope: one genotype for all skips, or one for each.
        merge: what the cells return.
        inputs: what the cells are given.
    """
    first = next(iter(specs.values()))
    cells = tuple(
        (name, select_by_weight(specs.get(name, first), architecture))
        for name, architecture in architectures.items()
    )
    return Genotype(scope, inputs, merge, first.states, cells)
