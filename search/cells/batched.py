"""The search cell computed in batches: the same function and the same weights as the reference.

What the reference computes for each edge is computed here for each state (arithmetic is regrouped, never
approximated):

- pools and their affine-free BatchNorm do not depend on the edge: once for each state;
- the same convolution on all edges that leave a state is ONE grouped convolution;
- an operation's last 1x1 convolution, its BatchNorm, softmax(alpha) * softmax(beta) and the sum over the
  operations are one product for each kind of operation (see `rows`);
- bypass, concatenation and shuffle are linear: a product for each edge that adds to the new state.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Mapping

import torch
from torch import Tensor, nn

from ..norms import BatchNorm
from ..operations import GROUPED, OPERATIONS, OperationFactory, check_operations
from .architecture import Architecture, Open
from .frame import Entry, Exit
from .grid import Grid
from .layers import run_convolutions, run_pool, scaled
from .reference import MixedOperation, SearchCell, check_architecture, shuffle_order, weights_of
from .rows import Product, add_products
from .spec import CellSpec


class Fan(nn.Module):
    """All operations on all edges that leave one state.

    Args:
        spec: the cell's size and form.
        source: index of the state into `spec.names`.
        table: factories of the operations by name.
    """

    blocks: Tensor
    copies: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, spec: CellSpec, source: int, table: Mapping[str, OperationFactory]) -> None:
        super().__init__()
        self.leaving = tuple(index for index, (start, _) in enumerate(spec.edges) if start == source)
        self.names = tuple(name for name in spec.operations if name != "none")
        self._columns = tuple(spec.operations.index(name) for name in self.names)
        edges, channels = len(self.leaving), spec.operated
        self.operations = nn.ModuleDict()
        for name in self.names:
            self.operations[name] = _build(name, spec, table, edges)
        for name, places in (("rows", self.leaving), ("columns", self._columns)):
            self.register_buffer(name, torch.tensor(places, dtype=torch.int64), persistent=False)
        blocks = torch.eye(edges).kron(torch.ones(channels, channels))
        self.register_buffer("blocks", blocks, persistent=False)
        self.register_buffer("copies", torch.eye(channels).repeat(1, edges), persistent=False)

    def forward(self, x: Tensor, grid: Grid, weights: Tensor, kept: Open) -> Tensor:
        """Weigh and sum the operations of every leaving edge.

        Args:
            x: the operated channels of the state, `(P, operated)`.
            grid: of the rows.
            weights: of edges and operations `(E, O)`: softmax(alpha) * softmax(beta).
            kept: of edges and operations; what is pruned on every edge here is not computed.

        Returns:
            `(P, L * operated)`, L being the number of leaving edges.
        """
        scales = self._scales(weights, x.shape[1])
        positive = x.relu()
        wide = positive.repeat(1, len(self.leaving))  # (P, L * operated)
        products, own = [], []
        for name, column in zip(self.names, self._columns, strict=True):
            operation = self.operations[name]
            if not any(kept[edge][column] for edge in self.leaving):
                continue
            if isinstance(operation, nn.ModuleList):  # a user's own: one for each edge
                outs = [grid.rows(one(grid.maps(x))) for one in operation]
                own.append(torch.cat(outs, dim=1) * scales[name])
            elif name in SHARING:
                products.append(scaled(run_convolutions(operation, positive, grid), scales[name]))
            elif name in GROUPED:
                products.append(scaled(run_convolutions(operation, wide, grid, self.blocks), scales[name]))
            elif isinstance(operation, nn.Identity):
                products.append(Product(x, self.copies * scales[name]))
            else:
                products.append(self._pooled(operation, x, grid, scales[name]))
        if not products and not own:
            return x.new_zeros(x.shape[0], self.copies.shape[1])
        return functools.reduce(torch.add, [*([add_products(products)] if products else []), *own])

    def _scales(self, weights: Tensor, channels: int) -> dict[str, Tensor]:
        """Return the weight of each operation on each channel of each leaving edge, `(L * channels,)`."""
        mine = weights.index_select(0, self.rows).index_select(1, self.columns)
        return dict(zip(self.names, mine.repeat_interleave(channels, dim=0).unbind(1), strict=True))

    def _pooled(self, operation: nn.Module, x: Tensor, grid: Grid, scale: Tensor) -> Product:
        pool, norm = operation.children()
        assert isinstance(norm, BatchNorm)
        return Product(run_pool(pool, x, grid), self.copies, norm, scale, owned=True)


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

    shuffle: Tensor

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
        order = shuffle_order(spec, torch.device("cpu"))
        self.register_buffer("shuffle", torch.eye(spec.inner)[:, order], persistent=False)

    def rotate(self, step: int) -> None:
        """Choose which channels are operated on: another block of them at every step, in turn."""
        self.offset = (step * self.spec.operated) % self.spec.inner

    def form(self) -> Hashable:
        """Return what decides which operations a pass is made of, beside the input."""
        return self.offset, self.architecture.open_operations()

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
        grid = Grid.of(skip, self.spec.operated)
        kept = self.architecture.open_operations()
        states = [grid.rows(x) for x in self.entry(skip, decoder)]
        first = len(states)
        operated, bypass = self._places()
        edges: dict[int, Tensor] = {}
        for source, x in enumerate(states):
            edges.update(self._leave(source, x, grid, weights, kept))
        for incoming in self.spec.incoming:
            mixed = functools.reduce(torch.add, (edges.pop(edge) for edge, _ in incoming))
            passed = [Product(states[i], bypass * edge_weights[edge]) for edge, i in incoming]
            states.append(add_products([Product(mixed, operated), *passed]))
            edges.update(self._leave(len(states) - 1, states[-1], grid, weights, kept))
        return self.exit.join(skip, states[first:], grid)

    def _places(self) -> tuple[Tensor, Tensor]:
        """Return where channels go in a new state, as matrices: `(operated, inner)` and `(inner, inner)`."""
        shuffled = self.shuffle.roll(-self.offset, dims=0)  # operated channels first
        bypass = shuffled.clone()
        bypass[: self.spec.operated] = 0
        return shuffled[: self.spec.operated], bypass.roll(self.offset, dims=0)

    def _leave(self, source: int, x: Tensor, grid: Grid, weights: Tensor, kept: Open) -> Mapping[int, Tensor]:
        """Compute the edges that leave a state `(P, inner)`: their index, and `(P, operated)`."""
        if source >= len(self.fans):
            return {}
        fan, operated = self.fans[source], self.spec.operated
        assert isinstance(fan, Fan)
        first = torch.roll(x, -self.offset, dims=1) if self.offset else x
        outs = fan(first[:, :operated].contiguous(), grid, weights, kept)
        return dict(zip(fan.leaving, outs.split(operated, dim=1), strict=True))

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


SHARING = ("pointwise",)
"""Operations whose first layer mixes channels: all edges can read the same input."""


def _operation(cell: SearchCell, edge: int, column: int) -> nn.Module:
    mixed = cell.edges[edge]
    assert isinstance(mixed, MixedOperation)
    return mixed.operations[column]


def _build(name: str, spec: CellSpec, table: Mapping[str, OperationFactory], copies: int) -> nn.Module:
    """Build an operation for all edges: grouped, computed once if it has no weights, or one for each edge."""
    factory, size = table[name], (spec.operated, spec.spatial_dims)
    if factory is not OPERATIONS.get(name):
        return nn.ModuleList(factory(*size, False) for _ in range(copies))
    return GROUPED[name](*size, False, copies) if name in GROUPED else factory(*size, False)
