"""All passes, run until none of them finds anything more to do, each checked on its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from surgeon.export.functional import mutates
from torch import fx

from surgeon.parity import compare
from surgeon.tracing import Trace

from .batchnorm import fold_batchnorm
from .composing import compose_convolutions
from .constants import fold_constants
from .draft import count_nodes
from .joining import join_parallel_convolutions, merge_repeated_parts
from .leading import fold_leading_batchnorm
from .neutral import remove_neutral
from .parallel import sum_parallel_convolutions
from .planes import convolve_planes
from .pools import fold_batchnorm_through_pool
from .report import PassReport, Rejected, join_reports
from .scales import fold_scale
from .sharing import share_equal_nodes
from .slices import slice_depthwise
from .upsampling import with_step
from .zeros import drop_zero_channels

Pass = Callable[[fx.GraphModule], tuple[fx.GraphModule, PassReport]]

PASSES: tuple[tuple[str, Pass], ...] = (
    ("fold_constants", fold_constants),
    ("remove_neutral", remove_neutral),
    ("fold_batchnorm", fold_batchnorm),
    ("fold_batchnorm_through_pool", fold_batchnorm_through_pool),
    ("fold_scale", fold_scale),
    ("fold_leading_batchnorm", fold_leading_batchnorm),
    ("drop_zero_channels", drop_zero_channels),
    ("share_equal_nodes", share_equal_nodes),
    ("sum_parallel_convolutions", sum_parallel_convolutions),
    ("merge_repeated_parts", merge_repeated_parts),
    ("join_parallel_convolutions", join_parallel_convolutions),
    ("compose_convolutions", compose_convolutions),
)


def cpu_passes(step: int = 1) -> tuple[tuple[str, Pass], ...]:
    """Return `PASSES` and those that only a CPU gains by.

    Args:
        step: the spatial sizes that the network takes differ by multiples of this.
    """
    return (
        *PASSES,
        ("merge_upsampling", with_step(step)),
        ("slice_depthwise", slice_depthwise),
        ("convolve_planes", convolve_planes),
    )


# Folding changes the order of rounding, no more: relative to the largest output.
_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused graph and how it was made.

    Attributes:
        graph_module: the graph; the very one that came in when nothing could be fused.
        passes: one report for each pass that ran, in the order of `PASSES`.
    """

    graph_module: fx.GraphModule
    passes: tuple[PassReport, ...]

    @property
    def changed(self) -> int:
        """Return how many places were rewritten."""
        return sum(report.changed for report in self.passes)


def fuse(
    source: Trace | fx.GraphModule,
    inputs: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    passes: tuple[tuple[str, Pass], ...] = PASSES,
) -> Fused:
    """Fuse an ATen graph.

    Args:
        source: a graph of ATen nodes in functional form (no in-place operation), or a trace with such a
            graph; `surgeon.export.flatten` makes one of any network.
        inputs: example inputs `(N, C, *spatial)` to replay every pass on; a trace brings its own.
        kwargs: example keyword inputs.
        passes: what to run.

    Returns:
        the new graph; the input graph is untouched. A pass whose output would differ from its input by more
        than rounding is dropped, and its report says so.
    """
    if isinstance(source, Trace):
        inputs, kwargs = source.example.args, source.example.kwargs
        source = source.graph_module
    mutating = [node for node in source.graph.nodes if mutates(node)]
    if mutating:
        reason = f"{mutating[0].name} writes in place: flatten the network first"
        return Fused(source, tuple(_refused(source, name, mutating[0], reason) for name, _ in passes))
    reports: dict[str, PassReport] = {}
    current = source
    for _ in range(_ROUNDS):
        before = current
        for name, run in passes:
            current, report = _run_checked(run, current, inputs, kwargs)
            reports[name] = join_reports(reports[name], report) if name in reports else report
        if current is before:
            break
    return Fused(current, tuple(reports[name] for name, _ in passes))


def _run_checked(
    run: Pass, source: fx.GraphModule, inputs: tuple[Any, ...] | None, kwargs: dict[str, Any] | None
) -> tuple[fx.GraphModule, PassReport]:
    """Run a pass and keep its output only if it replays equal to its input."""
    fused, report = run(source)
    if not report.changed or inputs is None:
        return fused, report
    moved = _movement(source, fused, inputs, kwargs or {})
    if not moved:
        return fused, report
    output = next(iter(reversed(source.graph.nodes)))
    dropped = Rejected(output.name, f"dropped: {moved}")
    return source, replace(
        report, changed=0, nodes_after=report.nodes_before, details=(), rejected=(*report.rejected, dropped)
    )


def _movement(
    source: fx.GraphModule, fused: fx.GraphModule, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Say how the outputs of a fused graph moved; empty where they did not."""
    with torch.no_grad():
        expected = source(*inputs, **kwargs)
        try:
            difference = compare(expected, fused(*inputs, **kwargs))
        except (RuntimeError, ValueError) as problem:
            # A view asks for the strides that a tensor had before it was made a constant.
            return f"the output can no longer be computed: {str(problem).splitlines()[0][:120]}"
    dtype = next((value.dtype for value in source.state_dict().values() if value.is_floating_point()), None)
    if difference.relative <= _TOLERANCES.get(dtype, 1e-2) if dtype else difference.equal:
        return ""
    return f"the output moved by {difference.relative:.1e} of its range"


def _refused(source: fx.GraphModule, name: str, node: fx.Node, reason: str) -> PassReport:
    count = count_nodes(source)
    return PassReport(name, 0, count, count, (), (Rejected(node.name, reason),))
