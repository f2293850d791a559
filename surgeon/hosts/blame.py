"""The line of somebody's code that raised an error."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import torch

_OURS, _TORCHS = (f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent))


def line_of(error: BaseException) -> str:
    """Return `file:line` of the last code that is neither ours nor torch's; nothing where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if not one.filename.startswith(("<", _OURS, _TORCHS))]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""


def asks_for_a_gpu(error: BaseException) -> bool:
    """Tell whether code failed because it wants a GPU where there is none."""
    return not torch.cuda.is_available() and any(word in str(error) for word in ("CUDA", "NVIDIA"))
