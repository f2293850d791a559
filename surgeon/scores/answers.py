"""Which output of a network is its answer, found on labelled cases where several could be."""

from __future__ import annotations

import torch
from torch import Tensor

from surgeon.data import Cohort

from .cases import read_task
from .evaluation import evaluate, in_eval_mode
from .prediction import Network
from .tasks import Task, rivals

MOST = 8
"""Subjects that outputs are compared on: heads of one network differ by more than a few cases hide."""


def choose_answer(
    network: Network, image: Tensor, cohort: Cohort, task: Task, device: torch.device | str = "cpu"
) -> tuple[Task, str]:
    """Choose the output with the largest Dice, where a network gives several of one size.

    Decoders of several stages return one map for each, and not all have the best one first.

    Args:
        network: it is run in eval mode.
        image: `(1, C, *spatial)`.
        cohort: labelled cases, none of which is to compare with later.
        task: as `read_task` finds it by itself.
        device: to run on.

    Returns:
        the task, and a sentence that says what was chosen; no sentence where there was nothing to choose.
    """
    image = image.to(device)
    with in_eval_mode(network, device):
        with torch.no_grad():
            places = rivals(network(image), task)
        if len(places) < 2:
            return task, ""
        tasks = {place: read_task(network, image, cohort, place) for place in places}
    few = _few_subjects(cohort)
    dice = {place: evaluate(network, few, tasks[place], device).dice_mean for place in places}
    best = max(places, key=lambda place: (dice[place], -place))
    found = ", ".join(f"{place}: {dice[place]:.3f}" for place in places)
    remark = (
        f"output {best} is read as the answer, of {len(places)} equally large ones: their Dice on"
        f" {len(few.subjects)} training subjects is {found}"
    )
    return tasks[best], remark


def _few_subjects(cohort: Cohort) -> Cohort:
    """Return the cases of some subjects, spread over all."""
    subjects = cohort.subjects
    number = min(MOST, len(subjects))
    return cohort.select(subjects[place * len(subjects) // number] for place in range(number))
