"""What an implant adds to its host: parameters, FLOPs and time, summed from a table of single operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from surgeon.skips import Anatomy

from ..assembly import Table, build_implant
from ..cells import CellSpec
from ..config import Config
from ..costs import count_flops, measure_latency
from ..entrants import fixed_cell
from ..estimates import cost_of, input_shapes
from ..genotype import CellGenotype, Form, Genotype

_ROUNDS = 7
Key = TypeVar("Key", bound=str)
Times = dict[str, dict[str, float]]
"""Milliseconds by skip id and name of an operation or a form; `around` is a cell without operations."""


@dataclass(frozen=True, slots=True, order=True)
class Price:
    """What is added to a host; the order is that of cheapness: FLOPs, then parameters.

    Attributes:
        flops: floating-point operations of one forward pass at the example's size.
        parameters: their number.
        milliseconds: of one forward pass at the example's size; 0 where it was not measured.
    """

    flops: int = 0
    parameters: int = 0
    milliseconds: float = 0.0

    def __add__(self, other: Price) -> Price:
        return Price(
            self.flops + other.flops,
            self.parameters + other.parameters,
            self.milliseconds + other.milliseconds,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """The table of prices of a host's skips.

    Attributes:
        host: what the host itself costs.
        around: by skip id, a cell without its operations.
        operations: by skip id, each operation in a cell.
        forms: by skip id, what is no cell.
    """

    host: Price
    around: Mapping[str, Price]
    operations: Mapping[str, Mapping[str, Price]]
    forms: Mapping[str, Mapping[Form, Price]]

    def of_cell(self, skip_id: str, cell: CellGenotype | None) -> Price:
        """Return the price of what is put onto one skip."""
        if cell is None:
            return Price()
        if cell.form is not Form.CELL:
            return self.forms[skip_id][cell.form]
        table = self.operations[skip_id]
        return sum((table[edge.operation] for edge in cell.edges), self.around[skip_id])

    def of(self, genotype: Genotype) -> Price:
        """Return the price of a genotype on all skips."""
        return sum((self.of_cell(skip_id, genotype.cell(skip_id)) for skip_id in self.around), Price())

    def with_times(self, host: float, times: Times) -> Prices:
        """Return the table with the times of `measure_times` in it, and that of the host."""
        return Prices(
            replace(self.host, milliseconds=host),
            {s: replace(one, milliseconds=times[s]["around"]) for s, one in self.around.items()},
            {s: _with_times(rows, times[s]) for s, rows in self.operations.items()},
            {s: _with_times(rows, times[s]) for s, rows in self.forms.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: for each skip its operations with FLOPs, parameters and milliseconds."""
        return {
            skip_id: {"around": _plain(around), **{n: _plain(p) for n, p in self.operations[skip_id].items()}}
            for skip_id, around in self.around.items()
        }


def _with_times(rows: Mapping[Key, Price], times: Mapping[str, float]) -> dict[Key, Price]:
    return {name: replace(price, milliseconds=times[str(name)]) for name, price in rows.items()}


def _plain(price: Price) -> dict[str, float]:
    time = {"milliseconds": price.milliseconds} if price.milliseconds else {}
    return {"flops": price.flops, "parameters": price.parameters, **time}


@dataclass(frozen=True, slots=True)
class Budget:
    """The most that implants may add, as shares of the host; None leaves it free."""

    parameters: float | None = None
    flops: float | None = None
    latency: float | None = None

    @classmethod
    def of(cls, config: Config) -> Budget:
        """Read the budget from the settings."""
        return cls(config.max_parameters, config.max_flops, config.max_latency)

    def excess(self, price: Price, host: Price) -> float:
        """Return by how much the worst share goes beyond its limit, as a share of that; 0 where all fit."""
        return max((share / limit - 1 for _, share, limit in self._shares(price, host)), default=0.0)

    def refusal(self, price: Price, host: Price) -> str:
        """Say what does not fit; empty where all fits."""
        over = [row for row in self._shares(price, host) if row[1] > row[2]]
        return ", ".join(f"{100 * share:.1f} % more {name} than the host" for name, share, _ in over)

    def _shares(self, price: Price, host: Price) -> list[tuple[str, float, float]]:
        rows = (
            ("parameters", price.parameters, host.parameters, self.parameters),
            ("FLOPs", price.flops, host.flops, self.flops),
            ("time", price.milliseconds, host.milliseconds, self.latency),
        )
        return [(name, part / whole, limit) for name, part, whole, limit in rows if limit and whole]


def list_prices(
    host: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    anatomy: Anatomy,
    specs: Mapping[str, CellSpec],
    table: Table,
) -> Prices:
    """Count parameters and FLOPs of everything that can be put onto each skip; time is left at 0.

    Args:
        host: in eval mode.
        inputs: example inputs on the host's device.
        anatomy: of the host.
        specs: the cell of each skip, by skip id.
        table: factories of the operations by name.
    """
    around: dict[str, Price] = {}
    operations: dict[str, dict[str, Price]] = {}
    forms: dict[str, dict[Form, Price]] = {}
    for skip_id, spec in specs.items():

        def price(cell: CellGenotype, skip_id: str = skip_id, spec: CellSpec = spec) -> Price:
            cost = cost_of(anatomy, skip_id, spec, cell, table)
            return Price(cost.flops, cost.parameters)

        plain = fixed_cell(spec, "identity")
        around[skip_id] = price(plain)
        names = dict.fromkeys((*spec.operations, "sep3", "identity"))
        operations[skip_id] = {
            name: _per_edge(price(fixed_cell(spec, name)), around[skip_id], len(plain.edges))
            for name in names
            if name != "none"
        }
        forms[skip_id] = {f: price(CellGenotype(1.0, (), f)) for f in Form if f is not Form.CELL}
    whole = Price(count_flops(host, inputs), anatomy.parameters)
    return Prices(whole, around, operations, forms)


def _per_edge(whole: Price, around: Price, edges: int) -> Price:
    return Price((whole.flops - around.flops) // edges, (whole.parameters - around.parameters) // edges)


def measure_times(
    prices: Prices,
    inputs: tuple[torch.Tensor, ...],
    anatomy: Anatomy,
    specs: Mapping[str, CellSpec],
    table: Table,
) -> Times:
    """Time everything that can be put onto each skip, once, on the device of the inputs."""
    times: Times = {}
    for skip_id, spec in specs.items():
        shapes = input_shapes(anatomy, skip_id)
        given = tuple(torch.rand(shape, device=inputs[0].device) for shape in shapes)
        inside = (torch.rand(shapes[0][0], spec.inner, *shapes[0][2:], device=inputs[0].device),)
        rows = {
            name: _timed(table[name](spec.inner, spec.spatial_dims, True), inside)
            for name in prices.operations[skip_id]
        }
        cells = {"around": fixed_cell(spec, "identity")}
        cells |= {form.value: CellGenotype(1.0, (), form) for form in prices.forms[skip_id]}
        rows |= {name: _timed(build_implant(spec, cell, table), given) for name, cell in cells.items()}
        times[skip_id] = rows
    return times


def time_host(host: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    """Return the milliseconds of a forward pass of the host."""
    return measure_latency({"host": host}, inputs, _ROUNDS)["host"]["p50"]


def _timed(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> float:
    network = module.to(inputs[0].device).eval()
    given = inputs if getattr(network, "needs_decoder", False) else inputs[:1]
    return measure_latency({"it": network}, given, _ROUNDS)["it"]["p50"]
