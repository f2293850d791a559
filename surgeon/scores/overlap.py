"""Scores of one case: Dice and IoU by counting, surface distances through MONAI."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch
from torch import Tensor

from surgeon.data import IGNORED, LabelRegions
from surgeon.errors import InputError

METRICS = ("iou", "hd95", "assd", "surface_dice")
Values = dict[str, dict[str, float | None]]


class Empty(StrEnum):
    """What a class counts for that is in neither prediction nor label."""

    PERFECT = "perfect"  # it was rightly not found: Dice and IoU 1, distances 0
    SKIP = "skip"  # it is left out: no value, and no part in a mean


def score_case(
    prediction: Tensor,
    label: Tensor,
    classes: Sequence[str],
    metrics: Sequence[str] = (),
    spacing: Sequence[float] | None = None,
    *,
    regions: LabelRegions | None = None,
    tolerance: float = 1.0,
    empty: Empty = Empty.PERFECT,
) -> Values:
    """Score one case on each foreground class; what nobody has labelled (`IGNORED`) is left out.

    A class that is in prediction or label only scores 0 in the overlaps, and has no distance (None).

    Args:
        prediction: int64 `(*spatial)`.
        label: int64 `(*spatial)`.
        classes: names, the background first.
        metrics: of `iou`, `hd95`, `assd` (mm) and `surface_dice`, beside Dice.
        spacing: size of a pixel or voxel in mm.
        regions: the label values of each class; None where they are its place in `classes`.
        tolerance: distance in mm within which two surfaces agree, for `surface_dice`.
        empty: what a class counts for that is in neither.

    Returns:
        `{"dice": {"liver": 0.9}, ...}`; None where there is no value.

    Raises:
        InputError: a metric is unknown, or the library it needs is missing.
    """
    check_metrics(metrics)
    names = tuple(classes)[1:]
    unknown = label == IGNORED
    if unknown.any():
        prediction, label = prediction.masked_fill(unknown, 0), label.masked_fill(unknown, 0)
    counts = _counts(prediction, label, len(classes)) if regions is None else None
    if counts is None:
        assert regions is not None
        counts = [_count(*pair) for pair in _pairs(prediction, label, len(names), regions)]
    neither = None if empty is Empty.SKIP else 1.0
    scores: Values = {"dice": {}, **{metric: {} for metric in metrics}}
    for name, (both, either) in zip(names, counts, strict=True):
        scores["dice"][name] = 2 * both / (both + either) if either else neither
        if "iou" in metrics:
            scores["iou"][name] = both / either if either else neither
    if set(metrics) - {"iou"}:
        pairs = _pairs(prediction, label, len(names), regions)
        for name, (seen, true) in zip(names, pairs, strict=True):
            found = _surface_scores(seen, true, spacing, tolerance, neither)
            for metric in set(metrics) - {"iou"}:
                scores[metric][name] = found[metric]
    return scores


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse a metric that does not exist.

    Raises:
        InputError: a metric is unknown.
    """
    for metric in metrics:
        if metric not in METRICS:
            raise InputError(f"unknown metric {metric!r}", where="metrics", fix=f"of {', '.join(METRICS)}")


def _counts(prediction: Tensor, label: Tensor, count: int) -> list[tuple[int, int]]:
    """Count for each foreground class the voxels in both and in either."""
    table = torch.bincount(label.flatten() * count + prediction.flatten(), minlength=count * count)
    table = table.reshape(count, count)
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    return list(zip(both.tolist(), either.tolist(), strict=True))[1:]


def _count(seen: Tensor, true: Tensor) -> tuple[int, int]:
    return int((seen & true).sum()), int((seen | true).sum())


def _pairs(
    prediction: Tensor, label: Tensor, count: int, regions: LabelRegions | None
) -> list[tuple[Tensor, Tensor]]:
    """List the masks `(*spatial)` of each foreground class in prediction and label."""
    if regions is None:
        return [(prediction == value, label == value) for value in range(1, count + 1)]
    return list(zip(regions.masks(prediction[None])[0], regions.masks(label[None])[0], strict=True))


def _surface_scores(
    seen: Tensor, true: Tensor, spacing: Sequence[float] | None, tolerance: float, neither: float | None
) -> dict[str, float | None]:
    """Measure the distances between two surfaces, once for all metrics."""
    if not seen.any() and not true.any():
        distance = None if neither is None else 0.0
        return {"hd95": distance, "assd": distance, "surface_dice": neither}
    if not seen.any() or not true.any():
        return {"hd95": None, "assd": None, "surface_dice": 0.0}
    measure = _distance_function()
    sizes = None if spacing is None else list(spacing)
    # MONAI calls its own function with an argument that it has deprecated.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        _, (there, back), _ = measure(seen.cpu(), true.cpu(), spacing=sizes, symmetric=True)
    both = torch.cat([there, back])
    percentiles = [float(torch.quantile(way.double(), 0.95)) for way in (there, back)]
    return {
        "hd95": max(percentiles),
        "assd": float(both.double().mean()),
        "surface_dice": float((both <= tolerance).double().mean()),
    }


def _distance_function() -> Callable[..., tuple[object, tuple[Tensor, Tensor], object]]:
    try:
        import scipy  # noqa: F401 - MONAI computes distances with it
        from monai.metrics.utils import get_edge_surface_distance
    except ImportError as error:
        raise InputError(
            f"surface distances need a library that is not installed: {error.name or error}",
            where="metrics",
            fix="pip install scipy",
        ) from error
    return get_edge_surface_distance  # type: ignore[no-any-return]
