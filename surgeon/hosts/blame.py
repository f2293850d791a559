"""The line of somebody's code that raised an error."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch

_NOT_THEIRS = ("<", str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))


def line_of(error: BaseException) -> str:
    """Return `file:line` of the last code that is neither ours nor torch's; nothing where there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [one for one in frames if not one.filename.startswith(_NOT_THEIRS)]
    return f"{theirs[-1].filename}:{theirs[-1].lineno}" if theirs else ""


def asks_for_a_gpu(error: BaseException) -> bool:
    """Tell whether code failed because it wants a GPU where there is none."""
    return not torch.cuda.is_available() and any(word in str(error) for word in ("CUDA", "NVIDIA"))
