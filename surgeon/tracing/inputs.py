"""Example inputs, and the same network's inputs at another batch and another size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree as pytree

from surgeon.errors import InputError

from .trace import Example

_MOST_GROWN = 1 << 22  # positions


@dataclass(frozen=True, slots=True)
class Variant:
    """The example at another batch or another spatial size."""

    what: str
    example: Example


def as_example(inputs: Any, kwargs: dict[str, Any] | None = None) -> Example:
    """Gather positional and keyword inputs into one value.

    Args:
        inputs: one tensor `(N, C, *spatial)`, or a tuple or list of positional inputs.
        kwargs: keyword inputs.

    Raises:
        InputError: there is no tensor with a batch, channels and at least one spatial dimension.
    """
    args = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
    example = Example(args, dict(kwargs or {}))
    images = image_shapes(example)
    if not images:
        shapes = [tuple(t.shape) for t in tensors_of(example)]
        raise InputError(
            f"no input has the form (N, C, *spatial): {shapes or 'no tensor at all'}",
            where="the example inputs",
            fix="give at least one tensor of 3, 4 or 5 dimensions, batch and channels first",
        )
    return example


def tensors_of(example: Example) -> list[Tensor]:
    """List the tensors of an example, positional ones first."""
    return [leaf for leaf in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(leaf, Tensor)]


def image_shapes(example: Example) -> list[tuple[int, ...]]:
    """List the shapes of the inputs that have spatial dimensions, largest rank first."""
    shapes = [tuple(t.shape) for t in tensors_of(example) if is_image(t)]
    return sorted(shapes, key=lambda shape: -len(shape))


def is_image(leaf: Any) -> bool:
    """Tell whether a leaf has the form `(N, C, *spatial)`."""
    return (
        isinstance(leaf, Tensor)
        and leaf.ndim in (3, 4, 5)
        and (leaf.is_floating_point() or leaf.is_complex())
    )


def map_tensors(example: Example, change: Callable[[Tensor], Tensor]) -> Example:
    """Return the example with `change` applied to each tensor."""
    args, kwargs = pytree.tree_map_only(Tensor, change, (example.args, example.kwargs))
    return Example(args, kwargs)


def with_batch(example: Example, batch: int = 2) -> Example:
    """Return the example with another batch size; what does not share the batch stays."""
    size = image_shapes(example)[0][0]

    def grow(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or tensor.shape[0] != size:
            return tensor
        copies = [tensor if i % 2 == 0 else tensor.flip(-1) for i in range(-(-batch // size))]
        return torch.cat(copies)[:batch].contiguous()

    return map_tensors(example, grow)


def with_sizes(example: Example, sizes: tuple[int, ...]) -> Example:
    """Return the example with its images resized; inputs of another rank or size stay."""
    spatial = image_shapes(example)[0][2:]

    def resize(tensor: Tensor) -> Tensor:
        if not is_image(tensor) or tuple(tensor.shape[2:]) != spatial:
            return tensor
        if tensor.is_complex():
            return torch.view_as_complex(
                torch.stack([_nearest(part, sizes) for part in (tensor.real, tensor.imag)], -1).contiguous()
            )
        return _nearest(tensor, sizes)

    return map_tensors(example, resize)


def _nearest(tensor: Tensor, sizes: tuple[int, ...]) -> Tensor:
    return F.interpolate(tensor.float(), size=sizes, mode="nearest").to(tensor.dtype)


def other_sizes(spatial: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield spatial sizes that a network of a common stride is likely to accept, cheapest first.

    The first dimension alone grows, so that equal sizes are never mistaken for one.
    """
    first, *rest = spatial
    if first % 2 == 0:
        yield (first * 3 // 2, *rest)
    yield (first * 2, *rest)
    if rest:
        yield tuple(size * 2 for size in spatial)


def grown(example: Example) -> Iterator[tuple[int, Example]]:
    """Yield the example with every spatial dimension larger by 1, 2, 4, ..., at most doubled."""
    spatial = image_shapes(example)[0][2:]
    for step in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        sizes = tuple(size + step for size in spatial)
        # Windows need the last two steps; volumes larger by these take more memory than there may be.
        if step <= min(spatial) and (step <= 64 or math.prod(sizes) <= _MOST_GROWN):
            yield step, with_sizes(example, sizes)
