"""What a cell on each skip would cost, before anything is searched."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from surgeon.skips import Anatomy, Kind
from surgeon.splicing import first_form, grid_of

from .assembly import Table, build_implant, specify_cells
from .cells import CellSpec
from .config import Config
from .costs import count_flops, count_parameters
from .entrants import fixed_cell
from .genotype import CellGenotype
from .operations import OPERATIONS


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
    return cost_of(anatomy, skip_id, spec, fixed_cell(spec), OPERATIONS)


def cost_of(anatomy: Anatomy, skip_id: str, spec: CellSpec, genotype: CellGenotype, table: Table) -> CellCost:
    """Count what something on a skip costs at the example's size; nothing is allocated or computed for it.

    Args:
        anatomy: of the host.
        skip_id: the skip.
        spec: the size and form of the cell there.
        genotype: of the cell.
        table: factories of the operations by name.
    """
    with torch.device("meta"):
        cell = build_implant(spec, genotype, table).eval()
        inputs = tuple(torch.empty(shape) for shape in input_shapes(anatomy, skip_id))
        wanted = inputs if getattr(cell, "needs_decoder", False) else inputs[:1]
        return CellCost(count_parameters(cell), count_flops(cell, wanted))


def input_shapes(anatomy: Anatomy, skip_id: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the shapes `(N, C, *spatial)` of a skip and of the tensor it meets, at the example's size."""
    skip = anatomy[skip_id]
    grid = grid_of(anatomy, skip)
    return first_form(skip.merge_shape, skip.layout, grid), first_form(skip.decoder_shape, skip.layout, grid)
