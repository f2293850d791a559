"""`surgeon evaluate`: the Dice of a network, a run or an export."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer, answering
from .cohorts import DataRequest
from .hosting import Form, HostRequest, find_form, pick_device
from .options import (
    HOST_FORMS,
    ArgumentOption,
    BinariseOption,
    CheckpointOption,
    ClassesOption,
    DataOption,
    DeviceOption,
    InputOption,
    JsonOption,
    PreparationOption,
    SliceOption,
    SubjectsOption,
    TracebackOption,
    TrustOption,
)
from .values import parse_names

if TYPE_CHECKING:
    from torch import nn

    from surgeon.data import Cohort

_WORST = 3

SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|HOST|DIR",
        help=f"What to score: the folder of an implant, of an export, or a network: {HOST_FORMS}.",
        show_default=False,
    ),
]


def evaluate(
    subject: SubjectArgument,
    data: DataOption,
    checkpoint: CheckpointOption = None,
    arg: ArgumentOption = None,
    shape: InputOption = None,
    trust: TrustOption = False,
    device: DeviceOption = "auto",
    preparation: PreparationOption = None,
    binarise: BinariseOption = False,
    subjects: SubjectsOption = None,
    classes: ClassesOption = None,
    slice_axis: SliceOption = None,
    json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Score a network, the implanted network of a RUN, or an exported model on labelled images."""
    with answering(traceback) as answer:
        request = HostRequest.from_options(subject, checkpoint, arg, shape, trust)
        images = DataRequest(data, preparation, binarise, subjects, parse_names(classes), slice_axis)
        scores = score(request, images, pick_device(device))
        if json:
            answer.give_json(scores)
        else:
            _show(answer, scores)


def score(request: HostRequest, images: DataRequest, device: str) -> dict[str, Any]:
    """Score what was asked for.

    Returns:
        plain JSON: `network`, `form`, `data` and what `surgeon.scores.Scores.to_dict` gives.

    Raises:
        InputError: network or data cannot be used, or they do not suit each other.
    """
    form = find_form(request.spec)
    if form is Form.EXPORT:
        module, cohort = _open_export(Path(request.spec), images)
        device = "cpu"
    else:
        module, cohort = _open_network(request, images)
    return {
        "network": request.spec,
        "form": form.value,
        "data": cohort.to_dict(),
        **score_module(module.to(device), cohort, device),
    }


def score_export(folder: Path, images: DataRequest) -> dict[str, Any]:
    """Score an exported model on labelled images; plain JSON, as `surgeon.scores.Scores.to_dict`."""
    return score_module(*_open_export(folder, images), "cpu")


def score_module(module: nn.Module, cohort: Cohort, device: str) -> dict[str, Any]:
    """Score a network on labelled images; plain JSON, as `surgeon.scores.Scores.to_dict`."""
    import torch

    from surgeon.scores import evaluate as score_cases
    from surgeon.scores import find_task, first_patch

    with torch.no_grad():
        output = module(first_patch(cohort).to(device))
    result: dict[str, Any] = score_cases(module, cohort, find_task(output, cohort), device=device).to_dict()
    return result


def _open_network(request: HostRequest, images: DataRequest) -> tuple[nn.Module, Cohort]:
    from .networks import open_network

    network = open_network(request)
    images = _with_classes(images, network.classes)
    return network.module, images.open(network.host.preparation, network.inputs[0].dim() - 2)


def _open_export(folder: Path, images: DataRequest) -> tuple[nn.Module, Cohort]:
    from .served import ExportedNetwork, read_recorded_data

    module = ExportedNetwork.open(folder)
    preparation, classes = read_recorded_data(folder)
    return module, _with_classes(images, classes).open(preparation, module.spatial_dims)


def _with_classes(images: DataRequest, known: tuple[str, ...] | None) -> DataRequest:
    """Take over the classes that a network knows, unless others were named."""
    return images if images.classes is not None else dataclasses.replace(images, classes=known)


def _show(answer: Answer, scores: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("class")
    table.add_column("Dice", justify="right")
    for name, value in scores["dice_per_class"].items():
        table.add_row(name, "–" if value is None else f"{value:.4f}")
    table.add_row("mean", f"{scores['dice_mean']:.4f}", style="bold")
    answer.say(table)
    worst = sorted(scores["per_case"].items(), key=lambda item: _mean(item[1]["dice"]))[:_WORST]
    answer.say("worst cases: " + ", ".join(f"{name} {_mean(row['dice']):.4f}" for name, row in worst))


def _mean(dice: Mapping[str, float | None]) -> float:
    values = [value for value in dice.values() if value is not None]
    return sum(values) / len(values) if values else 1.0
