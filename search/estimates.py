"""What a cell on each skip would cost, before anything is searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from surgeon.skips import Anatomy, Kind
from surgeon.splicing import first_form, grid_of

from .assembly import specify_cells
from .cells import CellSpec, DerivedCell
from .config import Config
from .costs import count_flops, count_parameters
from .genotype import CellGenotype, Edge, state_names
from .operations import OPERATIONS

# A cell of middling cost: separable 3x3 convolutions on the two edges that a search keeps for each state.
_TYPICAL = "sep3"
_KEPT = 2


@dataclass(frozen=True, slots=True)
class CellCost:
    """The cost of one cell.

    Attributes:
        parameters: of the cell.
        flops: floating-point operations of one forward pass at the example's size.
    """

    parameters: int
    flops: int


def estimate_cells(anatomy: Anatomy, config: Config | None = None) -> dict[str, CellCost]:
    """Estimate what a typical cell would cost on every skip that can take one.

    Args:
        anatomy: of the host.
        config: form of the cells; the defaults without it.

    Returns:
        the costs by skip id; nothing is allocated or computed for them.
    """
    settings = config or Config()
    if not any(skip.implantable and skip.kind is not Kind.FUSION for skip in anatomy.skips):
        return {}
    specs = specify_cells(anatomy, settings, OPERATIONS)
    return {skip_id: _cost(anatomy, skip_id, spec) for skip_id, spec in specs.items()}


def _cost(anatomy: Anatomy, skip_id: str, spec: CellSpec) -> CellCost:
    skip = anatomy[skip_id]
    grid = grid_of(anatomy, skip)
    shapes = [first_form(skip.merge_shape, skip.layout, grid)]
    if spec.inputs.number > 1:
        shapes.append(first_form(skip.decoder_shape, skip.layout, grid))
    with torch.device("meta"):
        cell = DerivedCell(spec, typical_genotype(spec)).eval()
        inputs = tuple(torch.empty(shape) for shape in shapes)
        return CellCost(count_parameters(cell), count_flops(cell, inputs))


def typical_genotype(spec: CellSpec) -> CellGenotype:
    """Return a genotype of middling cost for a cell of that form."""
    names = state_names(spec.inputs, spec.states)
    first = spec.inputs.number
    edges = [
        Edge(source, names[first + state], _TYPICAL)
        for state in range(spec.states)
        for source in names[max(0, first + state - _KEPT) : first + state]
    ]
    return CellGenotype(spec.width, tuple(edges))
