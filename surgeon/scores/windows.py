"""Large images seen through a window, piece by piece."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.data import Placing, Weighting, Window

Logits = Callable[[Tensor], Tensor]


def slide(logits: Logits, image: Tensor, window: Window) -> Tensor:
    """Return the logits `(N, K, *spatial)` of a whole image.

    Args:
        logits: from a patch `(N, C, *window)` to logits `(N, K, *window)`.
        image: `(N, C, *spatial)`; padded where it is smaller than the window.
        window: its size, how far it moves, whether it is mirrored.
    """
    seen = functools.partial(_mirrored, logits, axes=window.mirror) if window.mirror else logits
    if window.placing is Placing.STRIDE:
        from monai.inferers import sliding_window_inference

        whole: Tensor = sliding_window_inference(
            image,
            window.size,
            1,
            seen,
            overlap=window.overlap,
            mode=window.weights.value,
            padding_mode=window.padding.value,
        )
        return whole
    return _slide_evenly(seen, image, window)


def _slide_evenly(logits: Logits, image: Tensor, window: Window) -> Tensor:
    size = tuple(image.shape[2:])
    missing = [max(0, wanted - side) for wanted, side in zip(window.size, size, strict=True)]
    flat = [n for side in reversed(missing) for n in (side // 2, side - side // 2)]
    padded = F.pad(image, flat, mode=window.padding.value)
    corners = _corners(tuple(padded.shape[2:]), window)
    if len(corners) == 1:
        total = logits(padded)
    else:
        weight = _weights(window.size, window.weights).to(image.device)
        count = torch.zeros(padded.shape[2:], device=image.device)
        total = torch.zeros(())
        for corner in corners:
            place = _box(corner, window.size)
            patch = logits(padded[place])
            if not total.ndim:
                total = patch.new_zeros((*patch.shape[:2], *padded.shape[2:]))
            total[place] += patch * weight
            count[place] += weight
        total = total / count
    return total[_box(tuple(n // 2 for n in missing), size)]


def _box(corner: tuple[int, ...], size: tuple[int, ...]) -> tuple[Any, ...]:
    """Return an index into the spatial axes, which are the last ones."""
    return (..., *(slice(at, at + side) for at, side in zip(corner, size, strict=True)))


def _corners(size: tuple[int, ...], window: Window) -> list[tuple[int, ...]]:
    """Place windows from border to border at equal distances, as few as the overlap allows."""
    starts = []
    for side, width in zip(size, window.size, strict=True):
        room = side - width
        count = math.ceil(room / (width * (1 - window.overlap))) + 1
        starts.append([round(room * index / max(1, count - 1)) for index in range(count)])
    return list(itertools.product(*starts))


@functools.lru_cache(maxsize=4)
def _weights(size: tuple[int, ...], weighting: Weighting) -> Tensor:
    """Return what each voxel of a window counts for, `(*size)`, 1 at most."""
    if weighting is Weighting.CONSTANT:
        return torch.ones(size)
    weight = torch.ones(())
    for side in size:
        weight = weight[..., None] * _bell(side)
    return weight.clamp_min(float(weight[weight > 0].min()))


def _bell(side: int) -> Tensor:
    """Blur a point in the middle of a line by an eighth of its length."""
    from scipy.ndimage import gaussian_filter1d

    point = torch.zeros(side, dtype=torch.float64)
    point[side // 2] = 1
    blurred = torch.from_numpy(gaussian_filter1d(point.numpy(), side / 8, mode="constant"))
    return (blurred / blurred.max()).float()


def _mirrored(logits: Logits, patch: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Average the logits over all combinations of flips."""
    choices = [c for n in range(len(axes) + 1) for c in itertools.combinations([a + 2 for a in axes], n)]
    total = sum((logits(patch.flip(flips)).flip(flips) for flips in choices[1:]), logits(patch))
    return total / len(choices)
