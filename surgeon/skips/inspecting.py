"""From a trace to an anatomy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from surgeon.tracing import Trace, image_shapes, trace

from . import operations as ops
from .anatomy import Anatomy, Kind, Layout, Merge, Refusal, Skip
from .axes import Tag, channel_axis
from .extensions import find_deepest, find_fusions, find_isotropic
from .kinds import kinds_of
from .rule import Findings, Link, apply_rule
from .view import GraphView, MergeSite


def inspect(host: nn.Module, inputs: Any, kwargs: dict[str, Any] | None = None) -> Anatomy:
    """Find the skip connections of a network.

    Args:
        host: any network; it is left as it is.
        inputs: one example tensor `(N, C, *spatial)`, or a tuple of positional inputs.
        kwargs: keyword inputs.

    Returns:
        the skips, highest resolution first, with ids that do not change from run to run.

    Raises:
        InputError: the host fails on the example inputs.
        TraceError: no graph of the host could be proved equal to it.

    Example:
        >>> import torch, monai, surgeon
        >>> host = monai.networks.nets.BasicUNet(2, 1, 2, features=(8, 8, 16, 32, 64, 8))
        >>> [skip.merge_module for skip in surgeon.inspect(host, torch.rand(1, 1, 64, 64)).skips]
        ['upcat_1', 'upcat_2', 'upcat_3', 'upcat_4']
    """
    return locate(trace(host, inputs, kwargs))


def locate(traced: Trace) -> Anatomy:
    """Find the skip connections in a traced network."""
    view = GraphView(traced)
    findings = _find(view)
    if not findings.links and view.blends:
        # Products and the like weigh and mask more often than they join a U: only where nothing else does.
        blended = view.with_blends()
        found = _find(blended)
        view, findings = (blended, found) if found.links else (view, findings)
    kinds = kinds_of(view, findings)
    drafts = [_skip(view, link, kinds[link]) for link in findings.links if kinds[link] is not Kind.FUSION]
    sites = {link.merge.index: link.merge for link in findings.links if kinds[link] is Kind.FUSION}
    fused = (*sites.values(), *find_fusions(view, findings))
    drafts += [_skip(view, link, Kind.FUSION) for site in fused for link in _operands(site)]
    skips = _numbered(view, drafts)
    parameters = sum(p.numel() for p in traced.graph_module.parameters())
    return Anatomy(
        host=traced.host_name,
        skips=skips,
        refusals=_refusals(view, findings, skips),
        notes=_notes(view, skips, traced),
        parameters=parameters,
        input_shapes=tuple(image_shapes(traced.example)),
        output_shapes=_output_shapes(traced),
        trace=traced.summary,
    )


def _find(view: GraphView) -> Findings:
    findings = Findings()
    apply_rule(view, findings)
    if find_isotropic(view, findings):
        apply_rule(view, findings)
    if find_deepest(view, findings):
        apply_rule(view, findings)
    return findings


def _output_shapes(traced: Trace) -> tuple[tuple[int, ...], ...]:
    output = next(node for node in reversed(traced.graph_module.graph.nodes) if node.op == "output")
    shapes: list[Any] = []
    fx.node.map_arg(output.args, lambda node: shapes.append(node.meta.get("shape")))
    return tuple(shape for shape in shapes if isinstance(shape, tuple))


def _skip(view: GraphView, link: Link, kind: Kind) -> Skip:
    """Return the value of a link, not numbered yet."""
    site, operand = link.merge, link.operand
    layout, reason = _layout(view, operand, site.index)
    shape = view.shape(operand)
    spatial = view.example_shape[2:]
    at_merge = shape[2:] if layout is Layout.CHANNELS_FIRST else shape[1:-1]
    stride = _token_stride(view, operand) if layout is Layout.TOKENS else _stride(spatial, at_merge)
    if layout is Layout.TOKENS and not stride and not reason:
        reason = f"{at_merge[0]} tokens do not form a grid over an input of {spatial}"
    return Skip(
        id="",
        kind=kind,
        merge=site.merge,
        merge_module=view.module(site.index),
        source_module=_source_module(view, link.source, site.index),
        source_shape=view.shape(link.source),
        merge_shape=shape,
        implantable=not reason,
        reason=reason,
        level=0,
        stride=stride,
        layout=layout,
        decoder_shape=view.shape(link.decoder),
        merge_node=view.nodes[site.index].name,
        operand_node=view.nodes[operand].name,
        operand_index=link.place,
        decoder_node=view.nodes[link.decoder].name,
        source_node=view.nodes[link.source].name,
    )


def _operands(site: MergeSite) -> list[Link]:
    """Return a link for every operand of a fusion; the last of the others stands for what it meets."""
    return [
        Link(
            site,
            operand,
            place,
            operand,
            operand,
            [o for o in site.operands if o != operand][-1],
            aggregated=False,
        )
        for operand, place in zip(site.operands, site.places, strict=True)
    ]


def _stride(spatial: tuple[int, ...], at_merge: tuple[int, ...]) -> tuple[int, ...]:
    """Return input size over merge size per dimension."""
    if len(at_merge) != len(spatial):
        return ()
    return tuple(max(1, round(a / b)) for a, b in zip(spatial, at_merge, strict=True))


def _token_stride(view: GraphView, operand: int) -> tuple[int, ...]:
    """Return input size over the size of the grid that a row of tokens is, per spatial dimension.

    The grid is that of the nearest map of as many positions, where the graph has one; else the only one
    of a common stride.
    """
    spatial, tokens = view.example_shape[2:], view.shape(operand)[1]
    for i in sorted(range(len(view.nodes)), key=lambda i: (i > operand, abs(i - operand))):
        grid = _map_size(view, i)
        stride = _stride(spatial, grid)
        if math.prod(grid) == tokens and _fits(spatial, stride, grid):
            return stride
    for step in range(1, max(spatial) + 1):
        if math.prod(-(-size // step) for size in spatial) == tokens:
            return (step,) * len(spatial)
    return ()


def _map_size(view: GraphView, i: int) -> tuple[int, ...]:
    """Return the spatial size of a node's tensor if it is a map of the network's images, else nothing."""
    shape, axes = view.shape(i), view.axes.get(view.nodes[i])
    channel = channel_axis(axes) if axes is not None else None
    if axes is None or len(shape) != len(view.example_shape) or channel not in (1, len(shape) - 1):
        return ()
    if any(factor.tag is not Tag.BATCH for factor in axes[0]):
        return ()  # positions are folded into the batch: windows
    return shape[2:] if channel == 1 else shape[1:-1]


def _fits(spatial: tuple[int, ...], stride: tuple[int, ...], grid: tuple[int, ...]) -> bool:
    return len(stride) == len(grid) and all(
        -(-size // step) == count for size, step, count in zip(spatial, stride, grid, strict=True)
    )


def _layout(view: GraphView, operand: int, merge: int) -> tuple[Layout, str]:
    """Return where an operand's channels are, and why it can have no cell.

    Where reshapes hide its axes, they are those of the merge: what meets there is laid out alike.
    """
    node, shape = view.nodes[operand], view.shape(operand)
    dtype = node.meta.get("dtype")
    reason = "" if dtype is None or dtype.is_floating_point else f"the tensor is {dtype}, not floating point"
    axes = view.axes.get(node)
    channel = channel_axis(axes) if axes is not None else None
    if channel is None and len(view.shape(merge)) == len(shape):
        met = view.axes.get(view.nodes[merge])
        channel = channel_axis(met) if met is not None else None
    if channel is None:
        tags = {f.tag for f in axes[1]} if axes is not None and len(axes) > 1 else set()
        if axes is None or tags - {Tag.CHANNEL}:
            return Layout.CHANNELS_FIRST, reason or "which axis holds the channels could not be followed"
        return Layout.CHANNELS_FIRST, reason
    if channel == 1:
        return Layout.CHANNELS_FIRST, reason
    if channel == len(shape) - 1:
        return (Layout.TOKENS if len(shape) == 3 else Layout.CHANNELS_LAST), reason
    return Layout.CHANNELS_FIRST, reason or f"the channels are on axis {channel}"


def _source_module(view: GraphView, source: int, merge: int) -> str:
    """Name the largest module that the tensor leaves: none of its users runs inside it."""
    users = [view.module(user) for user in (*view.users[source], merge)]
    best = view.module(source)
    for name in reversed(view.modules(source)):
        if not name or any(user == name or user.startswith(name + ".") for user in users):
            break
        best = name
    return best


def _numbered(view: GraphView, drafts: list[Skip]) -> tuple[Skip, ...]:
    order = {node.name: i for i, node in enumerate(view.nodes)}

    def key(skip: Skip) -> tuple[int, ...]:
        return (
            -view.resolution[order[skip.operand_node]],
            order[skip.merge_node],
            skip.operand_index,
            order[skip.source_node],
        )

    levels: list[int] = []
    numbered = []
    for i, skip in enumerate(sorted(drafts, key=key)):
        resolution = view.resolution[order[skip.operand_node]]
        if resolution not in levels:
            levels.append(resolution)
        numbered.append(replace(skip, id=f"s{i}", level=levels.index(resolution)))
    return tuple(numbered)


def _refusals(view: GraphView, findings: Findings, skips: tuple[Skip, ...]) -> tuple[Refusal, ...]:
    used = {skip.merge_node for skip in skips}
    return tuple(
        Refusal(
            view.nodes[site.index].name, site.merge, view.module(site.index), view.shape(site.index), reason
        )
        for site in view.merges
        if view.nodes[site.index].name not in used
        for reason in [_reason(findings, site)]
    )


def _reason(findings: Findings, site: MergeSite) -> str:
    if site.index in findings.consumed:
        return "it only gathers the operand of another merge"
    return findings.reasons.get(site.index, "it joins pieces of one tensor")


def _notes(view: GraphView, skips: tuple[Skip, ...], traced: Trace) -> tuple[str, ...]:
    notes = []
    if not skips:
        cats = sum(site.merge is Merge.CAT for site in view.merges)
        resizes = sum(ops.is_any(name, (*ops.RESIZES, "convtranspose")) for name in view.names)
        notes.append(
            f"no skip connection: {cats} concatenations, {len(view.merges) - cats} additions and "
            f"{len(view.blends)} products or other blends of feature maps, {resizes} upsampling operations, "
            "none of them joins an encoder with a decoder"
        )
    if any(node.target is torch.ops.higher_order.wrap_with_autocast for node in view.nodes):
        notes.append("what runs under autocast in its forward is not looked into: take the autocast out")
    if not traced.summary.free_sizes:
        notes.append("the graph is fixed to the example's spatial size")
    stride, graph_stride = traced.summary.stride, traced.summary.graph_stride
    if traced.summary.free_sizes and stride != graph_stride:
        own = f"the network itself takes sizes in steps of {stride}"
        limits = traced.summary.limits
        refused = ", and refuses others" if limits and limits.step > 1 else ""
        steps = f"in steps of {graph_stride}" if graph_stride else "larger ones"
        notes.append(f"{own}, its graph {steps}{refused}")
    if not traced.summary.free_batch:
        notes.append("the graph is fixed to the example's batch size")
    return tuple(notes)
