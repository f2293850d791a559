"""What the parity gate compares on: seeds, batches, sizes and real samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surgeon.errors import ExportError, InputError
from surgeon.tracing import Example, Limits, as_example, image_shapes, map_tensors

from .flattening import Freedom, batch_size
from .gate import Case, Gate, within

_STEPS = (1, 2, 4, 8, 16, 32, 64, 128)
# Windows on the fifth level need this one; volumes larger by it are too large to try.
_LARGEST_STEP = 256
_MOST_TRIED = 1 << 22
_SMALLEST_TRIED = 6
# Seed and share of the example's spread. Loud noise saturates a network that ends in a sigmoid, and a
# saturated output hides differences; faint noise does not reach what clips.
_SEEDS = ((1, 1.0), (2, 0.1), (3, 4.0))
# Pixels or voxels of the largest image the gate makes by itself, unless the example is larger.
_MOST_POSITIONS = 1 << 18


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which spatial sizes an export was proved on.

    Attributes:
        free: whether they are free at all.
        step: the sizes it takes differ by multiples of this.
        smallest: the smallest size it was proved on, for each spatial dimension.
        largest: the largest one.
    """

    free: bool
    step: int
    smallest: tuple[int, ...]
    largest: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "free": self.free,
            "step": self.step,
            "smallest": list(self.smallest),
            "largest": list(self.largest),
        }


def check_everything(
    gate: Gate, example: Example, freedom: Freedom, limits: Limits, samples: Sequence[Any]
) -> Sizes:
    """Run a gate over the example, seeds, batches, sizes and samples.

    Args:
        gate: compares.
        example: inputs `(N, C, *spatial)`.
        freedom: which sizes the export leaves open.
        limits: of the spatial sizes that torch.export vouches for.
        samples: real inputs, tensors `(C, *spatial)` or `(N, C, *spatial)`, or tuples of inputs.

    Returns:
        the sizes it was proved on.

    Raises:
        ExportError: the export differs somewhere, or could not be compared at another size or batch.
        InputError: a sample does not have the form of the example.
    """
    if not gate.check(Case("example", example)):
        reason = gate.not_compared[-1].reason
        raise InputError(f"the example cannot be run: {reason}", where="inputs", fix="give other inputs")
    gate.check_all(Case(f"seed {seed}", _noise(example, seed, share)) for seed, share in _SEEDS)
    # What volumes are full of, and what shows the constants that norms divide by.
    gate.check(Case("blank", map_tensors(example, _blank), vital=False))
    if freedom.batch:
        gate.check_all(_batches(example))
    proved = (
        _check_sizes(gate, example, limits, freedom)
        if freedom.sizes
        else Sizes(False, 0, *[_spatial(example)] * 2)
    )
    gate.check_all(real_cases(example, freedom, samples))
    return proved


def _batches(example: Example) -> Iterator[Case]:
    for batch in (1, batch_size(example) + 2):
        yield Case(f"batch {batch}", _noise(_with_batch(example, batch), 10 + batch))


def _check_sizes(gate: Gate, example: Example, limits: Limits, freedom: Freedom) -> Sizes:
    spatial = _spatial(example)
    step = _find_step(gate, example, spatial, limits.largest)
    gate.check_all(
        Case(what, _sized(_with_batch(example, batch), sizes, seed))
        for what, sizes, batch, seed in (
            *_further_sizes(spatial, step, batch_size(example), freedom),
            *_largest_axes(spatial, step, batch_size(example), limits.largest),
        )
        if limits.largest is None or max(sizes) <= limits.largest
    )
    gate.check_all(_outside(example, step, limits))
    smallest = _find_smallest(gate, example, step, limits.smallest)
    return Sizes(True, step, smallest, _find_largest(gate, example, step, limits.largest))


def _outside(example: Example, step: int, limits: Limits) -> Iterator[Case]:
    """Make cases just outside the sizes that torch.export vouches for: the file takes them without a word.

    A network that goes another way from some size on has such a limit; so has one with a map of one value,
    which is right beyond it as well.
    """
    spatial = _spatial(example)
    below = tuple(size - -(-(size - limits.smallest + 1) // step) * step for size in spatial)
    if min(below) > 0:
        yield Case("below", _sized(example, below, 26), required=False, vital=False)
    if limits.largest is not None:
        above = tuple(size + -(-(limits.largest - size + 1) // step) * step for size in spatial)
        yield Case("beyond", _sized(example, above, 27), required=False)


def _further_sizes(
    spatial: tuple[int, ...], step: int, batch: int, freedom: Freedom
) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """Yield sizes that an export has to take where the host does: what, spatial sizes, batch and seed."""
    if len(spatial) > 1:
        yield "not square", (*spatial[:-1], spatial[-1] + 2 * step), batch, 21
    # Another remainder on every axis: what rounds sizes down or up in its levels does it in another way.
    steps = tuple((3, 1, 2)[axis % 3] * step for axis in range(len(spatial)))
    yield "uneven", tuple(size + more for size, more in zip(spatial, steps, strict=True)), batch, 24
    if freedom.batch:
        yield "larger, batch 3", tuple(size + step for size in spatial), 3, 25


def small_example(example: Example, freedom: Freedom, sizes: Sizes) -> Example:
    """Return the smallest inputs an export was proved on."""
    small = _with_batch(example, 1) if freedom.batch else example
    return within(_sized(small, sizes.smallest, 30) if freedom.sizes else _noise(small, 30), example)


def _largest_axes(
    spatial: tuple[int, ...], step: int, batch: int, limit: int | None
) -> Iterator[tuple[str, tuple[int, ...], int, int]]:
    """Yield, where sizes are limited, each axis alone at its largest: two steps more may be beyond it."""
    if limit is None or len(spatial) == 1:
        return
    for axis, size in enumerate(spatial):
        largest = size + max(limit - size, 0) // step * step
        if largest > size:
            yield (
                "one axis at its largest",
                (*spatial[:axis], largest, *spatial[axis + 1 :]),
                batch,
                31 + axis,
            )


def step_of_sizes(host: Callable[[Example], Any], example: Example) -> int:
    """Return the smallest step to a larger spatial size that a network runs at; 0 where it takes none."""
    for step, grown in _grown(_spatial(example)):
        try:
            host(within(_sized(example, grown, 20), example))
        except Exception:  # noqa: BLE001 - a host may refuse a size in any way
            continue
        return step
    return 0


def _grown(spatial: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield steps to larger sizes, and these."""
    largest = math.prod(size + _LARGEST_STEP for size in spatial)
    for step in (*_STEPS, _LARGEST_STEP) if largest <= _MOST_TRIED else _STEPS:
        yield step, tuple(size + step for size in spatial)


def step_of_depth(host: Callable[[Example], Any], example: Example) -> int:
    """Return the smallest step to a larger depth of a volume, its other sizes kept, that a network runs at.

    1 for images, and where it takes none: then nothing is known of depths.
    """
    depth, *rest = _spatial(example)
    for step in _STEPS if len(rest) == 2 else ():
        try:
            host(within(_sized(example, (depth + step, *rest), 29), example))
        except Exception:  # noqa: BLE001 - a host may refuse a size in any way
            continue
        return step
    return 1


def _find_step(gate: Gate, example: Example, spatial: tuple[int, ...], limit: int | None) -> int:
    """Return the smallest step to a larger size that host and export both take."""
    reason = f"sizes beyond {limit} are outside what torch.export vouches for"
    for step, grown in _grown(spatial):
        if limit is not None and max(grown) > limit:
            break
        # The export may refuse what lies between its steps, with an error; wrong values it may not give.
        if gate.check(Case("larger", _sized(example, grown, 20), required=False)):
            return step
        reason = gate.not_compared[-1].reason
    raise ExportError(
        f"its sizes are free, and at no larger size could it be compared: {reason}",
        where="larger",
        fix="export it for one fixed size with sizes='fixed'",
    )


def _find_smallest(gate: Gate, example: Example, step: int, floor: int) -> tuple[int, ...]:
    spatial = _spatial(example)
    first = step * -(-floor // step)
    for size in range(first, min(*spatial, first + _SMALLEST_TRIED * step), step):
        small = (size,) * len(spatial)
        if gate.check(Case("smallest", _sized(example, small, 22), required=False, vital=False)):
            return small
    return spatial


def _find_largest(gate: Gate, example: Example, step: int, limit: int | None) -> tuple[int, ...]:
    """Return the largest size it is proved on: the largest allowed, or about twice the example's."""
    spatial = _spatial(example)
    room = [size if limit is None else max(min(size, limit - size), 0) for size in spatial]
    grown = tuple(size + room_left // step * step for size, room_left in zip(spatial, room, strict=True))
    while math.prod(grown) > max(_MOST_POSITIONS, math.prod(spatial)):
        grown = tuple(max(size, side - step) for size, side in zip(spatial, grown, strict=True))
    next_step = tuple(size + step for size in spatial)
    if math.prod(grown) <= math.prod(next_step):
        return next_step
    return grown if gate.check(Case("largest", _sized(example, grown, 23), required=False)) else next_step


def real_cases(example: Example, freedom: Freedom, samples: Sequence[Any]) -> Iterator[Case]:
    """Make a case of every real sample.

    Raises:
        InputError: a sample does not have the form of the example.
    """
    rank = len(image_shapes(example)[0])
    for number, sample in enumerate(samples):
        given = sample
        if isinstance(sample, Tensor) and sample.ndim == rank - 1:
            given = sample.unsqueeze(0)
        inputs = as_example(given, example.kwargs)
        if len(image_shapes(inputs)[0]) != rank or image_shapes(inputs)[0][1] != image_shapes(example)[0][1]:
            raise InputError(
                f"sample {number} has the shape {image_shapes(inputs)[0]}, "
                f"the example {image_shapes(example)[0]}",
                where="samples",
                fix="give samples with the channels and dimensions of the example",
            )
        fits = freedom.sizes or _spatial(inputs) == _spatial(example)
        fits = fits and (freedom.batch or batch_size(inputs) == batch_size(example))
        yield Case(f"sample {number}", inputs, required=fits, real=True)


def quantised_cases(
    example: Example, freedom: Freedom, sizes: Sizes, samples: Sequence[Any]
) -> Iterator[Case]:
    """Make the cases of a file whose ranges are those of real images: noise would leave them.

    Beside every sample, the first one in a batch, and laid side by side to another size.
    """
    real = list(real_cases(example, freedom, samples))
    yield from real
    first = next((case.example for case in real if case.required), None)
    if first is None:
        return
    if freedom.batch:
        yield Case("sample 0, batch 3", _with_batch(first, 3), real=True)
    if freedom.sizes:
        wide = tuple(size + (axis + 1) * sizes.step for axis, size in enumerate(_spatial(first)))
        yield Case("sample 0, uneven", _tiled(first, wide), real=True)


def _spatial(example: Example) -> tuple[int, ...]:
    return image_shapes(example)[0][2:]


def _noise(example: Example, seed: int, share: float = 1.0) -> Example:
    """Draw other values with the mean of the example and a share of its spread; whole numbers stay."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        spread = float(tensor.std()) if tensor.numel() > 1 else 0.0
        values = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
        return (values * share * (spread or 1.0) + float(tensor.mean())).to(tensor)

    return map_tensors(example, draw)


def _blank(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.is_floating_point() else tensor


def _with_batch(example: Example, batch: int) -> Example:
    size = batch_size(example)

    def grow(tensor: Tensor) -> Tensor:
        if not tensor.ndim or tensor.shape[0] != size:
            return tensor
        return tensor[[index % size for index in range(batch)]]

    return map_tensors(example, grow)


def _sized(example: Example, sizes: tuple[int, ...], seed: int) -> Example:
    return _noise(_tiled(example, sizes), seed)


def _tiled(example: Example, sizes: tuple[int, ...]) -> Example:
    """Return the images cut to other sizes, or repeated to them."""
    spatial = _spatial(example)

    def resize(tensor: Tensor) -> Tensor:
        if tuple(tensor.shape[2:]) != spatial:
            return tensor
        grown = tensor
        for axis, size in enumerate(sizes, start=2):
            index = torch.arange(size, device=tensor.device) % tensor.shape[axis]
            grown = grown.index_select(axis, index)
        return grown

    return map_tensors(example, resize)
