"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HOST_FORMS = (
    "package.module:factory, file.py:factory, a .pt2 exported program, a TorchScript file, a MONAI bundle "
    "folder, an nnU-Net result folder, or a save_pretrained folder"
)
HOST_PANEL = "The network"
OUTPUT_PANEL = "What is printed"

HostArgument = Annotated[
    str, typer.Argument(metavar="HOST", help=f"The network: {HOST_FORMS}.", show_default=False)
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option("--checkpoint", metavar="FILE", help="Its weights.", rich_help_panel=HOST_PANEL),
]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="K=V",
        help="An argument of the factory, as a Python or JSON literal (strides=2,2). Repeat it.",
        rich_help_panel=HOST_PANEL,
    ),
]
ForwardOption = Annotated[
    list[str] | None,
    typer.Option(
        "--forward",
        metavar="K=V",
        help="An input of the network's forward that is no tensor (inference=true). Repeat it.",
        rich_help_panel=HOST_PANEL,
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="1,1,64,64",
        help="Shape of an example input, batch first; once for each input. Guessed when left out.",
        rich_help_panel=HOST_PANEL,
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Unpickle a checkpoint that runs code when it is read. Only for files you trust.",
        rich_help_panel=HOST_PANEL,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps."),
]
DataOption = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Labelled images: a folder of images and masks, an nnU-Net raw or a Decathlon folder, the JSON"
        " file of a MONAI datalist, or module:function that returns datasets.",
        show_default=False,
    ),
]
PreparationOption = Annotated[
    Path | None,
    typer.Option(
        "--preparation",
        metavar="FILE",
        help="How a raw image becomes an input of the network: a small TOML file.",
    ),
]
BinariseOption = Annotated[
    bool, typer.Option("--binarise", help="Every label above 0 is the one class (instance masks).")
]
SubjectsOption = Annotated[
    str | None,
    typer.Option(
        "--subjects",
        metavar="PATTERN",
        help="A regular expression whose first group is the subject, or a CSV file of case,subject.",
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="NAMES",
        help="Names of the classes, background first: the place is the value in a label.",
    ),
]
ChannelsOption = Annotated[
    str | None,
    typer.Option(
        "--channels",
        metavar="WORDS",
        help="Where an image is several files: the word in each one's name, in order (flair,t1,t1ce,t2).",
    ),
]
AnswerOption = Annotated[
    int | None,
    typer.Option(
        "--answer",
        metavar="N",
        help="Which output of the network is the segmentation: 0 the first, -1 the last (the largest).",
    ),
]
SliceOption = Annotated[
    int | None,
    typer.Option(
        "--slice-axis", metavar="0|1|2", help="The axis that volumes are sliced along for a 2-D network."
    ),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Keep prepared samples here from run to run."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON and nothing else.", rich_help_panel=OUTPUT_PANEL)
]
TracebackOption = Annotated[
    bool,
    typer.Option("--traceback", help="Show where an error came from.", rich_help_panel=OUTPUT_PANEL),
]
