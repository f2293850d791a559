"""The search cell computed in batches: the same function and the same weights as the reference.

What the reference computes for each edge is computed here for each state (arithmetic is regrouped, never
approximated):

- pools and their affine-free BatchNorm do not depend on the edge: once for each state;
- the same convolution on all edges that leave a state is ONE grouped convolution;
- softmax(alpha) * softmax(beta) scales an edge's operation in its last BatchNorm, not in a pass of its own;
- bypass, concatenation and shuffle are linear: once for each state that is made, not for each edge.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ..operations import GROUPED, OPERATIONS, BatchNorm, OperationFactory, check_operations
from .architecture import Architecture
from .frame import Entry, Exit
from .reference import MixedOperation, SearchCell, check_architecture, shuffle_order, weights_of
from .spec import CellSpec


class Fan(nn.Module):
    """All operations on all edges that leave one state.

    Args:
        spec: the cell's size and form.
        source: index of the state into `spec.names`.
        table: factories of the operations by name.
    """

    def __init__(self, spec: CellSpec, source: int, table: Mapping[str, OperationFactory]) -> None:
        super().__init__()
        self.leaving = tuple(index for index, (start, _) in enumerate(spec.edges) if start == source)
        self.names = tuple(name for name in spec.operations if name != "none")
        self._columns = tuple(spec.operations.index(name) for name in self.names)
        copies = len(self.leaving)
        self.operations = nn.ModuleDict()
        for name in self.names:
            self.operations[name] = _build(name, spec, table, copies)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Weigh and sum the operations of every leaving edge.

        Args:
            x: the operated channels of the state, `(N, operated, *spatial)`.
            weights: of edges and operations `(E, O)`: softmax(alpha) * softmax(beta).

        Returns:
            `(N, L, operated, *spatial)`, L being the number of leaving edges.
        """
        mine = weights[list(self.leaving)]  # (L, O)
        shape = (len(self.leaving), x.shape[1])
        wide = x.repeat(1, shape[0], *(1,) * (x.ndim - 2))  # (N, L * operated, *spatial)
        terms = [
            self._term(name, x, wide, mine[:, column], shape)
            for name, column in zip(self.names, self._columns, strict=True)
        ]
        return functools.reduce(torch.add, terms)

    def _term(self, name: str, x: Tensor, wide: Tensor, weight: Tensor, shape: tuple[int, int]) -> Tensor:
        operation = self.operations[name]
        if isinstance(operation, nn.ModuleList):  # a user's own: one for each edge
            outs = [w * one(x) for w, one in zip(weight, operation, strict=True)]
            return torch.stack(outs, dim=1)
        if name in GROUPED:
            *layers, norm = operation.children()
            hidden = functools.reduce(lambda value, layer: layer(value), layers, wide)
            scale = weight.repeat_interleave(shape[1])  # (L * operated,)
            assert isinstance(norm, BatchNorm)
            out = norm.scaled(hidden, scale)
            return out.reshape(out.shape[0], *shape, *out.shape[2:])  # (N, L, operated, *spatial)
        scale = weight.view(1, -1, 1, *(1,) * (x.ndim - 2))
        once: Tensor = operation(x)
        return scale * once.unsqueeze(1)


class BatchedSearchCell(nn.Module):
    """A search cell equal to `SearchCell`, computed in batches.

    `from_reference` and `to_reference` carry the weights over, both ways.

    Args:
        spec: the cell's size and form.
        architecture: alpha and beta; give the same one to all cells that share a genotype.
        table: factories of the operations by name; those that are not in `GROUPED` are computed per edge.

    Raises:
        InputError: an operation is not in the table, or alpha is for other edges or operations.
    """

    order: Tensor

    def __init__(
        self,
        spec: CellSpec,
        architecture: Architecture,
        table: Mapping[str, OperationFactory] = OPERATIONS,
    ) -> None:
        super().__init__()
        check_operations(spec.operations, table)
        check_architecture(spec, architecture)
        self.spec = spec
        self.needs_decoder = spec.inputs.number > 1
        self.offset = 0
        self.architecture = architecture
        self.entry = Entry(spec, affine=False)
        sources = spec.inputs.number + spec.states - 1  # nothing leaves the last state
        self.fans = nn.ModuleList(Fan(spec, source, table) for source in range(sources))
        self.exit = Exit(spec)
        self.register_buffer("order", shuffle_order(spec, torch.device("cpu")), persistent=False)

    def rotate(self, step: int) -> None:
        """Choose which channels are operated on: another block of them at every step, in turn."""
        self.offset = (step * self.spec.operated) % self.spec.inner

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Return alpha and beta."""
        return list(self.architecture.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return every parameter but alpha and beta."""
        return weights_of(self)

    def forward(self, skip: Tensor, decoder: Tensor | None = None) -> Tensor:
        """Map `skip (N, C, *spatial)`, and `decoder (N, D, *spatial)` if needed, to `(N, C, *spatial)`."""
        operation_weights, edge_weights = self.architecture()
        weights = operation_weights * edge_weights[:, None]  # (E, O)
        # States are held turned, so that the operated channels come first.
        turned = [_turn(x, -self.offset) for x in self.entry(skip, decoder)]
        edges: dict[int, Tensor] = {}
        for source, x in enumerate(turned):
            edges.update(self._leave(source, x, weights))
        states: list[Tensor] = []
        for incoming in self.spec.incoming:
            mixed = functools.reduce(torch.add, (edges.pop(edge) for edge, _ in incoming))
            passed = (edge_weights[edge] * turned[i][:, self.spec.operated :] for edge, i in incoming)
            joined = torch.cat((mixed, functools.reduce(torch.add, passed)), dim=1)
            states.append(_turn(joined, self.offset).index_select(1, self.order))
            turned.append(_turn(states[-1], -self.offset))
            edges.update(self._leave(len(turned) - 1, turned[-1], weights))
        out: Tensor = self.exit(skip, states)
        return out

    def _leave(self, source: int, x: Tensor, weights: Tensor) -> Mapping[int, Tensor]:
        """Compute the edges that leave a state: their index, and `(N, operated, *spatial)`."""
        if source >= len(self.fans):
            return {}
        fan = self.fans[source]
        assert isinstance(fan, Fan)
        return dict(zip(fan.leaving, fan(x[:, : self.spec.operated], weights).unbind(1), strict=True))

    @torch.no_grad()
    def from_reference(self, cell: SearchCell) -> BatchedSearchCell:
        """Take over the weights and statistics of a reference cell of the same spec, and return self."""
        self.entry.load_state_dict(cell.entry.state_dict())
        self.exit.load_state_dict(cell.exit.state_dict())
        self.architecture.load_state_dict(cell.architecture.state_dict())
        for batched, parts, shared in self._pairs(cell):
            for name, value in batched.items():
                single = shared or not value.ndim
                value.copy_(parts[0][name] if single else torch.cat([part[name] for part in parts]))
        return self

    @torch.no_grad()
    def to_reference(self, cell: SearchCell) -> SearchCell:
        """Give the weights and statistics to a reference cell of the same spec, and return that."""
        cell.entry.load_state_dict(self.entry.state_dict())
        cell.exit.load_state_dict(self.exit.state_dict())
        cell.architecture.load_state_dict(self.architecture.state_dict())
        for batched, parts, shared in self._pairs(cell):
            for name, value in batched.items():
                single = shared or not value.ndim
                chunks = (value,) * len(parts) if single else value.chunk(len(parts))
                for part, chunk in zip(parts, chunks, strict=True):
                    part[name].copy_(chunk)
        return cell

    def _pairs(self, cell: SearchCell) -> Iterator[tuple[dict[str, Tensor], list[dict[str, Tensor]], bool]]:
        """Match tensors: of an operation here, of its parts in the reference, whether the parts are one."""
        for fan in self.fans:
            assert isinstance(fan, Fan)
            for name, operation in fan.operations.items():
                column = self.spec.operations.index(name)
                parts = [_operation(cell, edge, column) for edge in fan.leaving]
                if isinstance(operation, nn.ModuleList):
                    for own, part in zip(operation, parts, strict=True):
                        yield own.state_dict(), [part.state_dict()], True
                else:
                    yield operation.state_dict(), [part.state_dict() for part in parts], name not in GROUPED


def _operation(cell: SearchCell, edge: int, column: int) -> nn.Module:
    mixed = cell.edges[edge]
    assert isinstance(mixed, MixedOperation)
    return mixed.operations[column]


def _turn(x: Tensor, offset: int) -> Tensor:
    return torch.roll(x, offset, dims=1) if offset else x


def _build(name: str, spec: CellSpec, table: Mapping[str, OperationFactory], copies: int) -> nn.Module:
    """Build an operation for all edges: grouped, computed once if it has no weights, or one for each edge."""
    factory, size = table[name], (spec.operated, spec.spatial_dims)
    if factory is not OPERATIONS.get(name):
        return nn.ModuleList(factory(*size, False) for _ in range(copies))
    return GROUPED[name](*size, False, copies) if name in GROUPED else factory(*size, False)
