"""The cell after discretization: the chosen operations on all inner channels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from surgeon.errors import InputError

from ..genotype import CellGenotype
from ..operations import OPERATIONS, OperationFactory, check_operations
from .frame import Entry, Exit
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

    def forward(self, skip: Tensor, decoder: Tensor | None = None) -> Tensor:
        """Map `skip (N, C, *spatial)`, and `decoder (N, D, *spatial)` if needed, to `(N, C, *spatial)`."""
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
