"""The command line: one module a command, each importing what it needs when it runs."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command `surgeon` and leave with its exit code.

    Args:
        arguments: what was typed after `surgeon`; by default what this process was started with.

    Raises:
        SystemExit: always; 0 done, 1 a gate refused, 2 bad usage or bad input, 130 stopped by the user.
    """
    from .app import run

    run(arguments)
