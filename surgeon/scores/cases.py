"""Single cases of an evaluation: as rows of a table, and as what the network saw in them."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from surgeon.data import IGNORED, Cohort
from surgeon.files import whole_file
from surgeon.statistics import kept_statistics

from .evaluation import Scores, in_eval_mode, predicted_wholes
from .prediction import Network, first_patch
from .refusals import refusal
from .tasks import Task, beyond, find_task


@dataclass(frozen=True, slots=True)
class Look:
    """A whole case on the grid it is scored on.

    Attributes:
        case_id: of the image or volume.
        image: float32 `(C, *spatial)`, intensities prepared.
        label: int64 `(*spatial)`; background where nobody has labelled.
        prediction: int64 `(*spatial)`.
    """

    case_id: str
    image: Tensor
    label: Tensor
    prediction: Tensor


def match_task(
    network: Network, cohort: Cohort, device: torch.device | str = "cpu", answer: int | None = None
) -> Task:
    """Show a network the first case, and tell what its output means.

    Args:
        network: on the device, in eval mode.
        cohort: the data it shall be scored on.
        device: where the network is.
        answer: the place of the segmentation among its outputs, see `find_task`.

    Raises:
        InputError: no output at that place is a map.
        DataError: the network does not take the images, or its output does not suit the classes.
    """
    return read_task(network, first_patch(cohort).to(device), cohort, answer)


def read_task(network: Network, image: Tensor, cohort: Cohort, answer: int | None = None) -> Task:
    """Run a network in eval mode on an image `(1, C, *spatial)` and match its output with the classes.

    Raises:
        InputError: no output at the place `answer` is a map.
        DataError: the network does not take the image, or its output does not suit the classes.
    """
    with kept_statistics(network):
        try:
            with torch.no_grad():
                output = network(image)
        except Exception as error:
            raise refusal(error, image, cohort) from error
        return find_task(output, cohort, further=beyond(network, image), answer=answer)


def look_at(
    network: Network, cohort: Cohort, task: Task, volume: str, device: torch.device | str = "cpu"
) -> Look:
    """Return one whole case with what a network sees in it.

    Args:
        network: the network; it is run in eval mode.
        cohort: holds the case.
        task: how to read the output.
        volume: id of the case in `Scores.per_case`.
        device: to run on.
    """
    cases = tuple(case for case in cohort.cases if case.volume == volume)
    alone = dataclasses.replace(cohort, cases=cases)
    with in_eval_mode(network, device):
        whole = next(iter(predicted_wholes(network, alone, task, device)))
    images = [cohort.image_as_scored(case) for case in cases]
    cut = cases[0].slice
    image = images[0] if cut is None else torch.stack(images, cut[0] + 1)
    return Look(volume, image, whole.label.masked_fill(whole.label == IGNORED, 0), whole.prediction)


def worst_cases(scores: Scores, count: int) -> tuple[tuple[str, float], ...]:
    """Return the cases with the lowest mean Dice, the worst first, with that mean."""
    means = []
    for name, values in scores.per_case.items():
        there = [value for value in values["dice"].values() if value is not None]
        means.append((sum(there) / len(there) if there else 1.0, name))
    return tuple((name, mean) for mean, name in sorted(means)[:count])


def write_table(scores: Scores, path: Path, metrics: Sequence[str]) -> None:
    """Write a CSV file with a row for each case and class; a cell is empty where there is no value.

    Args:
        scores: with these metrics.
        path: the file.
        metrics: the columns, beside case, subject and class.
    """
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "subject", "class", *metrics])
        for case, values in scores.per_case.items():
            for name in scores.dice_per_class:
                cells = [values[metric][name] for metric in metrics]
                writer.writerow([case, values["subject"], name, *("" if c is None else c for c in cells)])
