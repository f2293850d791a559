"""A written file put through the gate, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from surgeon.errors import ExportError
from surgeon.files import sha256
from surgeon.tracing import Example

from .artifact import Artifact
from .cases import Sizes, check_everything, small_example
from .divergence import Stages, find_divergence
from .flattening import leaves_of, size_limits
from .gate import THRESHOLDS, Gate
from .onnx import ports_of
from .order import Order
from .reference import Opinion, ask_reference
from .runtime import Latency, measure_latency, open_session, run_session
from .writing import Written


def prove(order: Order, written: Written) -> Artifact:
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

    gate = Gate(order.host, export, THRESHOLDS[order.precision], _locator(order, written))
    limits = size_limits(written.flat.program)
    proved = check_everything(gate, order.example, written.flat.freedom, limits, order.samples)
    return Artifact(
        folder=written.path.parent,
        name=order.name,
        target=target,
        precision=order.precision,
        inputs=ports_of(written.model.graph.inputs),
        outputs=ports_of(written.model.graph.outputs),
        freedom=written.flat.freedom,
        refusals=written.flat.refusals,
        sizes=proved,
        parity=tuple(gate.compared),
        not_compared=tuple(gate.not_compared),
        threshold=gate.threshold,
        second_opinion=_second_opinion(order, written, proved),
        provider=provider,
        fusion=written.passes,
        nodes=len(written.model.graph),
        kept_in_fp32=written.kept_in_fp32,
        latency=_compare_latency(order, export),
        sha256=sha256(written.path),
        versions=_versions(),
        file=written.path.name,
    )


def _locator(order: Order, written: Written) -> Callable[[Example], str]:
    """Make the function that says where values part on some inputs."""
    stages = Stages(order.model, written.flat.graph_module, written.program, written.plain)
    tolerance = THRESHOLDS[order.precision].relative

    def locate(example: Example) -> str:
        good = None if example is order.example else order.example
        try:
            place = find_divergence(stages, good, example, tolerance)
        except Exception:  # noqa: BLE001 - what is told is the difference itself, with the place or without
            return ""
        return "" if place is None else str(place)

    return locate


def _second_opinion(order: Order, written: Written, proved: Sizes) -> Opinion | None:
    """Let the reference evaluator run the file; None where that is not wanted.

    Raises:
        ExportError: it computes something else.
    """
    if not order.second_opinion:
        return None
    example = small_example(order.example, written.flat.freedom, proved)
    opinion = ask_reference(written.path, order.host, example)
    limit = THRESHOLDS[order.precision].relative
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


def _compare_latency(order: Order, export: Callable[[Example], Any]) -> dict[str, Latency]:
    def host() -> Any:
        with torch.inference_mode():
            return order.model(*order.example.args, **order.example.kwargs)

    names = ("host", "export")
    return dict(zip(names, measure_latency((host, lambda: export(order.example))), strict=True))
