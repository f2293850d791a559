"""A second opinion on a file: the reference evaluator of ONNX, written to be right, not fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch.utils.flop_counter import FlopCounterMode

from surgeon.parity import Difference, compare, tensors_in
from surgeon.tracing import Example

from .flattening import first_line, leaves_of

_SECONDS = 20.0
# It computes in plain numpy; more than this takes minutes.
_MOST_FLOPS = 4e9


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the reference evaluator says of a file.

    Attributes:
        shape: of the first input.
        difference: to the network; None where it gave no answer.
        reason: why it gave none.
    """

    shape: tuple[int, ...]
    difference: Difference | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        told = {"reason": self.reason} if self.difference is None else self.difference.to_dict()
        return {"shape": list(self.shape), **told}


class _TooLong(Exception):  # noqa: N818 - an outcome
    """The time is up."""


class _Timed(ReferenceEvaluator):
    """Stops after a while, between two nodes."""

    end = float("inf")

    def _log(self, level: int, pattern: str, *args: Any) -> None:
        """Look at the clock: the evaluator logs every node."""
        del level, pattern, args
        if time.monotonic() > self.end:
            raise _TooLong


def ask_reference(
    model: Path, host: Callable[[Example], Any], example: Example, *, seconds: float = _SECONDS
) -> Opinion:
    """Run a file with the reference evaluator and compare with the network.

    Args:
        model: the ONNX file.
        host: the network.
        example: small inputs.
        seconds: when to give up.

    Returns:
        the opinion; without an answer where the network is too large for it, it takes too long, or it does
        not know an operation.
    """
    leaves = leaves_of(example)
    shape = tuple(leaves[0].shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        expected = host(example)
    if counter.get_total_flops() > _MOST_FLOPS:
        return Opinion(shape, None, f"{counter.get_total_flops():.1e} operations are too many for it")
    try:
        evaluator = _Timed(onnx.load(model))
        evaluator.end = time.monotonic() + seconds
        names = list(evaluator.input_names)
        arrays = [leaf.detach().cpu().numpy() for leaf in leaves]
        answers = evaluator.run(None, dict(zip(names, arrays, strict=True)))
    except _TooLong:
        return Opinion(shape, None, f"it took longer than {seconds:.0f} seconds")
    except Exception as error:  # noqa: BLE001 - it lacks operations, and fails in any way
        return Opinion(shape, None, f"it fails: {first_line(error)}")
    found = [torch.from_numpy(np.asarray(answer)) for answer in answers]
    return Opinion(shape, compare([tensor.cpu() for tensor in tensors_in(expected)], found))
