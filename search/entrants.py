"""The points of the space that need no search: nothing, the plain forms, fixed cells, random cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from .cells import CellSpec
from .config import Config
from .genotype import CellGenotype, Edge, Form, Genotype, Scope, state_names
from .randomness import generator_for

FIXED = "sep3"
"""The operation of the fixed cell: one of middling cost."""
WIDER = "sep5"
"""That of the second one, which sees farther (`python -m benchmarks.gain.cells` says what it is worth)."""
EDGES_KEPT = 2
"""Edges that end in each state of a discrete cell."""


@dataclass(frozen=True, slots=True)
class Entrant:
    """Something that could be put onto the skips of a host.

    Attributes:
        name: in tables and files.
        genotype: what goes onto which skip.
    """

    name: str
    genotype: Genotype


def fixed_cell(spec: CellSpec, operation: str = FIXED) -> CellGenotype:
    """Return the cell with one operation on the last two links into each state."""
    names = state_names(spec.inputs, spec.states)
    first = spec.inputs.number
    edges = [
        Edge(source, names[first + state], operation)
        for state in range(spec.states)
        for source in names[max(0, first + state - EDGES_KEPT) : first + state]
    ]
    return CellGenotype(spec.width, tuple(edges))


def random_cell(spec: CellSpec, generator: torch.Generator) -> CellGenotype:
    """Draw a cell: for each state two links (one where there is one), for each link an operation.

    Every set of links and every operation but `none` is as likely as any other.
    """
    operations = [name for name in spec.operations if name != "none"]
    edges = []
    for target, incoming in zip(spec.names[spec.inputs.number :], spec.incoming, strict=True):
        order = torch.randperm(len(incoming), generator=generator).tolist()
        for place in sorted(order[:EDGES_KEPT]):
            choice = int(torch.randint(len(operations), (), generator=generator))
            edges.append(Edge(spec.names[incoming[place][1]], target, operations[choice]))
    return CellGenotype(spec.width, tuple(edges))


def shared_genotype(cell: CellGenotype | None, config: Config) -> Genotype:
    """Return the genotype that puts the same onto every skip; None puts nothing there."""
    return Genotype(Scope.SHARED, config.inputs, config.merge, config.states, (("shared", cell),))


def nothing(config: Config) -> Entrant:
    """Return the host as it is."""
    return Entrant("nothing", shared_genotype(None, config))


def plain_entrants(specs: Mapping[str, CellSpec], config: Config) -> tuple[Entrant, ...]:
    """Return what needs no search, the cheapest first: `affine`, `adapter`, and the fixed cell `sep3`."""
    spec = next(iter(specs.values()))
    forms = [Entrant(form.value, plain_genotype(form, config)) for form in (Form.AFFINE, Form.ADAPTER)]
    return (*forms, Entrant(FIXED, shared_genotype(fixed_cell(spec), config)))


def wider_entrants(specs: Mapping[str, CellSpec], config: Config) -> tuple[Entrant, ...]:
    """Return the fixed cell `sep5`; nothing where that operation is not among those of a cell."""
    spec = next(iter(specs.values()))
    if WIDER not in config.operations:
        return ()
    return (Entrant(WIDER, shared_genotype(fixed_cell(spec, WIDER), config)),)


def plain_genotype(form: Form, config: Config) -> Genotype:
    """Return the genotype that puts a form without states onto every skip."""
    return shared_genotype(CellGenotype(1.0, (), form), config)


def random_entrants(specs: Mapping[str, CellSpec], config: Config) -> Iterator[Entrant]:
    """Yield random genotypes without end, `random1` first: the same ones for the same seed."""
    generator = generator_for(config.seed, "random cells")
    first = next(iter(specs.values()))
    number = 0
    while True:
        number += 1
        if config.genotype is Scope.SHARED:
            genotype = shared_genotype(random_cell(first, generator), config)
        else:
            cells = tuple((skip_id, random_cell(spec, generator)) for skip_id, spec in specs.items())
            genotype = Genotype(Scope.PER_SKIP, config.inputs, config.merge, config.states, cells)
        yield Entrant(f"random{number}", genotype)
