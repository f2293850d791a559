"""The search cell, operation by operation, as PC-DARTS (arXiv 1907.05737) publishes it.

Slow and easy to read: it is the oracle for `batched.BatchedSearchCell`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping

import torch
from torch import Tensor, nn

from surgeon.errors import InputError

from ..operations import OPERATIONS, OperationFactory, check_operations
from .architecture import Architecture
from .frame import Entry, Exit
from .spec import CellSpec


class MixedOperation(nn.Module):
    """All operations of an edge on the first channels, weighted; the other channels bypass them.

    Args:
        spec: the cell's size and form.
        table: factories of the operations by name.
    """

    def __init__(self, spec: CellSpec, table: Mapping[str, OperationFactory]) -> None:
        super().__init__()
        self.operated = spec.operated
        self.operations = nn.ModuleList(
            table[name](spec.operated, spec.spatial_dims, False) for name in spec.operations
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Mix `x (N, inner, *spatial)` by `weights (O,)`: operated channels first, then the bypass."""
        operated, bypass = x[:, : self.operated], x[:, self.operated :]
        pairs = zip(weights, self.operations, strict=True)
        mixed = functools.reduce(torch.add, (weight * operation(operated) for weight, operation in pairs))
        return torch.cat((mixed, bypass), dim=1)


class SearchCell(nn.Module):
    """A cell whose edges hold all operations, for the search.

    A state is the sum of its edges weighted by softmax(beta); an edge mixes its operations by
    softmax(alpha) on one channel in K, lets the others pass and shuffles the channels.

    Args:
        spec: the cell's size and form; any number of channels works with any K.
        architecture: alpha and beta; give the same one to all cells that share a genotype.
        table: factories of the operations by name.

    Raises:
        InputError: an operation is not in the table, or alpha is for other edges or operations.
    """

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
        self.edges = nn.ModuleList(MixedOperation(spec, table) for _ in spec.edges)
        self.exit = Exit(spec)

    def rotate(self, step: int) -> None:
        """Choose which channels are operated on: another block of them at every step, in turn."""
        self.offset = (step * self.spec.operated) % self.spec.inner

    def form(self) -> Hashable:
        """Return what decides which operations a pass is made of, beside the input."""
        return self.offset

    def architecture_parameters(self) -> list[nn.Parameter]:
        """Return alpha and beta."""
        return list(self.architecture.parameters())

    def weight_parameters(self) -> list[nn.Parameter]:
        """Return every parameter but alpha and beta."""
        return weights_of(self)

    def forward(self, skip: Tensor, decoder: Tensor | None = None) -> Tensor:
        """Map `skip (N, C, *spatial)`, and `decoder (N, D, *spatial)` if needed, to `(N, C, *spatial)`."""
        operation_weights, edge_weights = self.architecture()
        states = self.entry(skip, decoder)
        first = len(states)
        for incoming in self.spec.incoming:
            edges = (
                edge_weights[edge] * self._edge(edge, states[i], operation_weights) for edge, i in incoming
            )
            states.append(functools.reduce(torch.add, edges))
        out: Tensor = self.exit(skip, states[first:])
        return out

    def _edge(self, index: int, x: Tensor, weights: Tensor) -> Tensor:
        """Compute one edge `(N, inner, *spatial)`: turned to bring the operated channels first, and back."""
        mixed = self.edges[index](torch.roll(x, -self.offset, dims=1), weights[index])
        return torch.roll(mixed, self.offset, dims=1).index_select(1, shuffle_order(self.spec, x.device))


def shuffle_order(spec: CellSpec, device: torch.device) -> Tensor:
    """Return the channel order `(inner,)` after the shuffle: dealt from K piles in turn.

    Where K divides the channels it is the published shuffle (view as K groups, transpose); elsewhere the last
    pile is short.
    """
    pile = math.ceil(spec.inner / spec.partial)
    order = sorted(range(spec.inner), key=lambda channel: (channel % pile, channel // pile))
    return torch.tensor(order, device=device)


def check_architecture(spec: CellSpec, architecture: Architecture) -> None:
    """Refuse architecture weights of other edges or operations than the cell's.

    Raises:
        InputError: they do not fit.
    """
    expected = (len(spec.edges), len(spec.operations))
    if tuple(architecture.alpha.shape) != expected or architecture.operations != spec.operations:
        raise InputError(
            f"alpha is for {tuple(architecture.alpha.shape)} edges and operations, the cell has {expected}",
            where="SearchCell",
            fix="build it with Architecture(spec) from the same spec",
        )


def weights_of(cell: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a cell that are not architecture weights."""
    named = cell.named_parameters()
    return [parameter for name, parameter in named if not name.startswith("architecture.")]
