"""Operations that the exporter translates for the traced sizes alone, or not at all, written by others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten


def spelled_out(source: fx.GraphModule) -> fx.GraphModule:
    """Return the graph with every such operation written out, if there is one."""
    return written_out(source, _way)


def written_out(
    source: fx.GraphModule, way: Callable[[fx.Node], Callable[..., Any] | None]
) -> fx.GraphModule:
    """Return the graph with functions in the place of operations; the graph itself if there is none.

    Args:
        source: stays as it is.
        way: the function to write a node by, None to leave it; tracing the graph again takes it apart.
    """
    wanted = {node.name: how for node in source.graph.nodes if (how := way(node)) is not None}
    if not wanted:
        return source
    module = fx.GraphModule(source, copy.deepcopy(source.graph))
    for node in module.graph.nodes:
        node.target = wanted.get(node.name, node.target)
    module.graph.lint()
    module.recompile()
    return module


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """Return where each position of an image comes from, as `torch.nn.functional.affine_grid` does.

    Args:
        theta: `(N, D, D + 1)`.
        size: of the image, `(N, C, *spatial)`.
        align_corners: whether -1 and 1 are the middles of the outermost positions, or their borders.

    Returns:
        `(N, *spatial, D)`.
    """
    axes = []
    for count in size[2:]:
        place = torch.arange(count, dtype=theta.dtype, device=theta.device)
        axes.append(2 * place / (count - 1) - 1 if align_corners else (2 * place + 1) / count - 1)
    places = torch.meshgrid(*axes, indexing="ij")
    base = torch.stack([*reversed(places), torch.ones_like(places[0])], -1)
    rank = len(axes)
    grid = base.reshape(-1, rank + 1) @ theta.transpose(1, 2)
    return grid.reshape(theta.shape[0], *size[2:], rank)


def attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **how: Any
) -> Tensor:
    """Compute attention of one head, `(N, L, E)`, as that of several of which there is one."""
    masked = attn_mask.unsqueeze(1) if attn_mask is not None and attn_mask.ndim == 3 else attn_mask
    one_head = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
    attention: Callable[..., Tensor] = torch.nn.functional.scaled_dot_product_attention
    return attention(*one_head, masked, *rest, **how).squeeze(1)


def normalise_by_batch(x: Tensor, weight: Tensor | None, bias: Tensor | None, *rest: Any) -> Tensor:
    """Normalise channels by the mean and variance of the batch, as a BatchNorm does that always trains.

    Args:
        x: `(N, C, *spatial)`.
        weight: `(C,)`.
        bias: `(C,)`.
        rest: running mean and variance, which play no part, whether it trains, momentum, epsilon, cuDNN.
    """
    epsilon = rest[4]
    axes = [0, *range(2, x.ndim)]
    centred = x - x.mean(axes, keepdim=True)
    variance = (centred * centred).mean(axes, keepdim=True)
    out = centred * torch.rsqrt(variance + epsilon)
    for parameter, apply in ((weight, torch.mul), (bias, torch.add)):
        if parameter is not None:
            out = apply(out, parameter.reshape(-1, *(1,) * (x.ndim - 2)))
    return out


def _way(node: fx.Node) -> Callable[..., Tensor] | None:
    """Return the function to write a node by, None to leave it."""
    if node.target is aten.affine_grid_generator.default and _has_free_size(node.args[1]):
        return affine_grid
    if node.target is aten.scaled_dot_product_attention.default:
        query = node.args[0]
        assert isinstance(query, fx.Node)
        return attend if query.meta["val"].ndim == 3 else None
    if node.target is aten.batch_norm.default and node.args[5]:
        return normalise_by_batch
    return None


def _has_free_size(sizes: Any) -> bool:
    return any(isinstance(size, fx.Node) for size in sizes[2:])
