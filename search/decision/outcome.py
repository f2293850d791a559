"""How the implanted network compares with its host on the test subjects."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import surgeon
from surgeon.data import IGNORED, Case
from surgeon.files import whole_file
from surgeon.scores import Scores, bootstrap_gain, evaluate, predict

from ..costs import compare_costs
from ..planning import Plan

METRICS = ("hd95",)
"""What is scored beside Dice where a comparison was asked for."""


class Verdict(StrEnum):
    """What the interval of the gain says."""

    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    WORSE = "worse"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The comparison on the test subjects.

    Attributes:
        scores: of `host`, `implanted` and each baseline.
        gain: mean gain in Dice, its 95 % interval over subjects and p-value.
        cost: parameters, FLOPs and latency of host and implanted network.
        comparison: the rows of the comparison that was asked for; empty without one.
    """

    scores: Mapping[str, Scores]
    gain: Mapping[str, float]
    cost: Mapping[str, Any]
    comparison: Sequence[Mapping[str, Any]] = ()

    @property
    def verdict(self) -> Verdict:
        """Improved or worse where the interval leaves out 0, else unchanged."""
        return judge(self.gain["low"], self.gain["high"])


def judge(low: float, high: float) -> Verdict:
    """Return the verdict of a gain's interval.

    >>> judge(0.01, 0.03), judge(-0.01, 0.03), judge(-0.03, -0.01)
    (<Verdict.IMPROVED: 'improved'>, <Verdict.UNCHANGED: 'unchanged'>, <Verdict.WORSE: 'worse'>)
    """
    if low > 0:
        return Verdict.IMPROVED
    return Verdict.WORSE if high < 0 else Verdict.UNCHANGED


def compare_networks(plan: Plan, implanted: nn.Module, baselines: Mapping[str, nn.Module]) -> Outcome:
    """Score host, implanted network and baselines on the test subjects, once.

    Args:
        plan: holds the host and the test subjects.
        implanted: the host with its trained cells.
        baselines: other networks trained with the same budget, by name.
    """
    metrics = METRICS if plan.config.compare else ()
    networks = {"host": plan.host, "implanted": implanted, **baselines}
    for network in networks.values():
        network.eval()
    scores = {
        name: evaluate(network, plan.test, plan.task, device=plan.device, metrics=metrics, peers=plan.fleet)
        for name, network in networks.items()
    }
    gain = bootstrap_gain(scores["host"], scores["implanted"], plan.config.seed)
    inputs = tuple(x.to(plan.device) for x in plan.inputs)
    return Outcome(scores, gain, compare_costs({"host": plan.host, "implanted": implanted}, inputs))


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    return {
        "surgeon": surgeon.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def write_samples(path: Path, plan: Plan, implanted: nn.Module, outcome: Outcome) -> None:
    """Write a few test images with labels and both predictions, spread over the gain.

    Args:
        path: of the `.npz`; it holds no pickled objects.
        plan: holds the host and the test subjects.
        implanted: the host with its trained cells.
        outcome: the scores, by which the images are chosen.
    """
    host, gained = (outcome.scores[name].to_dict()["per_case"] for name in ("host", "implanted"))
    volumes = {case: (_mean(host[case]["dice"]), _mean(gained[case]["dice"])) for case in gained}
    dice = {case.id: volumes[case.volume] for case in plan.test.cases}
    cases = _spread(plan.test.cases, dice, plan.config.samples)
    arrays: dict[str, Any] = {
        "version": np.int64(1),
        "case_ids": np.array([case.id for case in cases], dtype=np.str_),
        "classes": np.array(plan.cohort.classes, dtype=np.str_),
        "dice_host": np.array([dice[case.id][0] for case in cases], dtype=np.float32),
        "dice_implanted": np.array([dice[case.id][1] for case in cases], dtype=np.float32),
    }
    for index, case in enumerate(cases):
        arrays |= {f"{name}_{index}": array for name, array in _pictures(plan, case, implanted).items()}
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _pictures(plan: Plan, case: Case, implanted: nn.Module) -> dict[str, Any]:
    sample = plan.cohort.read(case)
    x = sample.image[None].to(plan.device)
    window = plan.cohort.preparation.window
    host, ours = (
        predict(network, x, plan.task, window=window)[0].cpu() for network in (plan.host, implanted)
    )
    label = sample.label if sample.label is not None else torch.zeros_like(host)
    numbers = {"label": label.masked_fill(label == IGNORED, 0), "host": host, "implanted": ours}
    return {
        "image": sample.image.numpy(),
        **{name: x.numpy().astype(np.int16) for name, x in numbers.items()},
    }


def _spread(cases: Sequence[Case], dice: Mapping[str, tuple[float, float]], count: int) -> list[Case]:
    """Choose cases evenly spaced from the largest gain to the largest loss."""
    ranked = sorted(cases, key=lambda case: (dice[case.id][0] - dice[case.id][1], case.id))
    if count >= len(ranked):
        return ranked
    places = np.linspace(0, len(ranked) - 1, count).round().astype(int) if count else ()
    return [ranked[int(place)] for place in places]


def _mean(values: Mapping[str, float]) -> float:
    finite = [value for value in values.values() if value is not None and math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
