"""Which factors of a tensor's axes are batch, channels and space.

Networks fold space into the batch (windows), channels into heads, and space into tokens. Each axis is
therefore a product of tagged factors; a reshape regroups the factors, a permutation moves them. What the
number of positions of a tensor is then follows, whatever its layout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

Shape = tuple[int, ...]

# Two tensors are of about the same resolution when neither has less than this share of the other's
# positions: a halved 1-D signal has 0.5, a border lost to an unpadded convolution much more.
ABOUT = 0.55


class Tag(Enum):
    """What a factor counts."""

    BATCH = "batch"
    CHANNEL = "channel"
    SPACE = "space"


@dataclass(frozen=True, slots=True)
class Factor:
    """A factor of an axis."""

    size: int
    tag: Tag


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def channels_first(shape: Shape) -> Axes:
    """Tag `(N, C, *spatial)`."""
    tags = [Tag.BATCH, Tag.CHANNEL] + [Tag.SPACE] * (len(shape) - 2)
    return tuple(axis(size, tag) for size, tag in zip(shape, tags, strict=False))


def axis(size: int, tag: Tag) -> Axis:
    """Return an axis of one factor; a size of 1 has none."""
    return (Factor(size, tag),) if size > 1 else ()


def positions(axes: Axes) -> int:
    """Count the spatial positions: the resolution of the tensor."""
    return math.prod(f.size for one in axes for f in one if f.tag is Tag.SPACE)


def dominant(one: Axis, otherwise: Tag = Tag.SPACE) -> Tag:
    """Return the tag of the largest share of an axis."""
    if not one:
        return otherwise
    return max(one, key=lambda factor: factor.size).tag


def resized(axes: Axes, shape: Shape) -> Axes | None:
    """Give axes of the same number other sizes; an axis that keeps its size keeps its factors."""
    if len(axes) != len(shape):
        return None
    return tuple(
        one if math.prod(f.size for f in one) == size else axis(size, dominant(one, _usual(index)))
        for index, (one, size) in enumerate(zip(axes, shape, strict=True))
    )


def _usual(index: int) -> Tag:
    return (Tag.BATCH, Tag.CHANNEL)[index] if index < 2 else Tag.SPACE


def permuted(axes: Axes, order: Sequence[int]) -> Axes:
    """Move axes."""
    return tuple(axes[index] for index in order)


def regrouped(axes: Axes, shape: Shape) -> Axes | None:
    """Distribute the factors over the axes of a reshaped tensor; None when they do not divide."""
    factors = [factor for one in axes for factor in one]
    result: list[Axis] = []
    for size in shape:
        rest, taken = size, []
        while rest > 1:
            if not factors:
                return None
            head = factors.pop(0)
            common = math.gcd(head.size, rest)
            if common not in (head.size, rest):
                return None
            taken.append(Factor(common, head.tag))
            if head.size > common:
                factors.insert(0, Factor(head.size // common, head.tag))
            rest //= common
        result.append(tuple(taken))
    return tuple(result) if not factors else None


def spread(axes: Axes) -> Axes:
    """Turn channels that were folded in among positions into positions: a depth-to-space.

    An axis of positions and channels is one only while another axis still holds channels alone; where
    none does, the positions were folded into the channels instead, as in a patch merging.
    """
    tags = [{factor.tag for factor in one} for one in axes]
    if {Tag.CHANNEL} not in tags:
        return axes
    mixed = {Tag.SPACE, Tag.CHANNEL}
    return tuple(
        tuple(Factor(factor.size, Tag.SPACE) for factor in one) if found == mixed else one
        for one, found in zip(axes, tags, strict=True)
    )


def broadcast(inputs: Sequence[tuple[Axes, Shape]], shape: Shape) -> Axes | None:
    """Tag the result of an elementwise operation from its inputs, aligned at the right."""
    same = [axes for axes, size in inputs if size == shape]
    if same:
        return same[0]
    aligned = [(axes, size) for axes, size in inputs if len(size) <= len(shape)]
    result: list[Axis] = []
    for place in range(len(shape)):
        from_right = len(shape) - place
        options = [
            axes[len(size) - from_right]
            for axes, size in aligned
            if len(size) >= from_right and size[len(size) - from_right] == shape[place]
        ]
        if not options:
            return None
        result.append(options[0])
    return tuple(result)


def channel_axis(axes: Axes) -> int | None:
    """Return the axis that holds all channels and nothing else; None when there is no such axis."""
    holders = [index for index, one in enumerate(axes) if any(f.tag is Tag.CHANNEL for f in one)]
    if len(holders) != 1 or any(f.tag is not Tag.CHANNEL for f in axes[holders[0]]):
        return None
    return holders[0]
