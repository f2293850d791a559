"""A bound on the time that a tracer may take."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class TookTooLong(BaseException):
    """The bound was reached."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` in this thread when the block runs longer.

    Symbolic shape reasoning can take minutes on a network that folds its sizes into windows; it is plain
    Python, so an asynchronous exception ends it. A long call into native code ends only afterwards.

    Args:
        seconds: the bound.
    """
    thread = threading.get_ident()
    done = threading.Lock()
    finished = False

    def interrupt() -> None:
        with done:
            if not finished:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(TookTooLong)
                )

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with done:
            finished = True
        timer.cancel()
