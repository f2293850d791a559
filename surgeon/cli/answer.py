"""What a command says: the result on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import traceback as tracebacks
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from surgeon.errors import Stopped, SurgeonError
from surgeon.ranks import Ranks, speaking
from surgeon.rendering import print_error

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Where the output is no terminal there is no width to fit: wide enough that no table is cut.
_FILE_WIDTH = 120
_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """The two streams of a command.

    Attributes:
        output: where the result goes.
        progress: where progress and errors go.
    """

    output: TextIO
    progress: TextIO

    def say(self, *renderables: RenderableType) -> None:
        """Print parts of the result, each on lines of its own."""
        _console(self.output).print(*renderables, sep="\n", highlight=False)

    def give_json(self, value: Any) -> None:
        """Print the result as JSON."""
        self.output.write(json.dumps(value, indent=2, allow_nan=False) + "\n")

    def note(self, *lines: str) -> None:
        """Print lines of progress, as they are."""
        for line in lines:
            self.progress_console().print(line, highlight=False, markup=False, soft_wrap=True)

    def progress_console(self) -> Console:
        """Return a console on the stream of progress."""
        return _console(self.progress)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    console = Console(file=stream, soft_wrap=False)
    if not console.is_terminal:
        return Console(file=stream, width=_FILE_WIDTH)
    return console


@contextlib.contextmanager
def answering(traceback: bool) -> Iterator[Answer]:
    """Hand the two streams to a command, and turn what goes wrong into a few lines and an exit code.

    Of several processes that were started for one command the first shows how it goes; of those that fail,
    which may be all, one says why.

    What third parties print to standard output while the command works goes to standard error: with `--json`
    nothing but JSON may be read from standard output.

    Args:
        traceback: show the traceback of an error too, and the warnings of third parties.

    Yields:
        the streams.

    Raises:
        typer.Exit: with the exit code of the error.
    """
    ranks = Ranks.of_environment()
    with contextlib.ExitStack() as stack:
        silence = None if ranks.is_first else stack.enter_context(Path(os.devnull).open("w"))
        answer = Answer(output=silence or sys.stdout, progress=silence or sys.stderr)
        try:
            with contextlib.redirect_stdout(answer.progress), _third_parties_quiet(unless=traceback):
                yield answer
        except typer.Exit:
            raise
        except BaseException as error:  # the network and its libraries may raise anything
            raise typer.Exit(_explained(error, ranks, traceback)) from error


def _explained(error: BaseException, ranks: Ranks, traceback: bool) -> int:
    """Say what went wrong, unless another process does; returns the exit code."""
    failure = _explain(error)
    with speaking(ranks) as speaks:
        if speaks and traceback:
            sys.stderr.write(tracebacks.format_exc())
        if speaks:
            print_error(failure, _console(sys.stderr))
            sys.stderr.flush()
    return failure.exit_code


@contextlib.contextmanager
def _third_parties_quiet(*, unless: bool) -> Iterator[None]:
    if unless:
        yield
        return
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _explain(error: BaseException) -> SurgeonError:
    """Return the error as one that says what to do."""
    if isinstance(error, SurgeonError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Stopped("stopped by the user")
    first = next((line for line in str(error).splitlines() if line.strip()), "no message")
    return SurgeonError(
        f"{type(error).__name__}: {first[:_LONGEST_LINE]}",
        where="unexpected, outside of what surgeon checks",
        fix="repeat with --traceback to see where it came from",
    )
