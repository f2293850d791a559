"""Triton's `onnxruntime` backend in Python, for servers that come without the one in C++.

`TritonServer` puts this file where Triton looks for a backend of that name; it needs onnxruntime and numpy
alone. It serves an unmodified ONNX repository on the CPU: the configuration, batching, warm-up and protocol
are Triton's own, the execution is onnxruntime's.

Tensors cross by DLPack. `as_numpy` and `Tensor(name, array)` of the 2.51 stub read the element size where
numpy 1 kept it; beside numpy 2 they find zero there, and hand over wrong values without an error.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class TritonPythonModel:
    """One instance of a model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open `<repository>/<version>/model.onnx`.

        Args:
            args: Triton's description of the instance.

        Raises:
            ValueError: the configuration names an output that the file does not have.
        """
        config = json.loads(args["model_config"])
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self._inputs = [item["name"] for item in config["input"]]
        self._outputs = [item["name"] for item in config["output"]]
        missing = set(self._outputs) - {item.name for item in self._session.get_outputs()}
        if missing:
            raise ValueError(f"{path.name} has no output called {', '.join(sorted(missing))}")
        self._batched = config["max_batch_size"] > 0

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer requests, those of equal shape in one run."""
        # The module exists inside Triton alone.
        import triton_python_backend_utils as triton  # type: ignore[import-not-found]

        feeds = [
            {name: np.from_dlpack(triton.get_input_tensor_by_name(request, name)) for name in self._inputs}
            for request in requests
        ]
        return [
            triton.InferenceResponse(
                output_tensors=[
                    triton.Tensor.from_dlpack(n, _handed_over(a))
                    for n, a in zip(self._outputs, answer, strict=True)
                ]
            )
            for answer in self._answer(feeds)
        ]

    def _answer(self, feeds: list[dict[str, Any]]) -> list[list[Any]]:
        shapes = {tuple(array.shape[1:] for array in feed.values()) for feed in feeds}
        if not self._batched or len(shapes) > 1:
            return [self._session.run(self._outputs, feed) for feed in feeds]
        joined = {name: np.concatenate([feed[name] for feed in feeds]) for name in self._inputs}
        borders = np.cumsum([len(feed[self._inputs[0]]) for feed in feeds])[:-1]
        outputs = [np.split(array, borders) for array in self._session.run(self._outputs, joined)]
        return [[parts[index] for parts in outputs] for index in range(len(feeds))]


def _handed_over(array: np.ndarray[Any, Any]) -> Any:
    """Return a DLPack capsule that Triton alone will free."""
    capsule = np.ascontiguousarray(array).__dlpack__()
    # Triton marks what it took as "used_dlpack", numpy's destructor looks for "used_dltensor" and complains.
    remove = ctypes.pythonapi.PyCapsule_SetDestructor
    remove.argtypes = (ctypes.py_object, ctypes.c_void_p)
    remove(capsule, None)
    return capsule
