"""What a sceptic would try: everything else, at the same data, steps and tuning effort.

Every row is tried briefly with three learning rates, of which validation chooses, and trained in full with
that one; the test subjects are scored once, when all rows are trained.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from torch import Tensor, nn

from surgeon.scores import Scores, bootstrap_gain, evaluate
from surgeon.splicing import SplicedNetwork

from ..assembly import build_derived_cells
from ..costs import count_flops, count_parameters, measure_latency
from ..entrants import Entrant, nothing, plain_entrants, plain_genotype, random_entrants, wider_entrants
from ..genotype import Form, Genotype
from ..planning import Plan, draw_batches
from ..step.moving import Train
from ..step.supply import Supply
from ..training.loop import Loop, Position
from ..training.stages import Trained, train_genotype
from .contest import first_epochs
from .finding import Found
from .outcome import METRICS, Outcome
from .panel import seat_panel
from .renorming import estimate_norms
from .trials import Trials

_NORM_BATCHES = 16
# Weights that are trained already take smaller steps than those that are new.
_HOST_RATE = 0.3


@dataclass(frozen=True, slots=True)
class Contender:
    """One row before it is trained.

    Attributes:
        name: in files.
        words: in tables.
        genotype: what is put onto the skips.
        train: how much of the host is trained.
    """

    name: str
    words: str
    genotype: Genotype
    train: Train = Train.CELLS


@dataclass(frozen=True, slots=True)
class Row:
    """One row, trained.

    Attributes:
        contender: what it is.
        state: the parameters and buffers that differ from the host's, by name, on the CPU.
        trainable: number of parameters that were trained.
        seconds: of all its trainings.
        rate: learning rate that validation chose; None where nothing was trained.
        position: of the training in full.
        facts: of that training: best epoch and validation Dice.
    """

    contender: Contender
    state: Mapping[str, Tensor]
    trainable: int
    seconds: float
    rate: float | None
    position: Position
    facts: Mapping[str, Any]

    @property
    def has_frozen_host(self) -> bool:
        """Whether every parameter of the host is as it was."""
        return self.contender.train is Train.CELLS

    def trained(self, plan: Plan) -> Trained:
        """Return what its training in full came to, where the host is frozen."""
        return Trained(self.build(plan), self.position, {**self.facts, "retrain_rate": self.rate})

    def build(self, plan: Plan) -> SplicedNetwork:
        """Build the network again."""
        implants = build_derived_cells(plan.specs, self.contender.genotype, plan.config.seed, plan.table)
        network = plan.splice(implants)
        network.load_state_dict(dict(self.state), strict=False)
        return network.eval()


def list_contenders(plan: Plan, found: Found) -> tuple[Contender, ...]:
    """Return the rows of the comparison, those with a frozen host first.

    What the search found is among them where there was a short list, so that it meets the random cells at
    equal terms whatever was recommended.
    """
    config, nowhere = plan.config, nothing(plan.config).genotype
    (_, adapter, fixed), wider = plain_entrants(plan.specs, config), wider_entrants(plan.specs, config)
    random: Sequence[Entrant] = [*itertools.islice(random_entrants(plan.specs, config), config.compare_cells)]
    return (
        Contender("norms", "scales and shifts of the host", nowhere, Train.NORMS),
        Contender("adapter", "1x1 adapters", adapter.genotype),
        *(Contender(one.name, f"a fixed {one.name} cell", one.genotype) for one in (fixed, *wider)),
        *_searched(found),
        *(Contender(one.name, f"random cell {n}", one.genotype) for n, one in enumerate(random, 1)),
        Contender("gate", "attention gates", plain_genotype(Form.GATE, config)),
        Contender("decoder", "decoder fine-tuned", nowhere, Train.DECODER),
        Contender("full", "everything fine-tuned", nowhere, Train.ALL),
    )


def _searched(found: Found) -> Iterator[Contender]:
    words = {"searched": "searched cell, by weight", "perturbed": "searched cell, by perturbation"}
    for row in (found.contest or {}).get("rows", ()):
        if row["name"] in words:
            yield Contender(row["name"], words[row["name"]], Genotype.from_dict(row["genotype"]))


def train_contenders(plan: Plan, supply: Supply, loop: Loop, found: Found) -> tuple[Row, ...]:
    """Train every row; one that an earlier sitting finished is taken from its checkpoint.

    Raises:
        Stopped: the user stopped it.
        GateError: the loss is no number, or what was frozen of the host changed.
    """
    rows = [_renormed(plan, supply)]
    trials = Trials(plan, loop, seat_panel(plan, supply))
    for contender in list_contenders(plan, found):
        rows.append(_trained(plan, supply, loop, contender, trials))
    return tuple(row for row in rows if row is not None)


def _renormed(plan: Plan, supply: Supply) -> Row | None:
    network = plan.splice({})
    plain = plan.config.model_copy(update={"augment": False})
    batches = draw_batches(plan.cohort.select(plan.splits.train), plain, "training")
    images = (
        batches.batch(0, step).image.to(plan.device) for step in range(min(len(batches), _NORM_BATCHES))
    )
    if not estimate_norms(network, images):
        return None
    dice = supply.score(network).dice_mean
    contender = Contender("renormed", "host, BatchNorm estimated again", nothing(plan.config).genotype)
    state = {name: value.cpu() for name, value in network.state_dict().items() if "running_" in name}
    return Row(contender, state, 0, 0.0, None, Position(), {"validation_dice": dice})


def _trained(plan: Plan, supply: Supply, loop: Loop, contender: Contender, trials: Trials) -> Row:
    """Find the learning rate in brief trainings, and train in full."""
    changes: dict[str, Any] = {"train": contender.train, "host_factor": 1.0}
    if contender.train is not Train.CELLS:
        changes["retrain_rate"] = _HOST_RATE * plan.config.retrain_rate
    config = plan.config.model_copy(update=changes)
    name = f"compare-{contender.name}"
    brief = config.model_copy(update={"retrain_epochs": first_epochs(config, supply.training.steps)})
    tried = trials.tune(f"{name}-1", contender.genotype, brief)
    config = config.model_copy(update={"retrain_rate": tried.rate})
    trained = train_genotype(name, plan, supply, loop, contender.genotype, config=config)
    return Row(
        contender,
        state_of(trained),
        count_trained(trained),
        tried.seconds + trained.position.seconds,
        tried.rate,
        trained.position,
        trained.facts,
    )


def count_trained(trained: Trained) -> int:
    """Count the parameters that training could move: the implants', and those named of the host."""
    named = dict(trained.network.named_parameters())
    implants = [name for name in named if name.startswith("implants.")]
    return sum(named[name].numel() for name in (*implants, *trained.moved))


def state_of(trained: Trained) -> dict[str, Tensor]:
    """Return what differs from the host's state in a trained network, on the CPU."""
    return {
        name: value.cpu().clone()
        for name, value in trained.network.state_dict().items()
        if name.startswith("implants.") or name in trained.moved
    }


def with_comparison(plan: Plan, outcome: Outcome, found: Found, rows: Sequence[Row]) -> Outcome:
    """Score every row on the test subjects, once, and measure what it costs.

    Args:
        plan: holds the test subjects.
        outcome: of host and implanted network, which become the first two rows.
        found: the implanted network, and what it took to find it.
        rows: trained.

    Returns:
        the outcome with the scores of every row, and the table as plain JSON.
    """
    host, trained = outcome.scores["host"], found.trained
    given = {
        "name": "implanted",
        "words": "recommended",
        "frozen": not trained.moved,
        "trainable": count_trained(trained),
        "rate": trained.facts.get("retrain_rate"),
        "seconds": round(found.seconds, 3),
        "validation_dice": trained.facts["validation_dice"],
    }
    plain = {"name": "host", "words": "host", "frozen": True, "trainable": 0, "rate": None, "seconds": 0.0}
    scores = dict(outcome.scores)
    table = [
        {**plain, "validation_dice": None, **describe_row(plan, plan.host, host, host)},
        {**given, **describe_row(plan, trained.network, scores["implanted"], host)},
    ]
    for row in rows:
        network = row.build(plan)
        reached = evaluate(
            network, plan.test, plan.task, device=plan.device, metrics=METRICS, peers=plan.fleet
        )
        scores[row.contender.name] = reached
        facts = {
            "name": row.contender.name,
            "words": row.contender.words,
            "frozen": row.has_frozen_host,
            "trainable": row.trainable,
            "rate": row.rate,
            "seconds": round(row.seconds, 3),
            "validation_dice": row.facts["validation_dice"],
        }
        table.append(facts | describe_row(plan, network, reached, host))
    return replace(outcome, scores=scores, comparison=tuple(table))


def describe_row(plan: Plan, network: nn.Module, found: Scores, host: Scores) -> dict[str, Any]:
    """Return Dice, HD95, gain over the host and cost of a network, as plain JSON."""
    inputs = tuple(x.to(plan.device) for x in plan.inputs)
    spent = measure_latency({"host": plan.host, "it": network}, inputs)
    return {
        "dice": found.dice_mean,
        "hd95": mean_distance(found),
        "gain": bootstrap_gain(host, found, plan.config.seed),
        "parameters": count_parameters(network),
        "flops": count_flops(network, inputs),
        "latency": {"host": spent["host"]["p50"], "it": spent["it"]["p50"]},
    }


def mean_distance(scores: Scores) -> float | None:
    """Return the mean HD95 over cases and classes that have one, in mm or pixels."""
    values = [x for case in scores.per_case.values() for x in case.get("hd95", {}).values()]
    finite = [float(x) for x in values if x is not None and math.isfinite(x)]
    return fmean(finite) if finite else None


def summarise_random(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of the random cells, and which of them validation would have chosen."""
    random = [row for row in table if row["name"].startswith("random")]
    if not random:
        return {}
    chosen = max(random, key=lambda row: row["validation_dice"])
    return {
        "cells": len(random),
        "dice_mean": fmean(row["dice"] for row in random),
        "chosen": chosen["name"],
        "dice_chosen": chosen["dice"],
    }
