"""The line of somebody's code that raised an error."""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path

import torch

_PACKAGES = Path(torch.__file__).parents[1]
_OF_OTHERS = (
    *(f"{folder}{os.sep}" for folder in (Path(__file__).parent, _PACKAGES / "torch", _PACKAGES / "sympy")),
    contextlib.__file__,
    "<",
)


def frame_of(error: BaseException) -> traceback.FrameSummary | None:
    """Return where the last code was that is neither ours nor torch's; None where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OF_OTHERS)]
    return theirs[-1] if theirs else None


def line_of(error: BaseException) -> str:
    """Return that place as `file:line`; nothing where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frame = frame_of(error)
    return f"{frame.filename}:{frame.lineno}" if frame else ""


def asks_for_a_gpu(error: BaseException) -> bool:
    """Tell whether code failed because it wants a GPU where there is none."""
    return not torch.cuda.is_available() and any(word in str(error) for word in ("CUDA", "NVIDIA"))
