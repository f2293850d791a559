"""Operations that the exporter translates for the traced sizes alone, or not at all, written by others."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from surgeon.tracing import affine_grid

from .complex_numbers import roll, shift, shift_back, way_of_complex
from .ranking import way_of_ranking
from .resizing import way_of_resizing

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


def deconvolve(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    """Compute a transposed convolution to a size that is known when it runs (`output_size`).

    ONNX knows how much to pad its output by when the file is written. Padding adds positions at the end and
    changes none, so as many as there may be are computed, and the last ones cut off.

    Args:
        x: `(N, C, *spatial)`.
        weight: `(C, O / groups, *kernel)`.
        bias: `(O,)`.
        rest: stride, padding, output padding, groups and dilation, as torch has them.
    """
    rank = weight.ndim - 2
    stride, padding, output_padding, *others = rest
    groups = others[0] if others else 1
    dilation = others[1] if others[1:] else [1]
    per_axis = (stride, padding, output_padding, dilation)
    steps, cuts, back, gaps = (tuple(each) * (rank // len(each)) for each in per_axis)
    most = [max(step, gap) - 1 for step, gap in zip(steps, gaps, strict=True)]
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    out = convolve(x, weight, bias, steps, cuts, most, groups, gaps)
    for axis in range(rank):
        whole = (x.shape[2 + axis] - 1) * steps[axis] - 2 * cuts[axis]
        whole = whole + gaps[axis] * (weight.shape[2 + axis] - 1) + 1
        out = out.narrow(2 + axis, 0, whole + back[axis])
    return out


def rectify(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any) -> Tensor:
    """Compute a ReLU of random slope as it is outside of training: with the mean slope."""
    return F.leaky_relu(x, (lower + upper) / 2)


def limit(x: Tensor, lower: float | None = None, upper: float | None = None) -> Tensor:
    """Compute a `clamp` between bounds of which one is a whole number: the exporter takes them of one type.

    Whole numbers between bounds that are not whole become real.
    """
    real = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    return real.clamp(*(None if bound is None else torch.sym_float(bound) for bound in (lower, upper)))


def _has_mixed_bounds(x: fx.Node, *bounds: Any) -> bool:
    """Tell whether bounds are of several types, or real ones of whole numbers."""
    values = [bound.meta["val"] if isinstance(bound, fx.Node) else bound for bound in bounds]
    are_real = {isinstance(value, float | torch.SymFloat) for value in values if value is not None}
    return len(are_real) == 2 or (True in are_real and not x.meta["val"].is_floating_point())


def repeat_each(x: Tensor, times: int, dim: int | None = None, **_: Any) -> Tensor:
    """Repeat each entry along an axis, of all in a row where none is named, as `repeat_interleave` does."""
    x, axis = (x.flatten(), 0) if dim is None else (x, dim % x.ndim)
    sizes = [-1] * (x.ndim + 1)
    sizes[axis + 1] = times
    return x.unsqueeze(axis + 1).expand(sizes).flatten(axis, axis + 1)


def leave_over(x: Tensor, divisor: int) -> Tensor:
    """Compute the remainder of whole numbers by a size, `places % width`."""
    return x - torch.div(x, divisor, rounding_mode="floor") * divisor


def _is_whole_by_size(x: fx.Node, divisor: Any) -> bool:
    return _is_open(divisor) and not x.meta["val"].is_floating_point()


def _made_real(node: fx.Node) -> Callable[..., Any]:
    """Return the operation of a node on whole numbers made real: `torch.arange(h) - (h - 1) / 2`.

    The exporter has no type for the sum of whole numbers and a real one that is made of sizes.
    """
    operation: Any = node.target

    def compute(x: Tensor, *rest: Any, **how: Any) -> Any:
        return operation(x.to(torch.get_default_dtype()), *rest, **how)

    return compute


def _meets_real_size(node: fx.Node) -> bool:
    """Tell whether whole numbers meet a real number that is made of sizes."""
    if node.target not in _ARITHMETIC:
        return False
    x, other = (arg.meta.get("val") if isinstance(arg, fx.Node) else None for arg in node.args[:2])
    return isinstance(other, torch.SymFloat) and isinstance(x, Tensor) and not x.is_floating_point()


_ARITHMETIC = {
    *(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar, aten.rsub.Scalar),
    *(aten.mul.Tensor, aten.mul.Scalar, aten.div.Tensor, aten.div.Scalar),
}


def raise_to(x: Tensor, exponent: float) -> Tensor:
    """Raise to a power that is made of sizes, which the exporter takes for a number it knows."""
    return torch.pow(x, torch.full((), exponent, dtype=x.dtype, device=x.device))


def measure(x: Tensor, other: Tensor, p: float = 2, compute_mode: int | None = None) -> Tensor:
    """Return the distance of each vector to each other one, as `cdist` does: of many by a matrix product.

    Args:
        x: `(..., P, M)`.
        other: `(..., R, M)`.
        p: of the norm.
        compute_mode: 1 takes the product for Euclidean distances, 2 never, None where there are many.

    Returns:
        `(..., P, R)`.
    """
    is_long = x.shape[-2] > _FEW_VECTORS or other.shape[-2] > _FEW_VECTORS
    if p != 2 or compute_mode == 2 or not (is_long or compute_mode == 1):
        one_by_one: Tensor = torch.linalg.vector_norm(x.unsqueeze(-2) - other.unsqueeze(-3), p, dim=-1)
        return one_by_one
    norms, others = (part.square().sum(-1, keepdim=True) for part in (x, other))
    left = torch.cat([-2 * x, norms, torch.ones_like(norms)], -1)
    right = torch.cat([other, torch.ones_like(others), others], -1)
    return torch.matmul(left, right.transpose(-2, -1)).clamp_min(0).sqrt()


_FEW_VECTORS = 25  # up to which torch compares them one by one


def hypotenuse(x: Tensor, other: Tensor) -> Tensor:
    """Return the root of the sum of two squares."""
    return (x * x + other * other).sqrt()


def pool_by(x: Tensor, *rest: Any) -> Tensor:
    """Sum over windows and divide by a number that is given: the exporter divides by the window's size.

    Args:
        x: `(N, C, *spatial)`.
        rest: kernel, stride, padding, whether sizes are rounded up, whether padding counts, the divisor.
    """
    *how, _counts_padding, divisor = rest
    kernel = how[0]
    pool: Callable[..., Tensor] = F.avg_pool2d if x.ndim == 4 else F.avg_pool3d
    share: float = math.prod(kernel) / divisor
    return pool(x, *how, True) * share


def _divides_otherwise(*args: Any) -> bool:
    """Tell whether a pool has a divisor of its own; windows that rounding up lets end outside are left."""
    rounds_up, divisor = args[4:5], args[6:7]
    return bool(divisor) and divisor[0] is not None and not any(rounds_up)


def _parts(node: fx.Node) -> Callable[..., Any]:
    """Return a function that cuts a tensor into equal parts, the last one smaller, as slices.

    The exporter splits by a size that it knows. How many parts there are is known from the trace.
    """
    count = len(node.meta["val"])
    by_number = node.target is aten.chunk.default

    def cut(x: Tensor, number: int, dim: int = 0) -> tuple[Tensor, ...]:
        size = -(-x.shape[dim] // number) if by_number else number
        last = (count - 1) * size
        equal = [x.narrow(dim, part * size, size) for part in range(count - 1)]
        return (*equal, x.narrow(dim, last, x.shape[dim] - last))

    return cut


def _way(node: fx.Node) -> Callable[..., Any] | None:
    """Return the function to write a node by, None to leave it."""
    if _is_cut_openly(node):
        return _parts(node)
    if _meets_real_size(node):
        return _made_real(node)
    applies, way = _WAYS.get(node.target, (None, None))
    if applies is not None and applies(*node.args):
        return way
    return way_of_complex(node) or way_of_resizing(node) or way_of_ranking(node)


def _is_open(sizes: Any) -> bool:
    return any(isinstance(size, fx.Node) for size in pytree.tree_leaves(sizes))


def _is_cut_openly(node: fx.Node) -> bool:
    """Tell whether a node cuts a tensor into parts of a size that is not known when the file is written."""
    if node.target not in {aten.split.Tensor, aten.chunk.default}:
        return False
    axis = node.args[2] if node.args[2:] else node.kwargs.get("dim", 0)
    return any(isinstance(part.shape[axis], torch.SymInt) for part in node.meta["val"][:-1])


def _is_deconvolution_to_size(*args: Any) -> bool:
    return _is_open(args[5:6])


# By operation: whether one with these arguments is written, and by what.
_WAYS: dict[Any, tuple[Callable[..., bool], Callable[..., Any]]] = {
    aten.affine_grid_generator.default: (lambda _theta, size, *_: _is_open(size[2:]), affine_grid),
    aten.amax.default: (lambda *args: not args[1:], torch.max),
    aten.amin.default: (lambda *args: not args[1:], torch.min),
    aten.avg_pool2d.default: (_divides_otherwise, pool_by),
    aten.avg_pool3d.default: (_divides_otherwise, pool_by),
    aten.batch_norm.default: (lambda *args: bool(args[5]), normalise_by_batch),
    aten.cdist.default: (lambda *_: True, measure),
    aten.clamp.default: (_has_mixed_bounds, limit),
    aten.conv_transpose1d.default: (_is_deconvolution_to_size, deconvolve),
    aten.conv_transpose2d.input: (_is_deconvolution_to_size, deconvolve),
    aten.conv_transpose3d.input: (_is_deconvolution_to_size, deconvolve),
    aten.fft_fftshift.default: (lambda *_: True, shift),
    aten.fft_ifftshift.default: (lambda *_: True, shift_back),
    aten.hypot.default: (lambda *_: True, hypotenuse),
    aten.pow.Tensor_Scalar: (lambda _x, exponent: _is_open(exponent), raise_to),
    aten.remainder.Scalar: (_is_whole_by_size, leave_over),
    aten.repeat_interleave.self_int: (lambda _x, times, *_: _is_open(times), repeat_each),
    aten.roll.default: (lambda _x, shifts, *_: _is_open(shifts), roll),
    aten.rrelu.default: (lambda *args: not any(args[3:4]), rectify),
    aten.scaled_dot_product_attention.default: (lambda query, *_: query.meta["val"].ndim == 3, attend),
}
