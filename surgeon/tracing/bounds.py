"""The spatial sizes that a graph holds for, where its network goes another way beyond them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from surgeon.errors import InputError

from .inputs import image_shapes, with_sizes
from .trace import Example, Limits

# No image is this large; torch.export writes infinity in several ways.
_NO_LIMIT = 1 << 31
_STEPS = (64, 32, 16, 8, 4, 2, 1)
_MOST_TIMES = 4  # the example's size: beyond, a run costs more than is learnt from it


def size_limits(program: ExportedProgram) -> Limits:
    """Return the limits of the spatial sizes of a graph."""
    lower, upper = [1], []
    inputs = set(program.graph_signature.user_inputs)
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.name not in inputs or not isinstance(value, Tensor):
            continue
        for size in value.shape[2:]:
            limits = program.range_constraints.get(getattr(getattr(size, "node", None), "expr", None))
            if limits is None:
                continue
            lower.append(int(limits.lower))
            if limits.upper < _NO_LIMIT:
                upper.append(int(limits.upper))
    return Limits(max(lower), min(upper, default=None))


def outside(example: Example, limits: Limits) -> Iterator[tuple[Example, ...]]:
    """Yield inputs just outside the limits, of one axis and of all; of each several, one of which may suit.

    A network has a stride, so the sizes differ from the example's by multiples of powers of two.
    """
    spatial = image_shapes(example)[0][2:]
    most = _MOST_TIMES * max(spatial)
    ends = [] if limits.largest is None else [(limits.largest + 1, 1)]
    if limits.smallest > 1:
        ends.append((limits.smallest - 1, -1))
    places = [(axis,) for axis in range(len(spatial))] if len(spatial) > 1 else []
    for end, sign in ends:
        for axes in (*places, tuple(range(len(spatial)))):
            found = [_moved(spatial, axes, end, sign, step) for step in _STEPS]
            yield tuple(
                with_sizes(example, sizes)
                for sizes in dict.fromkeys(found)
                if min(sizes) > 0 and max(sizes) <= most
            )


def _moved(
    spatial: tuple[int, ...], axes: tuple[int, ...], end: int, sign: int, step: int
) -> tuple[int, ...]:
    """Move some axes by whole steps to the end or beyond it."""
    steps = {axis: -(-max(sign * (end - spatial[axis]), 0) // step) for axis in axes}
    return tuple(size + sign * step * steps.get(axis, 0) for axis, size in enumerate(spatial))


@fx.node.has_side_effect
def check_sizes(
    image: Tensor, smallest: int, largest: int | None, step: int = 1, like: tuple[int, ...] = ()
) -> None:
    """Refuse an image that a graph does not hold for; it would go the way of another size.

    Args:
        image: `(N, C, *spatial)`.
        smallest: of any axis.
        largest: of any axis; None where there is no limit.
        step: sizes differ from `like` by multiples of this.
        like: a size for each axis; empty where the step is 1.

    Raises:
        InputError: an axis is smaller, larger or between the steps.
    """
    limits = Limits(smallest, largest, step, tuple(like))
    if not limits.hold(image.shape[2:]):
        raise InputError(
            f"the graph holds for {limits}; the image is {tuple(image.shape[2:])}",
            where="a network that computes in another way for others",
            fix="cut, pad or resize the image, or trace the network on an example of that size",
        )


@fx.node.has_side_effect
def check_size(image: Tensor, sizes: tuple[int, ...]) -> None:
    """Refuse an image of another size than the one that a graph holds for.

    Args:
        image: `(N, C, *spatial)`.
        sizes: of its spatial axes.

    Raises:
        InputError: they differ.
    """
    if tuple(image.shape[2:]) != sizes:
        raise InputError(
            f"the graph holds for images of {sizes} alone; the image is {tuple(image.shape[2:])}",
            where="a network whose sizes were fixed when it was traced",
            fix="bring all images to that size (a [window] or resize_fit in the preparation; --crop in"
            " training), or trace the network on an example of theirs",
        )


def refuse_outside(module: fx.GraphModule, limits: Limits) -> None:
    """Let a graph, whose nodes know their shapes, check the sizes of its images first."""
    ends = (limits.smallest, limits.largest, limits.step, limits.like)
    _check_images(module, lambda image: (check_sizes, (image, *ends)))


def refuse_others(module: fx.GraphModule) -> None:
    """Let a graph that holds for one size, that of its nodes, refuse images of any other."""
    _check_images(module, lambda image: (check_size, (image, tuple(image.meta["shape"][2:]))))


def _check_images(
    module: fx.GraphModule, check: Callable[[fx.Node], tuple[Callable[..., None], tuple[Any, ...]]]
) -> None:
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    rank = max(len(node.meta["shape"] or ()) for node in inputs)
    with module.graph.inserting_after(inputs[-1]):
        for node in inputs:
            if len(node.meta["shape"] or ()) == rank:
                checking = module.graph.call_function(*check(node))
                # One step also to the tracer that runs when the graph is unpickled.
                checking.meta.update(shape=None, dtype=None, is_wrapped=True)
    module.recompile()
