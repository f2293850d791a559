"""The architecture weights of a search cell: alpha for operations, beta for edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .spec import CellSpec

Open = tuple[tuple[bool, ...], ...]
"""For each edge, which of its operations have not been taken out."""


class Architecture(nn.Module):
    """Alpha and beta, given to one cell or shared by the cells of all skips.

    They are parameters like any other (in every `state_dict`, moved by `.to`), so that a search can be
    resumed; `SearchCell.architecture_parameters` tells them from the weights.

    Args:
        spec: a cell that these weights are for; all cells that share them have its edges and operations.
        generator: source of the small random start (1e-3 times a normal, as published); None starts at 0.
    """

    kept: Tensor
    kept_edges: Tensor

    def __init__(self, spec: CellSpec, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.operations = spec.operations
        self.labels = tuple(f"{spec.names[source]}->{spec.names[target]}" for source, target in spec.edges)
        self._fan_in = tuple(range(spec.inputs.number, spec.inputs.number + spec.states))
        alpha, beta = torch.zeros(len(spec.edges), len(spec.operations)), torch.zeros(len(spec.edges))
        if generator is not None:
            alpha, beta = (1e-3 * torch.randn(w.shape, generator=generator) for w in (alpha, beta))
        self.alpha = nn.Parameter(alpha)
        self.beta = nn.Parameter(beta)
        self._seen: tuple[int, int, Tensor, Open] | None = None
        self.register_buffer("kept", torch.ones(alpha.shape, dtype=torch.bool))
        self.register_buffer("kept_edges", torch.ones(beta.shape, dtype=torch.bool))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return softmax(alpha) `(E, O)` over operations and softmax(beta) `(E,)` over each state's edges.

        What was taken out (`kept` and `kept_edges` are false there) has weight 0, and the rest add up to 1.
        """
        beta = self.beta.masked_fill(~self.kept_edges, -math.inf)
        by_state = [part.softmax(0) for part in torch.split(beta, list(self._fan_in))]
        return self.alpha.masked_fill(~self.kept, -math.inf).softmax(1), torch.cat(by_state)

    def open_operations(self) -> Open:
        """Return which operations of which edges have not been taken out.

        The masks are read again only when they have been written to: a GPU would have to be waited for.
        """
        versions = (self.kept._version, self.kept_edges._version)
        if self._seen is None or self._seen[:2] != versions or self._seen[2] is not self.kept:
            rows = (self.kept & self.kept_edges[:, None]).tolist()
            self._seen = (*versions, self.kept, tuple(map(tuple, rows)))
        return self._seen[3]

    @torch.no_grad()
    def to_dict(self) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
        """Return the operation weights of every edge, and the edge weights, as plain JSON."""
        alphas, betas = self()
        rows = zip(self.labels, alphas.tolist(), strict=True)
        operations = {label: dict(zip(self.operations, row, strict=True)) for label, row in rows}
        return operations, dict(zip(self.labels, betas.tolist(), strict=True))
