"""The cell after discretization: the chosen operations on all inner channels."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from surgeon.errors import InputError

from ..genotype import CellGenotype
from ..operations import GROUPED, OPERATIONS, OperationFactory, check_operations
from .frame import Entry, Exit
from .grid import Grid
from .layers import run_alone, run_convolutions
from .rows import Product, add_products
from .spec import CellSpec


class DerivedCell(nn.Module):
    """A cell of a genotype; a state is the sum of its edges.

    Args:
        spec: the cell's size and form (`partial` and `operations` play no part here).
        genotype: its edges.
        table: factories of the operations by name.

    Raises:
        InputError: an operation is not in the table, or a state has no edge.
    """

    def __init__(
        self,
        spec: CellSpec,
        genotype: CellGenotype,
        table: Mapping[str, OperationFactory] = OPERATIONS,
    ) -> None:
        super().__init__()
        check_operations(tuple(edge.operation for edge in genotype.edges), table)
        self.spec = spec
        self.genotype = genotype
        self.needs_decoder = spec.inputs.number > 1
        self.entry = Entry(spec, affine=True)
        self.operations = nn.ModuleList(
            table[edge.operation](spec.inner, spec.spatial_dims, True) for edge in genotype.edges
        )
        self.exit = Exit(spec)
        self._plan = _plan(spec, genotype)
        names = [edge.operation for edge in genotype.edges]
        self._convolutions = frozenset(
            index
            for index, name in enumerate(names)
            if name in GROUPED and table[name] is OPERATIONS.get(name)
        )

    def forward(self, skip: Tensor, decoder: Tensor | None = None) -> Tensor:
        """Map `skip (N, C, *spatial)`, and `decoder (N, D, *spatial)` if needed, to `(N, C, *spatial)`."""
        if self.training and skip.device.type == "cpu":
            return self.by_rows(skip, decoder)
        states = self.entry(skip, decoder)
        first = len(states)
        for incoming in self._plan:
            state: Tensor | None = None
            for index, source in incoming:
                edge: Tensor = self.operations[index](states[source])
                state = edge if state is None else state + edge
            states.append(state)
        out: Tensor = self.exit(skip, states[first:])
        return out

    def by_rows(self, skip: Tensor, decoder: Tensor | None = None) -> Tensor:
        """Do what `forward` does, in the way that trains faster on a CPU; equal up to rounding."""
        grid = Grid.of(skip, self.spec.inner)
        states = [grid.rows(x) for x in self.entry(skip, decoder)]
        first = len(states)
        positive: dict[int, Tensor] = {}
        for incoming in self._plan:
            products: list[Product] = []
            terms: list[Tensor] = []
            for index, source in incoming:
                operation, x = self.operations[index], states[source]
                if index in self._convolutions:
                    if source not in positive:
                        positive[source] = x.relu()
                    product = run_convolutions(operation, positive[source], grid)
                    assert product.norm is not None
                    assert product.norm.bias is not None
                    products.append(product)
                    terms.append(product.norm.bias)
                else:
                    terms.append(run_alone(operation, x, grid))
            total = functools.reduce(torch.add, terms)
            states.append(add_products(products, total) if products else total)
        return self.exit.join(skip, states[first:], grid)


def _plan(spec: CellSpec, genotype: CellGenotype) -> tuple[tuple[tuple[int, int], ...], ...]:
    """For each state, its edges as (index of the operation, index of the source state)."""
    sources = {name: index for index, name in enumerate(spec.names)}
    plan = []
    for name in spec.names[spec.inputs.number :]:
        incoming = [
            (index, sources[edge.source]) for index, edge in enumerate(genotype.edges) if edge.target == name
        ]
        if not incoming:
            raise InputError(
                f"{name} has no edge", where="genotype", fix="give every state at least one edge"
            )
        plan.append(tuple(incoming))
    return tuple(plan)
