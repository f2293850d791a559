"""`surgeon implant`: search cells for the skips of a network, train them and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from surgeon.errors import WorseError

from .answer import Answer, answering
from .cohorts import DataRequest
from .hosting import HostRequest, pick_device
from .networks import read_report
from .operation import Operation, operate, show_outcome
from .options import (
    ArgumentOption,
    BinariseOption,
    CheckpointOption,
    ClassesOption,
    DataOption,
    DeviceOption,
    HostArgument,
    InputOption,
    JsonOption,
    PreparationOption,
    SliceOption,
    SubjectsOption,
    TracebackOption,
    TrustOption,
)
from .values import parse_names, parse_shape

SEARCH_PANEL = "The search"
CELL_PANEL = "What a cell can be"

OutOption = Annotated[
    Path, typer.Option("--out", metavar="RUN", help="The folder to write.", show_default=False)
]
SkipsOption = Annotated[
    str,
    typer.Option(
        "--skips", metavar="s0,s1|all", help="Which skips get a cell.", rich_help_panel=SEARCH_PANEL
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on where RUN stopped.", rich_help_panel=SEARCH_PANEL)
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", help="Of splits, start, batches and bootstrap (0).", rich_help_panel=SEARCH_PANEL),
]
EpochsOption = Annotated[
    int | None, typer.Option("--epochs", help="Epochs of the search (50).", rich_help_panel=SEARCH_PANEL)
]
RetrainOption = Annotated[
    int | None,
    typer.Option(
        "--retrain-epochs", help="Epochs of training the cells found (50).", rich_help_panel=SEARCH_PANEL
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        "--steps", help="Steps in an epoch (one pass over the training cases).", rich_help_panel=SEARCH_PANEL
    ),
]
BatchOption = Annotated[
    int | None, typer.Option("--batch-size", help="Cases in a batch (8).", rich_help_panel=SEARCH_PANEL)
]
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="128,128",
        help="Size of a training crop (whole images).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
WorseOption = Annotated[
    bool,
    typer.Option(
        "--allow-worse",
        help="Do not fail when the implant is worse than the host.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
GenotypeOption = Annotated[
    str | None,
    typer.Option(
        "--genotype",
        metavar="shared|per-skip",
        help="One genotype for all skips, or one for each (shared).",
        rich_help_panel=CELL_PANEL,
    ),
]
MergeOption = Annotated[
    str | None,
    typer.Option(
        "--merge",
        metavar="residual|replace",
        help="Add what the cell makes to the skip, or put it in its place (residual).",
        rich_help_panel=CELL_PANEL,
    ),
]
InputsOption = Annotated[
    str | None,
    typer.Option(
        "--inputs",
        metavar="encoder|both",
        help="Give a cell the skip, or also the tensor it meets (encoder).",
        rich_help_panel=CELL_PANEL,
    ),
]
StatesOption = Annotated[
    int | None, typer.Option("--states", help="States in a cell (4).", rich_help_panel=CELL_PANEL)
]
OperationsOption = Annotated[
    str | None,
    typer.Option(
        "--operations", metavar="sep3,max3,...", help="What an edge can be.", rich_help_panel=CELL_PANEL
    ),
]


def implant(
    host: HostArgument,
    data: DataOption,
    out: OutOption,
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
    skips: SkipsOption = "all",
    resume: ResumeOption = False,
    seed: SeedOption = None,
    epochs: EpochsOption = None,
    retrain_epochs: RetrainOption = None,
    steps: StepsOption = None,
    batch_size: BatchOption = None,
    crop: CropOption = None,
    allow_worse: WorseOption = False,
    genotype: GenotypeOption = None,
    merge: MergeOption = None,
    inputs: InputsOption = None,
    states: StatesOption = None,
    operations: OperationsOption = None,
    json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Search cells for the skips of a network, train them in place, and compare with the network as it was.

    The network itself is not changed. Subjects are split in three: to train, to choose, to compare.
    """
    with answering(traceback) as answer:
        settings = _given(
            seed=seed,
            epochs=epochs,
            retrain_epochs=retrain_epochs,
            steps=steps,
            batch_size=batch_size,
            crop=None if crop is None else parse_shape(crop, option="--crop"),
            genotype=genotype,
            merge=merge,
            inputs=inputs,
            states=states,
            operations=parse_names(operations),
        )
        settings["skips"] = "all" if skips == "all" else parse_names(skips)
        operation = Operation(
            host=HostRequest.from_options(host, checkpoint, arg, shape, trust),
            data=DataRequest(data, preparation, binarise, subjects, parse_names(classes), slice_axis),
            out=out,
            settings={**settings, "allow_worse": allow_worse, "device": pick_device(device)},
            resume=resume,
        )
        try:
            report = operate(answer, operation).report
        except WorseError:
            # All is written; what was found is the result, also when the gate refuses it.
            _show(answer, read_report(out), out, json)
            raise
        _show(answer, report, out, json)


def _show(answer: Answer, report: dict[str, Any], out: Path, json: bool) -> None:
    if json:
        answer.give_json(report)
    else:
        show_outcome(answer, report, out)


def _given(**settings: Any) -> dict[str, Any]:
    """Leave out what was not asked for: the defaults are the library's."""
    return {name: value for name, value in settings.items() if value is not None}
