"""The options of `surgeon implant`: how to search, what a cell can be, what may be recommended."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SEARCH_PANEL = "The search"
CELL_PANEL = "What a cell can be"
CHOICE_PANEL = "What is recommended"

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
    int | None, typer.Option("--epochs", help="Epochs of the search (15).", rich_help_panel=SEARCH_PANEL)
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
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        metavar="auto|fp32|bf16-mixed|fp16-mixed",
        help="In which networks compute while they are trained (auto: bf16-mixed on a GPU that has it).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--memory",
        metavar="GIB",
        help="Most memory that a batch may keep for its gradients; what is more is computed again: slower, "
        "with the same result (0.6 of the device's).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
CompileOption = Annotated[
    str | None,
    typer.Option(
        "--compile",
        metavar="auto|off|on",
        help="Have torch compile what the network computes beside its cells (auto: where a trial at the "
        "start of a run of half an hour or more shows that it pays).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
GraphsOption = Annotated[
    str | None,
    typer.Option(
        "--graphs",
        metavar="auto|off|on",
        help="Replay the passes of a training as CUDA graphs (auto: on one GPU, where the first steps show "
        "that it gives the same in less time).",
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
WidthOption = Annotated[
    float | None,
    typer.Option(
        "--width",
        help="Channels inside a cell as a share of the skip's (0.25).",
        rich_help_panel=CELL_PANEL,
    ),
]
EarlyOption = Annotated[
    bool | None,
    typer.Option(
        "--early/--no-early",
        help="End the search as soon as its choice is stable (on).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
SelectionOption = Annotated[
    str | None,
    typer.Option(
        "--selection",
        metavar="weight|perturbation|both",
        help="Take from the search what weighs most, what validation misses most, or compare the two (both).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
RotateOption = Annotated[
    bool | None,
    typer.Option(
        "--rotate/--no-rotate",
        help="Search with other channels at every step, so that none is left out (off).",
        rich_help_panel=SEARCH_PANEL,
    ),
]
TrainOption = Annotated[
    str | None,
    typer.Option(
        "--train",
        metavar="cells|norms|decoder|all",
        help="What moves: the cells, or with them the network's scales and shifts, its decoder, or all.",
        rich_help_panel=SEARCH_PANEL,
    ),
]
FinalistsOption = Annotated[
    bool | None,
    typer.Option(
        "--finalists/--no-finalists",
        help="Compare the searched cells with adapters, random cells and nothing on validation, and go on "
        "with the cheapest that is as good as the best (on).",
        rich_help_panel=CHOICE_PANEL,
    ),
]
RandomCellsOption = Annotated[
    int | None,
    typer.Option(
        "--random-cells", help="Random cells among those that are compared (6).", rich_help_panel=CHOICE_PANEL
    ),
]
CompareOption = Annotated[
    bool,
    typer.Option(
        "--compare",
        help="Train what a sceptic would try, with three learning rates each, and show it beside the result.",
        rich_help_panel=CHOICE_PANEL,
    ),
]
CompareCellsOption = Annotated[
    int | None,
    typer.Option(
        "--compare-cells", help="Random cells in that comparison (8).", rich_help_panel=CHOICE_PANEL
    ),
]
ParametersOption = Annotated[
    float | None,
    typer.Option(
        "--max-parameters",
        metavar="SHARE",
        help="Most parameters that cells may add, as a share of the network's (0.1 for a tenth).",
        rich_help_panel=CHOICE_PANEL,
    ),
]
FlopsOption = Annotated[
    float | None,
    typer.Option("--max-flops", metavar="SHARE", help="The same for FLOPs.", rich_help_panel=CHOICE_PANEL),
]
LatencyOption = Annotated[
    float | None,
    typer.Option(
        "--max-latency",
        metavar="SHARE",
        help="The same for the time of a forward pass, measured here.",
        rich_help_panel=CHOICE_PANEL,
    ),
]
