"""What a network sees in prepared images, and where that lies in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.data import Cohort, Preparation, Resampling, Sample, Window, resample, resample_from_origin

from .tasks import Task
from .windows import slide

Network = Callable[..., Any]


@torch.no_grad()
def predict_logits(
    network: Network,
    image: Tensor,
    task: Task,
    *,
    window: Window | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the logits `(N, K, *spatial)` of prepared images.

    Args:
        network: already on the image's device, in eval mode.
        image: `(N, C, *spatial)`.
        task: how to read the output.
        window: that slides over the images; None shows them whole.
        kwargs: keyword inputs of the network.
    """

    def logits(patch: Tensor) -> Tensor:
        return task.resized_logits(network(patch, **dict(kwargs or {})), tuple(patch.shape[2:]))

    return logits(image) if window is None else slide(logits, image, window)


def predict(
    network: Network,
    image: Tensor,
    task: Task,
    *,
    window: Window | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> Tensor:
    """Return the label values that a network sees in prepared images, int64 `(N, *spatial)`.

    The arguments are those of `predict_logits`.
    """
    return task.classes_of(predict_logits(network, image, task, window=window, kwargs=kwargs))


def place_in_file(logits: Tensor, sample: Sample, task: Task, preparation: Preparation) -> Tensor:
    """Return the label values on the grid of a sample's file, int64 `(*spatial)`.

    Padding is cut off; where voxels were resampled or cut away, the logits are brought back to the file's
    spacing and what was cut away is background.

    Args:
        logits: `(K, *spatial)` of the sample's image.
        sample: the prepared image.
        task: how to read the logits.
        preparation: how the image was prepared.
    """
    inside = logits[(slice(None), *(slice(start, stop) for start, stop in sample.region))]
    source = sample.source
    if source is None:
        return task.classes_of(inside[None])[0].cpu()
    whole = torch.zeros(source.size, dtype=torch.int64)
    size = tuple(stop - start for start, stop in source.box)
    if all(size):
        back = _resampled(inside.cpu(), size, sample, task, preparation)
        whole[tuple(slice(start, stop) for start, stop in source.box)] = task.classes_of(back[None])[0]
    return whole


def _resampled(
    logits: Tensor, size: tuple[int, ...], sample: Sample, task: Task, preparation: Preparation
) -> Tensor:
    """Bring logits `(K, *spatial)` back to the spacing of the file, as the host's own library does."""
    assert sample.source is not None
    after = sample.source.spacing
    before = preparation.spacing if preparation.spacing and len(preparation.spacing) == len(after) else None
    if preparation.resampling is Resampling.CUBIC:
        return resample(logits, size, before or after, after, order=1)
    if preparation.resampling is Resampling.ORIGIN:
        # MONAI inverts its transforms on probabilities. Half of one is where a class begins.
        shares = task.probabilities(logits[None])[0] - 0.5
        return resample_from_origin(shares, size, before or sample.spacing, after)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(logits[None], size=size, mode=mode, align_corners=False)[0]


def first_patch(cohort: Cohort) -> Tensor:
    """Return the first case `(1, C, *spatial)` as a network is shown it: whole, or a window of it."""
    image = cohort.read(cohort.cases[0]).image
    return middle_patch(image, cohort.preparation.window)[None]


def middle_patch(image: Tensor, window: Window | None) -> Tensor:
    """Cut or pad an image `(C, *spatial)` to a window in its middle; None leaves it whole."""
    if window is None:
        return image
    for axis, wanted in enumerate(window.size, start=1):
        side = image.shape[axis]
        image = image.narrow(axis, max(0, side - wanted) // 2, min(side, wanted))
    missing = [wanted - side for wanted, side in zip(window.size, image.shape[1:], strict=True)]
    return F.pad(image, [n for side in reversed(missing) for n in (side // 2, side - side // 2)])
