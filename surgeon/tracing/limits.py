"""A bound on the time that a tracer may take."""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Iterator


class TookTooLong(BaseException):
    """The bound was reached."""


_PAUSE = 0.25  # seconds between two looks at the clock


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` in this thread when the block uses more processor time.

    Symbolic shape reasoning can take minutes on a network that folds its sizes into windows; it is plain
    Python, so an asynchronous exception ends it. A long call into native code ends only afterwards.
    Processor time, not the clock on the wall: a busy machine must not change which way is taken.

    Args:
        seconds: the bound on the processor time of the process.
    """
    thread = threading.get_ident()
    finished = threading.Event()
    end = time.process_time() + seconds

    def watch() -> None:
        while not finished.wait(_PAUSE):
            if time.process_time() > end:
                target = ctypes.c_ulong(thread)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(target, ctypes.py_object(TookTooLong))
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
