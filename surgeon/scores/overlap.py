"""Scores of one case: Dice and IoU by counting, surface distances through MONAI."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from surgeon.errors import InputError

METRICS = ("iou", "hd95", "assd")


def score_case(
    prediction: Tensor,
    label: Tensor,
    classes: Sequence[str],
    metrics: Sequence[str] = (),
    spacing: Sequence[float] | None = None,
) -> dict[str, dict[str, float | None]]:
    """Score one case on each foreground class.

    A class that is in neither prediction nor label scores Dice and IoU 1, and distance 0. A class that is
    in one of them only scores Dice and IoU 0, and has no distance (None).

    Args:
        prediction: int64 `(*spatial)`.
        label: int64 `(*spatial)`.
        classes: names, the background first.
        metrics: of `iou`, `hd95` and `assd`, beside Dice.
        spacing: size of a pixel or voxel in mm.

    Returns:
        `{"dice": {"liver": 0.9}, ...}`.

    Raises:
        InputError: a metric is unknown, or the library it needs is missing.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise InputError(f"unknown metric {metric!r}", where="metrics", fix=f"of {', '.join(METRICS)}")
    both, either = _counts(prediction, label, len(classes))
    names = tuple(enumerate(classes))[1:]
    scores: dict[str, dict[str, float | None]] = {
        "dice": {name: _ratio(2 * both[i], both[i] + either[i]) for i, name in names}
    }
    if "iou" in metrics:
        scores["iou"] = {name: _ratio(both[i], either[i]) for i, name in names}
    for metric in ("hd95", "assd"):
        if metric in metrics:
            scores[metric] = {
                name: _distance(metric, prediction == i, label == i, spacing) for i, name in names
            }
    return scores


def _counts(prediction: Tensor, label: Tensor, count: int) -> tuple[list[int], list[int]]:
    """Count for each class the voxels in both and in either."""
    table = torch.bincount(label.flatten() * count + prediction.flatten(), minlength=count * count)
    table = table.reshape(count, count)
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    return both.tolist(), either.tolist()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _distance(
    metric: str, prediction: Tensor, label: Tensor, spacing: Sequence[float] | None
) -> float | None:
    if not prediction.any() and not label.any():
        return 0.0
    if not prediction.any() or not label.any():
        return None
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    pair = (prediction[None, None].cpu(), label[None, None].cpu())
    sizes = None if spacing is None else list(spacing)
    try:
        if metric == "hd95":
            value = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=sizes)
        else:
            value = compute_average_surface_distance(
                *pair, include_background=True, symmetric=True, spacing=sizes
            )
    except ImportError as error:
        raise InputError(
            f"{metric} needs a library that is not installed: {error.name or error}",
            where="metrics",
            fix="pip install scipy",
        ) from error
    return float(value) if math.isfinite(float(value)) else None
