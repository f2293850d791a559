"""`surgeon evaluate`: how well a network, a run or an export fits the labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .answer import Answer, answering
from .cohorts import DataRequest
from .hosting import HostRequest, pick_device
from .options import (
    HOST_FORMS,
    AnswerOption,
    ArgumentOption,
    BinariseOption,
    CacheOption,
    ChannelsOption,
    CheckpointOption,
    ClassesOption,
    DataOption,
    DeviceOption,
    ForwardOption,
    InputOption,
    JsonOption,
    PreparationOption,
    SliceOption,
    SubjectsOption,
    TracebackOption,
    TrustOption,
)
from .scoring import WORST, Wanted, score
from .values import parse_names

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95": "HD95",
    "assd": "ASSD",
    "surface_dice": "surface Dice",
}
_DISTANCES = ("hd95", "assd")

SubjectArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|HOST|DIR",
        help=f"What to score: the folder of an implant, of an export, or a network: {HOST_FORMS}.",
        show_default=False,
    ),
]

MetricsOption = Annotated[
    str,
    typer.Option(
        "--metrics", metavar="NAMES", help="Beside Dice: iou, hd95, assd (mm), surface_dice; or none."
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option("--tolerance", metavar="MM", help="Distance within which surfaces agree, for surface_dice."),
]
EmptyOption = Annotated[
    str,
    typer.Option(
        "--empty",
        metavar="perfect|skip",
        help="A class that is in neither label nor prediction: counts as found, or is left out.",
    ),
]
TableOption = Annotated[
    Path | None, typer.Option("--csv", metavar="FILE", help="Write a row for each case and class.")
]
PicturesOption = Annotated[
    Path | None, typer.Option("--pictures", metavar="DIR", help="Draw the worst cases into this folder.")
]


def evaluate(
    subject: SubjectArgument,
    data: DataOption,
    checkpoint: CheckpointOption = None,
    arg: ArgumentOption = None,
    forward: ForwardOption = None,
    shape: InputOption = None,
    trust: TrustOption = False,
    device: DeviceOption = "auto",
    preparation: PreparationOption = None,
    binarise: BinariseOption = False,
    subjects: SubjectsOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = None,
    slice_axis: SliceOption = None,
    output: AnswerOption = None,
    cache: CacheOption = None,
    metrics: MetricsOption = "iou,hd95,assd,surface_dice",
    tolerance: ToleranceOption = 1.0,
    empty: EmptyOption = "perfect",
    csv: TableOption = None,
    pictures: PicturesOption = None,
    json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Score a network, the implanted network of a RUN, or an exported model on labelled images."""
    with answering(traceback) as answer:
        request = HostRequest.from_options(subject, checkpoint, arg, forward, shape, trust)
        images = DataRequest(
            data,
            preparation,
            binarise,
            subjects,
            parse_names(classes),
            slice_axis,
            cache,
            parse_names(channels),
        )
        wanted = Wanted(_metrics(metrics), tolerance, empty, csv, pictures, output)
        scores = score(request, images, pick_device(device), wanted, answer.note)
        if json:
            answer.give_json(scores)
        else:
            _show(answer, scores)


def _metrics(text: str) -> tuple[str, ...]:
    return () if text == "none" else parse_names(text) or ()


def _show(answer: Answer, scores: Mapping[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    metrics = scores["metrics"]
    table.add_column("class")
    for metric in metrics:
        table.add_column(_TITLES[metric], justify="right")
    for name in scores["dice_per_class"]:
        table.add_row(name, *(_cell(metrics[metric][name]) for metric in metrics))
    table.add_row("mean", f"{scores['dice_mean']:.4f}", style="bold")
    answer.say(table)
    if any(metric in _DISTANCES for metric in metrics):
        answer.say("HD95 and ASSD are in mm, or in pixels where the files say no spacing")
    worst = sorted(scores["per_case"].items(), key=lambda item: _mean(item[1]["dice"]))[:WORST]
    answer.say("worst cases: " + ", ".join(f"{name} {_mean(row['dice']):.4f}" for name, row in worst))
    if scores.get("pictures"):
        answer.say("pictures: " + ", ".join(scores["pictures"]))


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _mean(dice: Mapping[str, float | None]) -> float:
    values = [value for value in dice.values() if value is not None]
    return sum(values) / len(values) if values else 1.0
