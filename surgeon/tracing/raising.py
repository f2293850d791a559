"""Checks of values in a forward, `assert x.min() >= 0`: torch.export takes them for branches.

Of a branch one side of which only raises, an image that is segmented takes the other. So a graph follows that
one; what the host refuses, replays and the parity gate find refused.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


@contextlib.contextmanager
def complaints_skipped() -> Iterator[None]:
    """Answer a value's truth, while a host is traced, where one answer would only raise."""
    native: Any = torch._C.TensorBase.__bool__

    def truth(tensor: Tensor) -> bool:
        quiet = quiet_answer(sys._getframe(1)) if isinstance(tensor, FakeTensor) else None
        return bool(native(tensor)) if quiet is None else quiet

    Tensor.__bool__ = truth  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del Tensor.__bool__


def quiet_answer(frame: FrameType) -> bool | None:
    """Return the truth at which the code that runs in a frame goes on, where the other one raises.

    Returns:
        None where neither raises, or the same function might catch it. Where a caller does, the host goes
        another way than the graph, and the replay finds it.
    """
    return _quiet_answer(frame.f_code, frame.f_lasti)


@functools.cache
def _quiet_answer(code: CodeType, offset: int) -> bool | None:
    program = dis.Bytecode(code)
    steps = [step for step in program if step.opname not in _FILLERS]
    places = {step.offset: index for index, step in enumerate(steps)}
    at = places.get(offset)
    if at is not None and steps[at].opname == "TO_BOOL":
        at += 1
    if at is None or any(
        entry.start <= offset < entry.end
        for entry in program.exception_entries  # type: ignore[attr-defined]
    ):
        return None
    jump = steps[at]
    if "POP_JUMP" not in jump.opname or not jump.opname.endswith(("IF_TRUE", "IF_FALSE")):
        return None
    on_jump = jump.opname.endswith("IF_TRUE")
    jumping, staying = _raises(steps, places.get(jump.argval, len(steps))), _raises(steps, at + 1)
    return None if jumping == staying else on_jump is staying


_FILLERS = ("CACHE", "NOT_TAKEN", "EXTENDED_ARG")


def _raises(steps: list[dis.Instruction], start: int) -> bool:
    """Tell whether the code from there on raises, with no other way to go."""
    for step in steps[start:]:
        if step.opname == "RAISE_VARARGS":
            return True
        if step.opname.startswith("RETURN") or step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            return False
    return False
