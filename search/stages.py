"""The parts of an operation that train: the search, and the training of what is implanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surgeon.errors import GateError
from surgeon.splicing import SplicedNetwork

from .assembly import build_adapters, build_architectures, build_search_cells
from .bilevel import SearchPhase, Supply
from .genotype import Genotype
from .loop import Loop, Position
from .planning import Plan
from .randomness import seeded
from .retraining import TrainingPhase
from .selection import select_all


@dataclass(frozen=True, slots=True)
class Trained:
    """A network whose implants were trained.

    Attributes:
        network: at the state that was best on the validation cases.
        position: how long it took.
        facts: best epoch and validation Dice, before and after.
    """

    network: SplicedNetwork
    position: Position
    facts: dict[str, float]


def search_cells(plan: Plan, supply: Supply, loop: Loop) -> tuple[Genotype, Position]:
    """Search the cells of a host.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    config = plan.config
    architectures = build_architectures(plan.specs, config)
    cells = build_search_cells(plan.specs, architectures, config, plan.table)
    network = plan.splice(cells)
    before = host_state(network)
    phase = SearchPhase(network, cells, architectures, supply.glance(config.search_cases), config)
    with seeded(config.seed, "search"):
        position = loop.run(phase)
    check_untouched(before, network)
    scope, merge, given = config.genotype, config.merge, config.inputs
    return select_all(plan.specs, architectures, scope=scope, merge=merge, inputs=given), position


def train_implants(
    name: str, plan: Plan, supply: Supply, loop: Loop, implants: Mapping[str, nn.Module]
) -> Trained:
    """Train modules on the skips of the frozen host, and keep the state best on the validation cases.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    network = plan.splice(implants)
    before = host_state(network)
    phase = TrainingPhase(name, network, network.get_submodule("implants"), supply, plan.config)
    with seeded(plan.config.seed, name):
        position = loop.run(phase)
    phase.finish()
    check_untouched(before, network)
    return Trained(network, position, phase.facts())


def train_baselines(plan: Plan, supply: Supply, loop: Loop) -> dict[str, Trained]:
    """Train what the cells are compared with, with the same budget, by name.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or the host changed.
    """
    builders = {"adapter": build_adapters}
    return {
        name: train_implants(name, plan, supply, loop, builders[name](plan.specs))
        for name in plan.config.baselines
    }


def host_state(network: SplicedNetwork) -> dict[str, Tensor]:
    """Return copies of the parameters and buffers of the host's part, by name."""
    state = network.state_dict()
    return {name: value.clone() for name, value in state.items() if not name.startswith("implants.")}


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
