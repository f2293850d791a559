"""Third-party tools kept from talking to the user about networks that are not ours."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

TRACERS = (
    "torch.fx",
    "torch.export",
    "torch._export",
    "torch._dynamo",
    "torch._subclasses.fake_tensor",
    "torch.fx.experimental.symbolic_shapes",
)


@contextlib.contextmanager
def quiet(loggers: tuple[str, ...] = TRACERS, level: int = logging.CRITICAL) -> Iterator[None]:
    """Drop all warnings, and the log lines of some loggers below a level.

    Args:
        loggers: names of the loggers.
        level: the least that still gets through.
    """
    known = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in known]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in known:
            logger.setLevel(level)
        try:
            yield
        finally:
            for logger, before in zip(known, levels, strict=True):
                logger.setLevel(before)
