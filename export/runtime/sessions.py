"""Run what was exported, on the provider that was asked for or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from surgeon.errors import ExportError, InputError

from ..targets import TARGETS, Target

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
    for key, value in target.session_settings.items():
        settings.add_session_config_entry(key, value)
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
