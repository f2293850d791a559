"""Run what was exported, on the provider that was asked for or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from surgeon.errors import ExportError, InputError

from .targets import TARGETS, Target

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# onnxruntime reports to standard error as well what it raises; 4 is fatal errors alone.
_FATAL = 4


def open_session(
    path: str | Path,
    provider: str = "CPUExecutionProvider",
    *,
    threads: int | None = None,
    free_sizes: bool = True,
    options: dict[str, Any] | None = None,
) -> InferenceSession:
    """Open an ONNX file and make sure that the provider asked for is the one that runs.

    Args:
        path: the file.
        provider: the name of an execution provider, or of an export target, which brings its options.
        threads: threads inside one operation; None leaves it to onnxruntime.
        free_sizes: whether inputs will come in many spatial sizes.
        options: options of the first provider, over those of the target.

    Raises:
        InputError: there is no such file.
        ExportError: the file cannot be opened, or onnxruntime would silently run another provider.

    Example:
        >>> session = open_session("model.onnx", "ort-cuda")                     # doctest: +SKIP
        >>> labels = run_session(session, torch.rand(1, 1, 64, 64))[0].argmax(1)  # doctest: +SKIP
    """
    if not Path(path).is_file():
        raise InputError("there is no such ONNX file", where=str(path), fix="give the path of model.onnx")
    target = _target_of(provider)
    chosen = target.provider_options(free_sizes=free_sizes)
    chosen[0] |= options or {}
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL
    if threads is not None:
        settings.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), settings, providers=list(zip(target.providers, chosen, strict=True))
        )
    except Exception as error:
        raise ExportError(
            f"onnxruntime cannot open it: {str(error).splitlines()[0][:200]}",
            where=str(path),
            fix=f"check that the file is whole, and that onnxruntime {onnxruntime.__version__} has "
            f"{target.provider}",
        ) from error
    running = session.get_providers()
    if running[0] != target.provider:
        raise ExportError(
            f"asked for {target.provider}, but onnxruntime would run {running[0]}",
            where=str(path),
            fix="install the libraries that this build of onnxruntime-gpu wants (CUDA, cuDNN, TensorRT), "
            "or ask for CPUExecutionProvider",
        )
    return session


def run_session(session: InferenceSession, inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Run a session on tensors, in the order of its inputs, and return its outputs on the CPU."""
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    names = [item.name for item in session.get_inputs()]
    arrays = [np.ascontiguousarray(tensor.detach().cpu().numpy()) for tensor in tensors]
    return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call takes.

    Attributes:
        p50: median, in milliseconds.
        p99: 99th percentile, in milliseconds; the slowest run when there are fewer than a hundred.
        runs: how many calls were timed.
    """

    p50: float
    p99: float
    runs: int

    def to_dict(self) -> dict[str, float | int]:
        """Return plain JSON."""
        return asdict(self)


def measure_latency(
    calls: Sequence[Callable[[], object]], *, runs: int = 30, seconds: float = 6.0, warmup: int = 3
) -> list[Latency]:
    """Time several calls in turn, so that what else the machine does falls on all of them alike.

    Args:
        calls: what to time.
        runs: how often each, at most.
        seconds: when to stop, after at least three runs of each.
        warmup: untimed calls of each first.
    """
    for call in calls:
        for _ in range(warmup):
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while len(times[0]) < runs and (len(times[0]) < 3 or time.perf_counter() < end):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(1000 * (time.perf_counter() - start))
    return [
        Latency(
            round(float(np.percentile(taken, 50)), 4),
            round(float(np.percentile(taken, 99, method="higher")), 4),
            len(taken),
        )
        for taken in times
    ]


def _target_of(provider: str) -> Target:
    for target in TARGETS:
        if target.name == provider:
            return target
    for target in TARGETS:
        if target.provider == provider:
            return target
    known = [*(target.name for target in TARGETS), *dict.fromkeys(target.provider for target in TARGETS)]
    raise InputError(
        f"no provider or target is called {provider!r}",
        where="provider",
        fix=f"choose one of {', '.join(known)}",
    )
