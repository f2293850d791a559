"""A measurement in a process of its own: its memory is its own, and it may crash or hang."""

from __future__ import annotations

import multiprocessing
import resource
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Failed(Exception):  # noqa: N818 - an outcome of a measurement
    """The measurement ended without a result."""


def isolated(measure: Callable[..., Any], *arguments: Any, limit: float, start: str = "fork") -> Any:
    """Run a function in a process of its own.

    Args:
        measure: returns something that pickles.
        arguments: what it is called with.
        limit: seconds after which it is ended.
        start: `fork` starts with everything that is imported here; `spawn` anew. What computes gradients
            has to be spawned: in a forked process, torch's threads for them can abort it.

    Raises:
        Failed: it raised, crashed or took too long; the text says which.
    """
    context: Any = multiprocessing.get_context(start)
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, measure, arguments))
    process.start()
    there.close()
    try:
        ended = here.poll(limit)
        answer = here.recv() if ended else None
    except EOFError:
        process.join()
        raise Failed(f"the process ended with {process.exitcode}") from None
    finally:
        process.join(timeout=5)
        if process.is_alive():
            process.kill()
            process.join()
    if answer is None:
        raise Failed(f"took longer than {limit:.0f} seconds")
    done, value = answer
    if not done:
        raise Failed(value)
    return value


def _answer(there: Connection, measure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        there.send((True, measure(*arguments)))
    except Exception as problem:  # noqa: BLE001 - any failure is the result of this measurement
        place = traceback.extract_tb(problem.__traceback__)[-1]
        text = " ".join(f"{type(problem).__name__}: {problem}".split())
        there.send((False, f"{text[:600]} ({place.name}, line {place.lineno})"))


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
