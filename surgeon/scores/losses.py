"""What training minimises: overlap and cross-entropy, where there are labels.

Both come from sums over a batch, so that processes that share it can add theirs up.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.data import IGNORED, LabelRegions

Total = Callable[[Tensor], Tensor]
"""Adds a tensor up over all processes that share a batch; gradients flow through it."""
_SMOOTH = 1e-5
# Far below what a float32 sum over an image can tell, far above the smallest normal float32 (1e-38).
_SPECK = 1e-20


def alone(x: Tensor) -> Tensor:
    """Return the sum over the only process."""
    return x


def overlap_and_entropy(
    logits: Tensor,
    label: Tensor,
    *,
    sigmoid: bool,
    regions: LabelRegions | None = None,
    ignores: bool = False,
    total: Total = alone,
) -> Tensor:
    """Return the sum of soft Dice loss over the whole batch and cross-entropy, a scalar.

    Equal to MONAI's `DiceCELoss(batch=True)`, of several processes to that of all their images.

    Args:
        logits: `(N, K, *spatial)`; one channel stands for one foreground class.
        label: int64 `(N, *spatial)`.
        sigmoid: each channel stands alone, else they are exclusive.
        regions: the label values of each channel, where classes overlap.
        ignores: labels may hold `IGNORED`; such voxels count in neither sum.
        total: over the processes that share the batch.
    """
    known = label != IGNORED if ignores else None
    if known is not None:
        label = label.masked_fill(~known, 0)
    target = _target(logits, label, regions)
    if sigmoid:
        shares, places = logits.sigmoid(), logits.shape[1]
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    else:
        shares, places = logits.softmax(1), 1
        each = F.cross_entropy(logits, label, reduction="none")  # (N, *spatial)
    if known is None:
        return dice_loss(shares, target, total) + _mean(each.sum(), each.numel() * places, total)
    entropy = _mean((each * known).sum(), known.sum() * places, total)
    seen = known[:, None]
    return dice_loss(shares * seen, target * seen, total) + entropy


def dice_loss(shares: Tensor, target: Tensor, total: Total = alone) -> Tensor:
    """Return one minus soft Dice, the mean over channels; equal to MONAI's `DiceLoss(batch=True)`.

    Dice is over the whole batch: a patch without foreground alone would make it jump.

    Args:
        shares: probabilities `(N, K, *spatial)`.
        target: of the same shape, 0 or 1.
        total: over the processes that share the batch.
    """
    axes = (0, *range(2, target.ndim))
    sums = torch.stack([(shares * target).sum(axes), shares.sum(axes) + target.sum(axes)])
    both, either = total(sums)
    overlaps: Tensor = (2 * both + _SMOOTH) / (either + _SMOOTH)
    return 1 - overlaps.mean()


def _mean(summed: Tensor, count: int | Tensor, total: Total) -> Tensor:
    """Return a mean over all processes from a sum and a count; 0 where there is nothing to count."""
    of_all, counted = total(torch.stack([summed, summed.new_zeros(()) + count]))
    mean: Tensor = of_all / counted.clamp_min(1)
    return mean


def _target(logits: Tensor, label: Tensor, regions: LabelRegions | None) -> Tensor:
    """Return the mask of each channel `(N, K, *spatial)`."""
    if regions is not None:
        return regions.masks(label).to(logits.dtype)
    if logits.shape[1] == 1:
        return label[:, None].to(logits.dtype)
    return F.one_hot(label, logits.shape[1]).movedim(-1, 1).to(logits.dtype)


def without_specks(logits: Tensor) -> Tensor:
    """Return the logits with gradients too small to matter cut to zero.

    A trained network is sure of most positions: the loss's gradient there is about exp(-|logit|), soon below
    the smallest normal float32, and processors compute with such numbers a hundred times slower.
    """
    if logits.requires_grad:
        logits = logits.view_as(logits)
        logits.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: gradient.where(gradient.abs() > _SPECK, 0.0)
        )
    return logits
