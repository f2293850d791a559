"""From an anatomy and settings to the modules that go onto the skips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn

from surgeon.errors import InputError, SpliceError
from surgeon.skips import Anatomy, Kind, Skip
from surgeon.splicing import grid_of

from .cells import Adapter, Affine, Architecture, BatchedSearchCell, CellSpec, DerivedCell, Gate, SearchCell
from .config import Config
from .genotype import CellGenotype, Form, Genotype, Scope
from .operations import OperationFactory, check_operations
from .randomness import generator_for, seeded

Table = Mapping[str, OperationFactory]


def choose_skips(anatomy: Anatomy, config: Config) -> tuple[Skip, ...]:
    """Return the skips to implant: those named, or every implantable one that is no fusion.

    Raises:
        InputError: a named skip does not exist.
        SpliceError: a named skip cannot be implanted, or there is none to implant.
    """
    if config.skips != "all":
        return tuple(_named(anatomy, skip_id) for skip_id in config.skips)
    chosen = tuple(skip for skip in anatomy.skips if skip.implantable and skip.kind is not Kind.FUSION)
    if not chosen:
        raise SpliceError(
            "the host has no skip to implant",
            where=anatomy.host,
            fix="; ".join(anatomy.notes)
            or "look at `surgeon inspect` for what was found and why it was refused",
        )
    return chosen


def _named(anatomy: Anatomy, skip_id: str) -> Skip:
    known = [skip.id for skip in anatomy.skips]
    if skip_id not in known:
        listed = ", ".join(known) or "none: the host has no skips"
        raise InputError(f"there is no skip {skip_id!r}", where="skips", fix=f"the skips are {listed}")
    skip = anatomy[skip_id]
    if not skip.implantable:
        raise SpliceError(
            f"skip {skip_id} cannot be implanted: {skip.reason}", where=anatomy.host, fix="choose other skips"
        )
    return skip


def specify_cells(anatomy: Anatomy, config: Config, table: Table) -> dict[str, CellSpec]:
    """Return what the cell on each chosen skip is built from, by skip id.

    Raises:
        InputError: an operation or a skip is unknown.
        SpliceError: a named skip cannot be implanted, or there is none to implant.
    """
    check_operations(config.operations, table)
    return {
        skip.id: CellSpec(
            channels=skip.channels,
            spatial_dims=len(grid_of(anatomy, skip)),
            decoder_channels=skip.decoder_channels,
            width=config.width,
            states=config.states,
            inputs=config.inputs,
            merge=config.merge,
            partial=config.partial,
            operations=config.operations,
        )
        for skip in choose_skips(anatomy, config)
    }


def build_architectures(specs: Mapping[str, CellSpec], config: Config) -> dict[str, Architecture]:
    """Build alpha and beta: one named `shared`, or one for each skip."""
    generator = generator_for(config.seed, "architecture")
    if config.genotype is Scope.SHARED:
        return {"shared": Architecture(next(iter(specs.values())), generator)}
    return {skip_id: Architecture(spec, generator) for skip_id, spec in specs.items()}


def build_search_cells(
    specs: Mapping[str, CellSpec], architectures: Mapping[str, Architecture], config: Config, table: Table
) -> dict[str, SearchCell | BatchedSearchCell]:
    """Build the search cells by skip id; those of a shared genotype hold the same alpha and beta."""
    kind = BatchedSearchCell if config.cell == "batched" else SearchCell
    with seeded(config.seed, "search cells"):
        return {
            skip_id: kind(spec, architectures.get(skip_id) or architectures["shared"], table)
            for skip_id, spec in specs.items()
        }


def build_derived_cells(
    specs: Mapping[str, CellSpec], genotype: Genotype, seed: int, table: Table
) -> dict[str, nn.Module]:
    """Build what a genotype puts onto the skips, by skip id; a skip without a cell is left out."""
    with seeded(seed, "derived cells"):
        found = ((skip_id, spec, genotype.cell(skip_id)) for skip_id, spec in specs.items())
        return {
            skip_id: build_implant(spec, cell, table) for skip_id, spec, cell in found if cell is not None
        }


def build_implant(spec: CellSpec, cell: CellGenotype, table: Table) -> nn.Module:
    """Build what a genotype puts onto one skip.

    Raises:
        InputError: an operation is not in the table, or a state has no edge.
    """
    if cell.form is Form.CELL:
        return DerivedCell(spec, cell, table)
    return _PLAIN[cell.form](spec)


_PLAIN: Mapping[Form, Callable[[CellSpec], nn.Module]] = MappingProxyType(
    {Form.ADAPTER: Adapter, Form.AFFINE: Affine, Form.GATE: Gate}
)
