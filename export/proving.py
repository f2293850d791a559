"""A written file put through the gate, and what was found."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor, nn

from surgeon.copying import copied
from surgeon.errors import ExportError
from surgeon.files import sha256
from surgeon.parity import tensors_in
from surgeon.tracing import Example, map_tensors, run, size_limits

from .artifact import Artifact
from .cases import Sizes, check_everything, quantised_cases, small_example
from .choosing import chooses
from .divergence import Stages, find_divergence
from .doubling import count_nodes
from .flattening import leaves_of
from .gate import THRESHOLDS, Compared, Gate, Threshold, are_probabilities
from .onnx import ports_of
from .order import Order
from .reference import Opinion, ask_reference
from .rounding import rounding_twin
from .runtime import Latency, measure_latency, open_session, run_session
from .targets import Precision
from .writing import Written


def prove(order: Order, written: Written) -> Artifact:
    """Put a file in float32 or float16 through the gate and say what was found.

    Raises:
        ExportError: it does not compute what the network computes.
    """
    export, provider = _open(order, written)
    gate = _gate(order, written, export)
    limits = size_limits(written.flat.program)
    proved = check_everything(gate, order.example, written.flat.freedom, limits, order.samples)
    compared = tuple(gate.compared)
    if order.precision is Precision.FP16 and provider == "CPUExecutionProvider":
        compared += _check_rounding(order, written)
    return Artifact(
        folder=written.path.parent,
        name=order.name,
        target=order.target,
        opset=written.model.opset_imports[""],
        precision=order.precision,
        inputs=ports_of(written.model.graph.inputs),
        outputs=ports_of(written.model.graph.outputs),
        freedom=written.flat.freedom,
        refusals=written.flat.refusals,
        sizes=proved,
        parity=compared,
        not_compared=tuple(gate.not_compared),
        threshold=gate.threshold,
        second_opinion=_second_opinion(order, written, proved),
        provider=provider,
        fusion=written.passes,
        nodes=count_nodes(written.model),
        kept_in_fp32=written.kept_in_fp32,
        latency=_compare_latency(order, {"export": export}),
        sha256=sha256(written.path),
        versions=_versions(),
        file=written.path.name,
        limits=written.limits,
    )


def _gate(order: Order, written: Written, export: Callable[[Example], Any]) -> Gate:
    locate = _locator(order, written)
    choosing = chooses(written.flat.graph_module.graph)
    exact = _in_double(order)
    return Gate(order.host, export, THRESHOLDS[order.precision], locate, exact, order.example, choosing)


def _check_rounding(order: Order, written: Written) -> tuple[Compared, ...]:
    """Put a float16 file through the gate once more, rounding as where float16 is computed.

    Raises:
        ExportError: it then computes something else, or overflows.
    """
    twin = written.path.with_name("rounded.onnx")
    ir.save(rounding_twin(ir.load(written.path)), twin)
    rounded = replace(written, path=twin)
    try:
        gate = _gate(order, rounded, _open(order, rounded)[0])
        limits = size_limits(written.flat.program)
        check_everything(gate, order.example, written.flat.freedom, limits, order.samples)
    finally:
        twin.unlink()
    return tuple(replace(case, what=f"{case.what}, rounded to float16") for case in gate.compared)


def prove_quantised(order: Order, plain: Written, proved: Artifact, quantised: Written) -> Artifact:
    """Hold a file in int8 against the network on the real samples it was calibrated on, and on more of them.

    Args:
        order: with samples.
        plain: the same in float32, still in its file.
        proved: what was found of that.
        quantised: the file in int8.

    Raises:
        ExportError: rounding changed too many classes.
    """
    export, _ = _open(order, quantised)
    gate = Gate(order.host, export, _int8_threshold(order))
    gate.check_all(quantised_cases(order.example, quantised.flat.freedom, proved.sizes, order.samples))
    _refuse_costly([case.difference.dice for case in gate.compared])
    calls = {"export": export, "fp32": _open(order, plain)[0]}
    return replace(
        proved,
        precision=order.precision,
        parity=(*(replace(case, what=f"{case.what}, before int8") for case in proved.parity), *gate.compared),
        threshold=gate.threshold,
        fusion=proved.fusion[: len(plain.fused.passes)],  # int8 was made of what only those had passed
        nodes=count_nodes(quantised.model),
        kept_in_fp32=quantised.kept_in_fp32,
        latency=_compare_latency(order, calls),
        sha256=sha256(quantised.path),
        file=quantised.path.name,
    )


# Between the classes of a network and of its int8, mean over the real samples.
_LEAST_DICE = 0.95


def _int8_threshold(order: Order) -> Threshold:
    """Let a probability at a border go from one end to the other: how many do, agreement and Dice say."""
    threshold = THRESHOLDS[order.precision]
    bounded = are_probabilities(tensors_in(order.host(order.example)))
    return replace(threshold, relative=1.0) if bounded else threshold


def _refuse_costly(dices: Sequence[float]) -> None:
    mean = sum(dices) / max(len(dices), 1)
    if mean < _LEAST_DICE:
        raise ExportError(
            f"rounding to 8 bits changes too much: a Dice of {mean:.3f} to the network's own classes, mean "
            f"over the samples, where {_LEAST_DICE} is the least",
            where="precision int8",
            fix="give more samples that show what the network will meet, or use precision='fp16'",
        )


def _in_double(order: Order) -> Callable[[Example], Any]:
    """Make the function that runs the network in float64; its copy is made when it is first needed."""

    @functools.cache
    def network() -> nn.Module:
        return copied(order.model).double()

    def widened(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x

    return lambda example: run(network(), map_tensors(example, widened))


def _open(order: Order, written: Written) -> tuple[Callable[[Example], list[Tensor]], str]:
    """Open a file where it will run, and return how to call it and the provider."""
    target = order.target
    provider = target.provider if torch.cuda.is_available() else "CPUExecutionProvider"
    session = open_session(
        written.path,
        target.name if provider == target.provider else provider,
        # As many as torch uses, or the latencies could not be compared.
        threads=torch.get_num_threads(),
        free_sizes=written.flat.freedom.sizes,
    )
    return (lambda example: run_session(session, leaves_of(example))), provider


def _locator(order: Order, written: Written) -> Callable[[Example], str]:
    """Make the function that says where values part on some inputs."""
    tolerance = THRESHOLDS[order.precision].relative

    def locate(example: Example) -> str:
        good = None if example is order.example else order.example
        try:
            # What lies on the disk, whatever it was meant to be.
            model = ir.load(written.path)
            stages = Stages(order.model, written.flat.graph_module, written.program, model)
            place = find_divergence(stages, good, example, tolerance)
        except Exception:  # noqa: BLE001 - what is told is the difference itself, with the place or without
            return ""
        return "" if place is None else str(place)

    return locate


# At the smallest size norms see a few values and raise the rounding of plain numpy to several times that of
# onnxruntime; a file that is read as another computation differs by far more.
_MISREAD = 10.0


def _second_opinion(order: Order, written: Written, proved: Sizes) -> Opinion | None:
    """Let the reference evaluator run the file; None where that is not wanted.

    Raises:
        ExportError: it computes something else.
    """
    if not order.second_opinion:
        return None
    example = small_example(order.example, written.flat.freedom, proved)
    opinion = ask_reference(written.path, order.host, example)
    limit = _MISREAD * THRESHOLDS[order.precision].relative
    if opinion.difference is not None and not opinion.difference.relative <= limit:
        raise ExportError(
            "ONNX's reference evaluator reads another computation out of the file: its output differs by "
            f"{opinion.difference.relative:.1e} of the range, onnxruntime's does not",
            where=f"input {'x'.join(map(str, opinion.shape))}",
            fix="leave it out by second_opinion=False (--no-second-opinion) if onnxruntime alone will run it",
        )
    return opinion


def _versions() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "onnx": version("onnx"),
        "onnxruntime": onnxruntime.__version__,
        "unet-surgeon": version("unet-surgeon"),
    }


def _compare_latency(order: Order, exports: Mapping[str, Callable[[Example], Any]]) -> dict[str, Latency]:
    def host() -> Any:
        with torch.inference_mode():
            return order.model(*order.example.args, **order.example.kwargs)

    calls: list[Callable[[], object]] = [host]
    calls += [functools.partial(export, order.example) for export in exports.values()]
    return dict(zip(("host", *exports), measure_latency(calls), strict=True))
