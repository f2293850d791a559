"""How long a run takes after each fusion pass."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import fx

from .flattening import export_program, leaves_of
from .fusion import PassReport
from .onnx import build_model, write_model
from .order import Order
from .runtime import measure_latency, open_session, run_session
from .writing import Written, opset_of

# For each graph; they take turns, so that what else the machine does falls on all alike.
_SECONDS = 3.0


def profile_stages(order: Order, written: Written) -> tuple[PassReport, ...]:
    """Translate the graph after each pass that changed it, and time all of them in turn.

    Args:
        order: what is exported.
        written: the network, with the graphs between its passes.

    Returns:
        the reports of the passes with the medians. Where a pass ran several times, with others in between,
        "after" is "before" and what it changed each time.
    """
    medians = _medians(order, written)
    names = [stage.name for stage in written.fused.stages]
    names += [report.name for report in written.translated if report.changed]
    first: dict[str, float] = {}
    saved: dict[str, float] = {}
    for name, before, after in zip(names, medians, medians[1:], strict=False):
        first.setdefault(name, before)
        saved[name] = saved.get(name, 0.0) + before - after
    return tuple(
        replace(
            report,
            milliseconds_before=first[report.name],
            milliseconds_after=round(first[report.name] - saved[report.name], 4),
        )
        if report.name in first
        else report
        for report in written.passes
    )


def _medians(order: Order, written: Written) -> list[float]:
    """Return the median milliseconds of each graph on the example, the finished file last."""
    graphs = [written.flat.graph_module, *(stage.graph_module for stage in written.fused.stages)]
    with tempfile.TemporaryDirectory() as folder:
        files = [
            _write_stage(order, written, graph, Path(folder) / f"{number}.onnx")
            for number, graph in enumerate(graphs)
        ]
        calls = []
        for path in (*files, written.path):
            session = open_session(
                path,
                order.target.name if torch.cuda.is_available() else "CPUExecutionProvider",
                threads=torch.get_num_threads(),
                free_sizes=written.flat.freedom.sizes,
            )
            calls.append(functools.partial(run_session, session, leaves_of(order.example)))
        timed = measure_latency(calls, seconds=_SECONDS * len(calls))
    return [latency.p50 for latency in timed]


def _write_stage(order: Order, written: Written, graph: fx.GraphModule, path: Path) -> Path:
    program = export_program(graph, written.flat.example, written.flat.freedom)
    write_model(build_model(program, opset_of(program, order.target), *written.names, {}), path)
    return path
