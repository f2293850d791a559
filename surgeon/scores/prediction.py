"""What a network sees in prepared images, and where that lies in their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.data import (
    Back,
    Cohort,
    Preparation,
    Resampling,
    Sample,
    Window,
    resample,
    resample_from_origin,
    resize_plainly,
)

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
    inside = logits[(slice(None), *(slice(start, stop) for start, stop in sample.region))].cpu()
    source = sample.source
    if source is None:
        return task.classes_of(inside[None])[0]
    whole = torch.zeros(source.size, dtype=torch.int64)
    size = tuple(stop - start for start, stop in source.box)
    if all(size):
        back = _labels_as_monai if preparation.resampling in _OF_MONAI else _labels_resampled
        place = tuple(slice(start, stop) for start, stop in source.box)
        whole[place] = back(inside, size, sample, task, preparation)
    return whole


_OF_MONAI = (Resampling.ORIGIN, Resampling.AREA)


def _labels_resampled(
    logits: Tensor, size: tuple[int, ...], sample: Sample, task: Task, preparation: Preparation
) -> Tensor:
    """Bring logits `(K, *spatial)` back to the spacing of the file, as nnU-Net does, and return labels."""
    assert sample.source is not None
    after = sample.source.spacing
    if preparation.resampling is Resampling.CUBIC:
        back = resample(logits, size, _spacing(sample, preparation) or after, after, order=1)
    elif tuple(logits.shape[1:]) == size:
        back = logits
    else:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        back = F.interpolate(logits[None], size=size, mode=mode, align_corners=False)[0]
    return task.classes_of(back[None])[0]


def _labels_as_monai(
    logits: Tensor, size: tuple[int, ...], sample: Sample, task: Task, preparation: Preparation
) -> Tensor:
    """Bring a prediction `(K, *spatial)` back as MONAI inverts its transforms, and return labels."""
    assert sample.source is not None
    is_label = preparation.back is Back.LABELS
    if is_label:
        seen = task.classes_of(logits[None]).float()  # (1, *spatial)
    else:
        seen = logits if preparation.back is Back.LOGITS else task.probabilities(logits[None])[0]
    if sample.frame is not None:
        whole = seen.new_zeros((seen.shape[0], *sample.frame.size))
        whole[(slice(None), *(slice(start, stop) for start, stop in sample.frame.box))] = seen
        seen = whole
    before = _spacing(sample, preparation) or sample.spacing
    if preparation.resize is not None:
        seen = resize_plainly(seen, size, preparation.resampling, nearest=is_label)
    else:
        seen = resample_from_origin(seen, size, before, sample.source.spacing, nearest=is_label)
    if is_label:
        return seen[0].round().long()
    # A class begins at a probability of one half, where its logit is zero.
    half = 0.5 if preparation.back is Back.PROBABILITIES else 0.0
    return task.classes_of(seen[None] - half)[0]


def _spacing(sample: Sample, preparation: Preparation) -> tuple[float, ...] | None:
    """Return the spacing that the preparation asks for, where it has one for each axis of the sample."""
    spacing = preparation.spacing
    return spacing if spacing and len(spacing) == len(sample.spacing) else None


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
