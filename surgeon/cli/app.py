"""The commands under one name."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer

from surgeon import __version__

from .demo import demo
from .evaluate import evaluate
from .export import export
from .implant import implant
from .inspect import inspect

# An option that is given again and again, and what its values look like: `--arg a=1 b=2` is read as
# `--arg a=1 --arg b=2`.
_REPEATED = {
    "--arg": re.compile(r"[A-Za-z_]\w*="),
    "--forward": re.compile(r"[A-Za-z_]\w*="),
    "--input": re.compile(r"\d+(,\d+)+$"),
}

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode="rich")
app.command()(inspect)
app.command()(implant)
app.command()(export)
app.command()(evaluate)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"surgeon {__version__}")
        raise typer.Exit


@app.callback()
def surgeon(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    """Upgrade a trained segmentation network: find its skip connections, implant searched cells, export it.

    Start with [bold]surgeon demo[/bold], or with [bold]surgeon inspect HOST[/bold] for a network of your own.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """Parse and run; leaves by SystemExit."""
    words = sys.argv[1:] if arguments is None else arguments
    app(args=list(spread_repeated(words)), prog_name="surgeon")


def spread_repeated(words: Iterable[str]) -> Iterable[str]:
    """Repeat `--arg`, `--forward` and `--input` before each of several values that follow one of them.

    Examples:
        >>> list(spread_repeated(["--arg", "a=1", "b=2", "--json"]))
        ['--arg', 'a=1', '--arg', 'b=2', '--json']
    """
    option, waiting = "", False
    for word in words:
        if word in _REPEATED:
            option, waiting = word, True
        elif option and (waiting or _REPEATED[option].match(word)):
            if not waiting:
                yield option
            waiting = False
        else:
            option = ""
        yield word
