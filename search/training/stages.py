"""The parts of an operation that train: the search, and the training of what is implanted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.errors import GateError
from surgeon.splicing import SplicedNetwork

from ..assembly import build_architectures, build_derived_cells, build_search_cells
from ..cells import Architecture
from ..config import Config
from ..entrants import plain_genotype
from ..genotype import Form, Genotype
from ..planning import Plan
from ..randomness import seeded
from ..step.moving import Moving, Train, host_parameters
from ..step.supply import Supply
from .bilevel import SearchPhase
from .loop import Loop, Position
from .retraining import TrainingPhase
from .selection import select_all


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search came to.

    Attributes:
        genotype: what weighs most.
        position: how long it took.
        network: the host with its search cells, trained.
        architectures: alpha and beta by name.
        ended: why it ended.
    """

    genotype: Genotype
    position: Position
    network: SplicedNetwork
    architectures: Mapping[str, Architecture]
    ended: str


@dataclass(frozen=True, slots=True)
class Trained:
    """A network whose implants were trained.

    Attributes:
        network: at the state that was best on the validation cases.
        position: how long it took.
        facts: best epoch and validation Dice, before and after.
        moved: names of the host's parameters that were trained too.
    """

    network: SplicedNetwork
    position: Position
    facts: dict[str, Any]
    moved: tuple[str, ...] = field(default=())


def search_cells(plan: Plan, supply: Supply, loop: Loop) -> Searched:
    """Search the cells of a host.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    config = plan.config
    network, architectures, phase = begin_search(plan, supply)
    before = host_state(network)
    with seeded(config.seed, "search"):
        position = loop.run(phase)
    check_untouched(before, network)
    genotype = select_all(
        plan.specs, architectures, scope=config.genotype, merge=config.merge, inputs=config.inputs
    )
    return Searched(genotype, position, network, architectures, phase.ended)


def begin_search(plan: Plan, supply: Supply) -> tuple[SplicedNetwork, dict[str, Architecture], SearchPhase]:
    """Return the host with new search cells, their alpha and beta by name, and what trains them."""
    config = plan.config
    architectures = build_architectures(plan.specs, config)
    cells = build_search_cells(plan.specs, architectures, config, plan.table)
    network = plan.splice(cells)
    phase = SearchPhase(network, cells, architectures, supply.glance(config.search_cases), config)
    return network, architectures, phase


def train_genotype(
    name: str,
    plan: Plan,
    supply: Supply,
    loop: Loop,
    genotype: Genotype,
    *,
    config: Config | None = None,
) -> Trained:
    """Build what a genotype puts onto the skips, and train it; see `train_implants`."""
    implants = build_derived_cells(plan.specs, genotype, plan.config.seed, plan.table)
    return train_implants(name, plan, supply, loop, implants, config=config)


def train_implants(
    name: str,
    plan: Plan,
    supply: Supply,
    loop: Loop,
    implants: Mapping[str, nn.Module],
    *,
    config: Config | None = None,
) -> Trained:
    """Train modules on the skips of the host, and keep the state best on the validation cases.

    Args:
        name: of the phase.
        plan: host and data.
        supply: batches, cases and loss.
        loop: what runs the phase.
        implants: modules by skip id; there may be none where the host is trained.
        config: settings other than the plan's: epochs, rates, and how much of the host is trained.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or what was frozen of the host changed.
    """
    config = config or plan.config
    network, moved, phase = begin_training(name, plan, supply, implants, config)
    before = host_state(network, without=moved)
    with seeded(config.seed, name):
        position = loop.run(phase)
    phase.finish()
    check_untouched(before, network)
    return Trained(network, position, phase.facts(), moved)


def begin_training(
    name: str, plan: Plan, supply: Supply, implants: Mapping[str, nn.Module], config: Config
) -> tuple[SplicedNetwork, tuple[str, ...], TrainingPhase]:
    """Return the host with modules on its skips, the names of what moves in it, and what trains them."""
    network = plan.splice(implants)
    moving = moving_part(network, config.train)
    moved = tuple(parameter.replace("/", ".") for parameter in moving.host)
    return network, moved, TrainingPhase(name, network, moving, supply, config)


def moving_part(network: SplicedNetwork, train: Train) -> Moving:
    """Return what training moves in a network, and let gradients reach it."""
    host = host_parameters(network, train)
    for parameter in host.values():
        parameter.requires_grad_(True)
    return Moving(network.get_submodule("implants"), host)


def train_baselines(plan: Plan, supply: Supply, loop: Loop) -> dict[str, Trained]:
    """Train what the cells are compared with, with the same budget, by name.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    return {
        name: train_genotype(name, plan, supply, loop, plain_genotype(Form(name), plan.config))
        for name in plan.config.baselines
    }


def host_state(network: SplicedNetwork, without: Collection[str] = ()) -> dict[str, Tensor]:
    """Return copies of the parameters and buffers of the host's part, by name, without some of them.

    A module may have several names in a host: what is left out is so under all of its names.
    """
    left_out = {network.get_parameter(name).data_ptr() for name in without}
    return {
        name: value.clone()
        for name, value in network.state_dict().items()
        if not name.startswith("implants.") and value.data_ptr() not in left_out
    }


def check_untouched(before: Mapping[str, Tensor], network: SplicedNetwork) -> None:
    """Compare the host's part with what `host_state` returned before, to the bit.

    Raises:
        GateError: it changed.
    """
    after = network.state_dict()
    changed = [name for name, value in before.items() if not torch.equal(value, after[name])]
    if changed:
        raise GateError(
            f"the frozen host changed: {', '.join(changed[:3])}",
            where=f"{len(changed)} tensors",
            fix="the host writes to its own state in eval mode; make it stop, or it cannot be implanted",
        )
