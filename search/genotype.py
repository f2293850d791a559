"""The discrete architecture of the cells, as a value with versioned JSON."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from surgeon.errors import InputError

VERSION = 1


class Scope(StrEnum):
    """Whether all skips share one cell genotype."""

    SHARED = "shared"
    PER_SKIP = "per-skip"


class Inputs(StrEnum):
    """What a cell is given."""

    ENCODER = "encoder"
    BOTH = "both"

    @property
    def number(self) -> int:
        """Number of input states of a cell."""
        return 1 if self is Inputs.ENCODER else 2


class CellMerge(StrEnum):
    """What a cell returns: skip + gamma * output, or the output alone."""

    RESIDUAL = "residual"
    REPLACE = "replace"


class Form(StrEnum):
    """What is put on a skip: a cell of edges, or one of the plain things that cells must beat."""

    CELL = "cell"
    ADAPTER = "adapter"
    AFFINE = "affine"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation of a cell, from an input or an earlier state to a state.

    Attributes:
        source: `input0`, `input1`, `state0`, ...
        target: `state0`, `state1`, ...
        operation: name of the operation.
    """

    source: str
    target: str
    operation: str


@dataclass(frozen=True, slots=True)
class CellGenotype:
    """What goes onto a skip.

    Attributes:
        width: channels inside the cell, as a share of the skip's.
        edges: ordered by target, then by source; a form without states has none.
        form: a cell, or something plainer.
    """

    width: float
    edges: tuple[Edge, ...]
    form: Form = Form.CELL

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        edges = [{"from": edge.source, "to": edge.target, "operation": edge.operation} for edge in self.edges]
        plain = {} if self.form is Form.CELL else {"form": self.form.value}
        return {"width": self.width, "edges": edges, **plain}


@dataclass(frozen=True, slots=True)
class Genotype:
    """The cells of a host.

    Attributes:
        scope: one genotype for all skips, or one for each.
        inputs: what a cell is given.
        merge: what a cell returns.
        states: number of states in a cell.
        cells: pairs of `"shared"` or a skip id, and its cell; None where a skip gets no cell.
    """

    scope: Scope
    inputs: Inputs
    merge: CellMerge
    states: int
    cells: tuple[tuple[str, CellGenotype | None], ...]

    def cell(self, skip_id: str) -> CellGenotype | None:
        """Return the genotype of the cell on a skip, None for no cell.

        Raises:
            InputError: nothing is said of that skip.
        """
        key = "shared" if self.scope is Scope.SHARED else skip_id
        for name, cell in self.cells:
            if name == key:
                return cell
        raise InputError(f"the genotype says nothing of {key!r}", where=f"skip {skip_id}")

    def without(self, dropped: Collection[str], skip_ids: Iterable[str]) -> Genotype:
        """Return the genotype with no cell on some skips, as one for each skip.

        Args:
            dropped: the skips that stay as they are.
            skip_ids: every skip that the genotype is for.
        """
        cells = tuple((skip, None if skip in dropped else self.cell(skip)) for skip in skip_ids)
        return replace(self, scope=Scope.PER_SKIP, cells=cells)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "version": VERSION,
            "scope": self.scope.value,
            "inputs": self.inputs.value,
            "merge": self.merge.value,
            "states": self.states,
            "cells": {name: cell.to_dict() if cell else None for name, cell in self.cells},
        }

    def to_json(self) -> str:
        """Return JSON text that `from_json` reads back as an equal value."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any], *, where: str = "genotype") -> Genotype:
        """Read a genotype from plain JSON.

        Args:
            value: what `to_dict` returned.
            where: the file it comes from, for error messages.

        Raises:
            InputError: unknown version, missing or ill-formed fields, an edge that is no link of a cell.
        """
        version = value.get("version") if isinstance(value, Mapping) else None
        if version != VERSION:
            raise InputError(
                f"genotype version {version!r} is unknown",
                where=where,
                fix=f"this version of surgeon reads version {VERSION}; write the genotype again with it",
            )
        try:
            genotype = _read(value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"ill-formed genotype: {error!r}", where=where) from error
        for name, cell in genotype.cells:
            _check_edges(genotype, cell.edges if cell else (), f"{where}, cell {name}")
        return genotype

    @classmethod
    def from_json(cls, text: str, *, where: str = "genotype") -> Genotype:
        """Read a genotype from JSON text.

        Raises:
            InputError: not JSON, or not a genotype of this version.
        """
        try:
            value = json.loads(text)
        except ValueError as error:
            raise InputError(f"not JSON: {error}", where=where) from error
        return cls.from_dict(value, where=where)


def state_names(inputs: Inputs, states: int) -> tuple[str, ...]:
    """Name the states of a cell in the order in which they are computed, inputs first."""
    names = [f"input{index}" for index in range(inputs.number)]
    return (*names, *(f"state{index}" for index in range(states)))


def _read(value: Mapping[str, Any]) -> Genotype:
    return Genotype(
        scope=Scope(value["scope"]),
        inputs=Inputs(value["inputs"]),
        merge=CellMerge(value["merge"]),
        states=int(value["states"]),
        cells=tuple((str(name), _read_cell(cell)) for name, cell in value["cells"].items()),
    )


def _read_cell(value: Mapping[str, Any] | None) -> CellGenotype | None:
    if value is None:
        return None
    edges = tuple(Edge(str(e["from"]), str(e["to"]), str(e["operation"])) for e in value["edges"])
    return CellGenotype(float(value["width"]), edges, Form(value.get("form", Form.CELL)))


def _check_edges(genotype: Genotype, edges: tuple[Edge, ...], where: str) -> None:
    names = state_names(genotype.inputs, genotype.states)
    for edge in edges:
        known = edge.source in names and edge.target in names[genotype.inputs.number :]
        if not known or names.index(edge.source) >= names.index(edge.target):
            raise InputError(
                f"{edge.source} -> {edge.target} is no edge of a cell with {genotype.states} states",
                where=where,
                fix=f"link two of {', '.join(names)}, from an earlier to a later one, never into an input",
            )
