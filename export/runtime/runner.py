"""A file ready to run: opened on the provider asked for, its buffers bound, warmed up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from surgeon.errors import InputError
from surgeon.tracing import check_sizes

from ..bounding import SIZES
from .sessions import open_session

_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(int64)": torch.int64,
    "tensor(int32)": torch.int32,
    "tensor(uint8)": torch.uint8,
    "tensor(bool)": torch.bool,
}
# Providers that replay a run from a recording; TensorRT does so inside its engines.
_RECORDING = {"CUDAExecutionProvider"}
Shape = tuple[int, ...]


class Runner:
    """Runs an export on tensors where they lie, without copies between host and device.

    With `shapes` the buffers are made once and kept, which lets CUDA record the whole run as one graph and
    search for the fastest convolutions exhaustively; without, inputs may have any size the file allows.
    onnxruntime records no file with a node that runs on the CPU or with a choice in it; such a file runs
    as it is, and `not_recorded` says why.

    Attributes:
        device: where inputs are read and outputs lie.
        shapes: the fixed shape of each input, or None.
        answer: the place of the segmentation among the outputs, as the file says.
        not_recorded: why runs are not replayed from a recording; empty where they are.

    Args:
        path: of the file.
        provider: an execution provider or an export target, as for `open_session`.
        shapes: the fixed shape of each input; None leaves them free.
        threads: inside one operation; None leaves it to onnxruntime.
        warmup: runs on zeros before the first answer, where the shapes are fixed.

    Raises:
        InputError: there is no such file, or the shapes are not those of the file.
        ExportError: it cannot be opened, or another provider would run.

    Example:
        >>> runner = Runner("model.onnx", "ort-cuda", shapes=[(1, 1, 64, 64)])  # doctest: +SKIP
        >>> logits = runner(torch.rand(1, 1, 64, 64, device="cuda"))[0]          # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | Path,
        provider: str = "CPUExecutionProvider",
        *,
        shapes: Sequence[Shape] | None = None,
        threads: int | None = None,
        warmup: int = 3,
    ) -> None:
        plain = open_session(path, provider, threads=threads, free_sizes=shapes is None)
        on_cpu = plain.get_providers()[0] == "CPUExecutionProvider"
        self.device = torch.device("cpu" if on_cpu else "cuda")
        self.shapes = None if shapes is None else [tuple(shape) for shape in shapes]
        self._session = plain
        self._inputs = [(item.name, _TYPES[item.type]) for item in plain.get_inputs()]
        self._outputs = [(item.name, _TYPES[item.type]) for item in plain.get_outputs()]
        known = plain.get_modelmeta().custom_metadata_map
        self._limits: dict[str, Any] = json.loads(known.get(SIZES, "{}"))
        self.answer = int(known.get("answer", "0"))
        self._buffers: tuple[list[Tensor], list[Tensor]] | None = None
        self.not_recorded = "inputs may have any size"
        if self.shapes is None:
            return
        if len(self.shapes) != len(self._inputs):
            raise InputError(
                f"{len(self.shapes)} shapes for {len(self._inputs)} inputs",
                where=str(path),
                fix="give the shape of each input, batch first",
            )
        zeros = [self._zeros(shape, kind) for shape, (_, kind) in zip(self.shapes, self._inputs, strict=True)]
        answers = self._run_free(zeros)
        self._buffers = zeros, [torch.empty_like(answer) for answer in answers]
        self._binding = self._bind(*self._buffers)
        self.not_recorded = f"{plain.get_providers()[0]} records nothing"
        if plain.get_providers()[0] in _RECORDING:
            self.not_recorded = self._record(path, provider, threads)
        for _ in range(warmup):
            self._session.run_with_iobinding(self._binding)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Run on tensors in the order of the inputs; the outputs lie on `device`.

        Raises:
            InputError: a tensor has another shape than the one that was fixed, or a size that the file
                refuses, or there are too few.
        """
        if len(inputs) != len(self._inputs):
            raise InputError(f"{len(inputs)} tensors for {len(self._inputs)} inputs", where="Runner")
        given = [
            tensor.detach().to(self.device, kind).contiguous()
            for tensor, (_, kind) in zip(inputs, self._inputs, strict=True)
        ]
        _check_sizes(self._limits, given)
        if self._buffers is None:
            return self._run_free(given)
        into, out = self._buffers
        for buffer, tensor in zip(into, given, strict=True):
            if buffer.shape != tensor.shape:
                raise InputError(
                    f"an input has the shape {tuple(tensor.shape)}, and {tuple(buffer.shape)} was fixed",
                    where="Runner",
                    fix="open the file without shapes",
                )
            buffer.copy_(tensor)
        self._wait()
        self._session.run_with_iobinding(self._binding)
        return [tensor.clone() for tensor in out]

    def _record(self, path: str | Path, provider: str, threads: int | None) -> str:
        """Open the file once more, to record its run as a CUDA graph; return why that is not done, if so."""
        plain, binding = self._session, self._binding
        options = {"enable_cuda_graph": "1"}
        assert self._buffers is not None
        try:
            self._session = open_session(path, provider, threads=threads, free_sizes=False, options=options)
            self._binding = self._bind(*self._buffers)
            self._wait()
            self._session.run_with_iobinding(self._binding)
        except Exception as problem:  # noqa: BLE001 - onnxruntime's own, for which it has no public class
            self._session, self._binding = plain, binding
            return str(problem).splitlines()[0]
        return ""

    def _run_free(self, given: list[Tensor]) -> list[Tensor]:
        """Run with outputs that onnxruntime makes, since nobody knows their sizes before."""
        self._wait()
        binding = self._bind(given, None)
        self._session.run_with_iobinding(binding)
        if self.device.type == "cpu":
            return [torch.from_numpy(value.numpy()) for value in binding.get_outputs()]
        return [torch.from_numpy(array).to(self.device) for array in binding.copy_outputs_to_cpu()]

    def _bind(self, inputs: list[Tensor], outputs: list[Tensor] | None) -> Any:
        binding = self._session.io_binding()
        for (name, _), tensor in zip(self._inputs, inputs, strict=True):
            binding.bind_input(name, *self._place(tensor))
        for index, (name, _) in enumerate(self._outputs):
            if outputs is None:
                binding.bind_output(name, self.device.type, 0)
            else:
                binding.bind_output(name, *self._place(outputs[index]))
        return binding

    def _place(self, tensor: Tensor) -> tuple[str, int, Any, list[int], int]:
        """Return how onnxruntime names the memory of a tensor."""
        element = torch.empty(0, dtype=tensor.dtype).numpy().dtype.type
        return self.device.type, 0, element, list(tensor.shape), tensor.data_ptr()

    def _zeros(self, shape: Shape, kind: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=kind, device=self.device)

    def _wait(self) -> None:
        """Let torch finish with what onnxruntime will read on a stream of its own."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def _check_sizes(limits: dict[str, Any], inputs: Sequence[Tensor]) -> None:
    """Say before onnxruntime does what sizes a file takes that does not take all."""
    if not limits:
        return
    rank = max(tensor.ndim for tensor in inputs)
    for tensor in inputs:
        if tensor.ndim == rank:
            check_sizes(tensor, **limits)
