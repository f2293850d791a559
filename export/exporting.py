"""From any network to a proved ONNX file, or to an error and nothing."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from surgeon.errors import InputError
from surgeon.files import sha256, write_json
from surgeon.tracing import Example, as_example, private_copy, run

from .artifact import Artifact
from .cases import Sizes, check_everything, takes_other_sizes
from .flattening import (
    Flat,
    Freedom,
    Refusal,
    export_program,
    first_line,
    flatten,
    leaves_of,
    map_tensors,
    smallest_size,
)
from .fusion import PassReport, fuse
from .gate import THRESHOLDS, Gate
from .naming import input_names, output_names
from .onnx import build_model, ports_of, write_model
from .placing import check_folder, check_name, placed_whole
from .precision import halve
from .runtime import Latency, measure_latency, open_session, run_session
from .targets import Precision, Target, find_precision, find_target
from .triton.repository import write_repository


class SizePolicy(Enum):
    """Which spatial sizes an export shall take."""

    FREE = "free"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Order:
    """What to export and how, every option checked."""

    model: nn.Module
    example: Example
    samples: tuple[Any, ...]
    name: str
    target: Target
    precision: Precision
    sizes: SizePolicy
    metadata: dict[str, Any]

    def host(self, example: Example) -> Any:
        """Run the original network."""
        return run(self.model, example)


@dataclass(frozen=True, slots=True)
class _Written:
    """A file that is written and not yet proved."""

    path: Path
    model: ir.Model
    flat: Flat
    floor: int
    passes: tuple[PassReport, ...]
    kept_in_fp32: dict[str, str]


def to_onnx(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    out_dir: str | Path,
    target: str = "ort-cpu",
    precision: str = "fp32",
    *,
    kwargs: dict[str, Any] | None = None,
    samples: Sequence[Any] | None = None,
    name: str = "model",
    metadata: Mapping[str, Any] | None = None,
    sizes: str = "free",
) -> Artifact:
    """Export a network to ONNX, prove that the file computes the same, and write it.

    The network may be any host, implanted or not. The proof compares the file with `model` itself on the
    example, on seeds, batches, spatial sizes and samples; if one comparison fails, nothing is left behind.

    Args:
        model: the network; it is run in evaluation mode and left as it was.
        inputs: one tensor `(N, C, *spatial)` or a tuple of positional inputs.
        out_dir: the folder to write: `model.onnx`, `export.json`, and `triton/` for that target. A former
            export in it is replaced.
        target: `ort-cpu`, `ort-cuda`, `ort-tensorrt` or `triton`.
        precision: `fp32` or `fp16` (norms and wide activations stay in float32; so do inputs and outputs).
        kwargs: keyword inputs.
        samples: real inputs for the proof, tensors `(C, *spatial)` or `(N, C, *spatial)`.
        name: of the model on a server.
        metadata: what the file shall say of itself (`classes`, `preprocessing`, `host_fingerprint`,
            `genotype`, `licence`, ...); values that are not text are written as JSON.
        sizes: `free` leaves the spatial sizes open where the network allows it, `fixed` takes the example's.

    Raises:
        InputError: an option, the example or a sample cannot be used.
        ExportError: the network cannot be written as ONNX, or the file does not compute what it computes.

    Example:
        >>> artifact = to_onnx(host, torch.rand(1, 1, 64, 64), "out")  # doctest: +SKIP
        >>> max(case.difference.relative for case in artifact.parity) < 1e-4  # doctest: +SKIP
        True
    """
    order = Order(
        model,
        map_tensors(as_example(inputs, kwargs), torch.Tensor.detach),
        tuple(samples or ()),
        check_name(name),
        find_target(target),
        find_precision(precision),
        _find_policy(sizes),
        dict(metadata or {}),
    )
    folder = check_folder(Path(out_dir))
    with _evaluating(model), placed_whole(folder) as part:
        artifact = _prove(order, _write(order, part / "model.onnx"))
        if order.target.name == "triton":
            write_repository(artifact, part, leaves_of(order.example))
        write_json(part / "export.json", artifact.to_dict())
    return replace(artifact, folder=folder)


def _write(order: Order, path: Path) -> _Written:
    """Flatten, fuse and write the network, unproved."""
    output = _run_once(order)
    model, example = _on_cpu(order)
    flat = _flatten(order, model, example)
    fused = fuse(flat.graph_module, example.args, example.kwargs)
    # The passes work on a graph with its weights inside; the exporter wants a program again.
    program = export_program(fused.graph_module, example, flat.freedom)
    names = input_names(example, program.graph_signature.user_inputs)
    metadata = {"name": order.name, **order.metadata}
    written = build_model(program, order.target.opset, names, output_names(output), metadata)
    kept: dict[str, str] = {}
    if order.precision is Precision.FP16:
        written, kept = halve(written, leaves_of(example))
    write_model(written, path)
    return _Written(path, written, flat, smallest_size(flat.program), fused.passes, kept)


def _prove(order: Order, written: _Written) -> Artifact:
    """Put the file through the gate and say what was found."""
    target = order.target
    provider = target.provider if torch.cuda.is_available() else "CPUExecutionProvider"
    free = written.flat.freedom.sizes
    session = open_session(
        written.path,
        target.name if provider == target.provider else provider,
        # As many as torch uses, or the latencies could not be compared.
        threads=torch.get_num_threads(),
        free_sizes=free,
    )

    def export(example: Example) -> list[Tensor]:
        return run_session(session, leaves_of(example))

    gate = Gate(order.host, export, THRESHOLDS[order.precision])
    proved = check_everything(gate, order.example, written.flat.freedom, written.floor, order.samples)
    return _describe(order, written, gate, proved, provider=provider, latency=_compare_latency(order, export))


def _describe(
    order: Order, written: _Written, gate: Gate, proved: Sizes, *, provider: str, latency: dict[str, Latency]
) -> Artifact:
    return Artifact(
        folder=written.path.parent,
        name=order.name,
        target=order.target,
        precision=order.precision,
        inputs=ports_of(written.model.graph.inputs),
        outputs=ports_of(written.model.graph.outputs),
        freedom=written.flat.freedom,
        refusals=written.flat.refusals,
        sizes=proved,
        parity=tuple(gate.compared),
        not_compared=tuple(gate.not_compared),
        threshold=gate.threshold,
        provider=provider,
        fusion=written.passes,
        nodes=len(written.model.graph),
        kept_in_fp32=written.kept_in_fp32,
        latency=latency,
        sha256=sha256(written.path),
        versions={
            "torch": torch.__version__,
            "onnx": version("onnx"),
            "onnxruntime": onnxruntime.__version__,
            "unet-surgeon": version("unet-surgeon"),
        },
    )


def _compare_latency(order: Order, export: Callable[[Example], Any]) -> dict[str, Latency]:
    def host() -> Any:
        with torch.inference_mode():
            return order.model(*order.example.args, **order.example.kwargs)

    names = ("host", "export")
    return dict(zip(names, measure_latency((host, lambda: export(order.example))), strict=True))


def _run_once(order: Order) -> Any:
    try:
        return order.host(order.example)
    except Exception as error:
        raise InputError(
            f"the network fails on the example: {first_line(error)}",
            where=type(order.model).__name__,
            fix="give inputs of the shape and type it was trained on",
        ) from error


def _flatten(order: Order, model: nn.Module, example: Example) -> Flat:
    """Make a graph with the most freedom that the order wants and the network allows."""
    fixed = (Freedom.BATCH, Freedom.NOTHING)
    if order.sizes is SizePolicy.FIXED:
        return flatten(model, example, fixed)
    if takes_other_sizes(order.host, order.example):
        return flatten(model, example)
    flat = flatten(model, example, fixed)
    refusal = Refusal(Freedom.BATCH_AND_SIZES, "the network takes no larger size than the example's")
    return replace(flat, refusals=(refusal, *flat.refusals))


def _on_cpu(order: Order) -> tuple[nn.Module, Example]:
    """Return a copy of the network that the tracer may mark, and the example, both on the CPU."""
    tensors = [*order.model.parameters(), *order.model.buffers(), *leaves_of(order.example)]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return private_copy(order.model), order.example
    return copy.deepcopy(order.model).cpu(), map_tensors(order.example, Tensor.cpu)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, module by module, and back as it was."""
    # Not by .eval(): graphs that torch.export made refuse it, and a spliced network keeps its host's mode.
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _find_policy(name: str) -> SizePolicy:
    try:
        return SizePolicy(name)
    except ValueError:
        raise InputError(
            f"no size policy is called {name!r}", where="sizes", fix="choose one of free, fixed"
        ) from None
