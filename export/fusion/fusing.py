"""All passes, run until none of them finds anything more to do, each checked on its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from surgeon.export.functional import mutates
from torch import fx

from surgeon.parity import compare
from surgeon.tracing import Trace

from .attention import join_attention
from .averages import average_planes
from .batchnorm import fold_batchnorm
from .composing import compose_convolutions
from .constants import fold_constants
from .draft import count_nodes
from .factors import merge_factors
from .flops import FlopCounter
from .joining import join_parallel_convolutions, merge_repeated_parts
from .leading import fold_leading_batchnorm
from .masks import choose_at_once
from .neutral import remove_neutral
from .norms import steady_norms
from .ordering import absorb_channel_order
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
    ("merge_factors", merge_factors),
    ("fold_batchnorm", fold_batchnorm),
    ("fold_batchnorm_through_pool", fold_batchnorm_through_pool),
    ("fold_scale", fold_scale),
    ("fold_leading_batchnorm", fold_leading_batchnorm),
    ("drop_zero_channels", drop_zero_channels),
    ("choose_at_once", choose_at_once),
    ("share_equal_nodes", share_equal_nodes),
    ("absorb_channel_order", absorb_channel_order),
    ("sum_parallel_convolutions", sum_parallel_convolutions),
    ("merge_repeated_parts", merge_repeated_parts),
    ("join_parallel_convolutions", join_parallel_convolutions),
    ("compose_convolutions", compose_convolutions),
)


LARGE_NORMS: tuple[tuple[str, Pass], ...] = (("steady_norms", steady_norms),)
"""What keeps a CPU's kernel from norms over more values than it sums well."""

ALL_NORMS: tuple[tuple[str, Pass], ...] = (("steady_norms", partial(steady_norms, most=0)),)
"""What keeps it from all norms: for an export that is refused with it."""


def cpu_passes(
    step: int = 1, depth_step: int = 1, norms: tuple[tuple[str, Pass], ...] = LARGE_NORMS
) -> tuple[tuple[str, Pass], ...]:
    """Return `PASSES` and those that only a CPU gains by.

    Args:
        step: the spatial sizes that the network takes differ by multiples of this.
        depth_step: and the depths of volumes by multiples of this, whatever their other sizes are.
        norms: `LARGE_NORMS` or `ALL_NORMS`.
    """
    return (
        *PASSES,
        ("merge_upsampling", with_step(step)),
        ("slice_depthwise", partial(slice_depthwise, depth_step=depth_step)),
        ("convolve_planes", partial(convolve_planes, depth_step=depth_step)),
        ("join_attention", join_attention),
        ("average_planes", average_planes),
        *norms,
    )


# Folding changes the order of rounding, no more: relative to the largest output.
_TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-4}
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """A graph right after a pass that changed it."""

    name: str
    graph_module: fx.GraphModule


@dataclass(frozen=True, slots=True)
class Fused:
    """A fused graph and how it was made.

    Attributes:
        graph_module: the graph; the very one that came in when nothing could be fused.
        passes: one report for each pass that ran, in the order of `PASSES`.
        stages: the graphs in between where they were wanted, in the order they were made; a pass may be
            there several times.
    """

    graph_module: fx.GraphModule
    passes: tuple[PassReport, ...]
    stages: tuple[Stage, ...] = ()

    @property
    def changed(self) -> int:
        """Return how many places were rewritten."""
        return sum(report.changed for report in self.passes)

    @property
    def flops(self) -> int | None:
        """Return the operations of the graph on the example; None where there was none."""
        before = self.passes[0].flops_before if self.passes else None
        if before is None:
            return None
        return before + sum((report.flops_after or 0) - (report.flops_before or 0) for report in self.passes)


def fuse(
    source: Trace | fx.GraphModule,
    inputs: tuple[Any, ...] | None = None,
    kwargs: dict[str, Any] | None = None,
    *,
    passes: tuple[tuple[str, Pass], ...] = PASSES,
    keep_stages: bool = False,
) -> Fused:
    """Fuse an ATen graph.

    Args:
        source: a graph of ATen nodes in functional form (no in-place operation), or a trace with such a
            graph; `surgeon.export.flatten` makes one of any network.
        inputs: example inputs `(N, C, *spatial)` to replay every pass on; a trace brings its own.
        kwargs: example keyword inputs.
        passes: what to run.
        keep_stages: whether the graphs between the passes are kept too.

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
    stages: list[Stage] = []
    play = partial(_play, inputs=inputs, kwargs=kwargs or {}) if inputs is not None else None
    current = _Known(source, play(source) if play else None)
    for _ in range(_ROUNDS):
        before = current
        for name, run in passes:
            current, report = _run_checked(run, current, play)
            reports[name] = join_reports(reports[name], report) if name in reports else report
            stages += [Stage(name, current.graph_module)] if keep_stages and report.changed else []
        if current is before:
            break
    return Fused(current.graph_module, tuple(reports[name] for name, _ in passes), tuple(stages))


@dataclass(frozen=True, slots=True)
class _Played:
    """What a graph gives on the example, and the operations that took."""

    outputs: Any
    flops: int


@dataclass(frozen=True, slots=True)
class _Known:
    """A graph, and what it does with the example if there is one."""

    graph_module: fx.GraphModule
    played: _Played | None

    @property
    def flops(self) -> int | None:
        return None if self.played is None else self.played.flops


_Play = Callable[[fx.GraphModule], _Played]


def _play(graph_module: fx.GraphModule, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> _Played:
    with torch.no_grad(), FlopCounter() as counter:
        outputs = graph_module(*inputs, **kwargs)
    return _Played(outputs, counter.total)


def _run_checked(run: Pass, source: _Known, play: _Play | None) -> tuple[_Known, PassReport]:
    """Run a pass and keep its output only if it replays equal to its input."""
    fused, report = run(source.graph_module)
    report = replace(report, flops_before=source.flops, flops_after=source.flops)
    if not report.changed:
        return source, report
    if play is None or source.played is None:
        return _Known(fused, None), report
    played, moved = _replay(source, fused, play)
    if not moved:
        return _Known(fused, played), replace(report, flops_after=played.flops)
    output = next(iter(reversed(source.graph_module.graph.nodes)))
    dropped = Rejected(output.name, f"dropped: {moved}")
    return source, replace(
        report, changed=0, nodes_after=report.nodes_before, details=(), rejected=(*report.rejected, dropped)
    )


def _replay(source: _Known, fused: fx.GraphModule, play: _Play) -> tuple[_Played, str]:
    """Run a fused graph, and say how its outputs moved; nothing where they did not."""
    assert source.played is not None
    try:
        played = play(fused)
        difference = compare(source.played.outputs, played.outputs)
    except (RuntimeError, ValueError) as problem:
        # A view asks for the strides that a tensor had before it was made a constant.
        reason = f"the output can no longer be computed: {str(problem).splitlines()[0][:120]}"
        return source.played, reason
    values = source.graph_module.state_dict().values()
    dtype = next((value.dtype for value in values if value.is_floating_point()), None)
    if difference.relative <= _TOLERANCES.get(dtype, 1e-2) if dtype else difference.equal:
        return played, ""
    return played, f"the output moved by {difference.relative:.1e} of its range"


def _refused(source: fx.GraphModule, name: str, node: fx.Node, reason: str) -> PassReport:
    count = count_nodes(source)
    return PassReport(name, 0, count, count, (), (Rejected(node.name, reason),))
