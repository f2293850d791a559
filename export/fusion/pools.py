"""Batch normalisation moved in front of a pooling, where a convolution can take it up."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from .affine import Affine, read_batchnorm
from .batchnorm import fold_after
from .convolutions import read_convolution
from .draft import Draft, arguments_of
from .report import PassReport

aten = torch.ops.aten

_AVERAGES = {aten.avg_pool1d.default, aten.avg_pool2d.default, aten.avg_pool3d.default}
_MAXIMA = {aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default}
_MAXIMA_WITH_INDICES = {aten.max_pool2d_with_indices.default, aten.max_pool3d_with_indices.default}


def fold_batchnorm_through_pool(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Fold convolution, pooling, batch normalisation into convolution, pooling.

    An average whose weights sum to one everywhere (nothing padded, or the padding not counted) and a
    maximum under a positive scale both commute with `scale * x + shift`.
    """
    draft = Draft(source, "fold_batchnorm_through_pool")
    for node in list(draft.graph.nodes):
        found = read_batchnorm(draft, node)
        if found is None:
            continue
        pooled, affine = found
        pool = _pool_of(pooled)
        if pool is None:
            continue
        producer: Any = pool.args[0]
        convolution = read_convolution(draft, producer)
        reason = _refusal(pool, affine) or _shared(pooled, pool, producer)
        if convolution is None or reason:
            draft.reject(node, reason or f"{producer.name} before {pool.name} is not a convolution")
            continue
        fold_after(draft, node, producer, convolution, affine)
        draft.replace(node, pooled)
    return draft.finish()


def _pool_of(pooled: fx.Node) -> fx.Node | None:
    if pooled.target in _AVERAGES | _MAXIMA:
        return pooled
    if pooled.target is not operator.getitem or pooled.args[1] != 0:
        return None
    inner = pooled.args[0]
    return inner if isinstance(inner, fx.Node) and inner.target in _MAXIMA_WITH_INDICES else None


def _refusal(pool: fx.Node, affine: Affine) -> str:
    found = arguments_of(pool)
    if pool.target not in _AVERAGES:
        return (
            ""
            if bool((affine.scale > 0).all())
            else f"{pool.name} takes a maximum and a scale is not positive"
        )
    counted = bool(found["count_include_pad"]) and any(found["padding"])
    if (counted or found.get("divisor_override")) and bool((affine.shift != 0).any()):
        return f"{pool.name} counts its padding: its border would change"
    return ""


def _shared(pooled: fx.Node, pool: fx.Node, producer: fx.Node) -> str:
    for item in (pooled, pool, producer):
        if len(item.users) > 1:
            return f"{item.name} before it is read by {len(item.users)} nodes"
    return ""
