"""`surgeon inspect`: what is inside a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .answer import Answer, answering
from .hosting import HostRequest
from .options import (
    OUTPUT_PANEL,
    ArgumentOption,
    CheckpointOption,
    ForwardOption,
    HostArgument,
    InputOption,
    JsonOption,
    TracebackOption,
    TrustOption,
)

if TYPE_CHECKING:
    from surgeon.skips import Anatomy

FigureOption = Annotated[
    Path | None,
    typer.Option(
        "--figure",
        metavar="FILE",
        help="Draw the network into an .svg or .png file.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
WhyOption = Annotated[
    bool,
    typer.Option(
        "--why",
        help="List the merges that are no skips too, each with the reason.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]


def inspect(
    host: HostArgument,
    checkpoint: CheckpointOption = None,
    arg: ArgumentOption = None,
    forward: ForwardOption = None,
    shape: InputOption = None,
    trust: TrustOption = False,
    json: JsonOption = False,
    figure: FigureOption = None,
    why: WhyOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Find the skip connections of a network: where they leave the encoder, where they meet the decoder.

    Example: surgeon inspect monai.networks.nets:UNet --arg spatial_dims=2 --arg in_channels=1
    --arg out_channels=2 --arg channels=16,32,64 --arg strides=2,2 --input 1,1,64,64
    """
    with answering(traceback) as answer:
        from surgeon.skips import inspect as find_skips

        request = HostRequest.from_options(host, checkpoint, arg, forward, shape, trust)
        opened = request.open()
        answer.note(*opened.report)
        anatomy = find_skips(opened.module, request.inputs_for(opened))
        if figure is not None:
            _draw(answer, anatomy, figure)
        if json:
            answer.give_json(anatomy.to_dict())
        else:
            show_anatomy(answer, anatomy, why=why)


def _draw(answer: Answer, anatomy: Anatomy, figure: Path) -> None:
    from surgeon.figures import anatomy_figure

    anatomy_figure(anatomy, figure)
    answer.note(f"figure: {figure}")


def show_anatomy(answer: Answer, anatomy: Anatomy, *, why: bool = False) -> None:
    """Print what was found: a summary, the drawing of the U, the table of skips."""
    from surgeon.figures import anatomy_summary, draw_u, refusal_table, skip_table

    answer.say(anatomy_summary(anatomy))
    answer.say("", draw_u(anatomy), "")
    if anatomy.skips:
        from surgeon.search import estimate_cells

        costs = estimate_cells(anatomy)
        answer.say(
            skip_table(
                anatomy,
                cell_parameters={skip_id: cost.parameters for skip_id, cost in costs.items()},
                cell_flops={skip_id: cost.flops for skip_id, cost in costs.items()},
            )
        )
    if why:
        answer.say(refusal_table(anatomy))
