"""What training minimises: overlap and cross-entropy, where there are labels."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from surgeon.data import IGNORED, LabelRegions

# Far below what a float32 sum over an image can tell, far above the smallest normal float32 (1e-38).
_SPECK = 1e-20


def overlap_and_entropy(
    logits: Tensor, label: Tensor, *, sigmoid: bool, regions: LabelRegions | None, ignores: bool
) -> Tensor:
    """Return the sum of soft Dice (MONAI's, over the whole batch) and cross-entropy, a scalar.

    Args:
        logits: `(N, K, *spatial)`; one channel stands for one foreground class.
        label: int64 `(N, 1, *spatial)`.
        sigmoid: each channel stands alone, else they are exclusive.
        regions: the label values of each channel, where classes overlap.
        ignores: labels may hold `IGNORED`; such voxels count in neither sum.
    """
    if ignores:
        return _loss_where_known(logits, label, sigmoid, regions)
    if regions is None:
        return _loss_function(sigmoid, logits.shape[1])(logits, label)
    target = regions.masks(label[:, 0]).to(logits.dtype)
    return _dice(logits.sigmoid(), target) + F.binary_cross_entropy_with_logits(logits, target)


def _loss_where_known(logits: Tensor, label: Tensor, sigmoid: bool, regions: LabelRegions | None) -> Tensor:
    known = label != IGNORED  # (N, 1, *spatial)
    label = label.masked_fill(~known, 0)
    count = known.sum().clamp_min(1)
    target = _target(logits, label, regions)
    if sigmoid:
        each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        entropy = (each * known).sum() / (count * logits.shape[1])
        shares = logits.sigmoid()
    else:
        each = F.cross_entropy(logits, label[:, 0], reduction="none")  # (N, *spatial)
        entropy = (each * known[:, 0]).sum() / count
        shares = logits.softmax(1)
    return _dice(shares * known, target * known) + entropy


def _target(logits: Tensor, label: Tensor, regions: LabelRegions | None) -> Tensor:
    """Return the mask of each channel `(N, K, *spatial)`."""
    if regions is not None:
        return regions.masks(label[:, 0]).to(logits.dtype)
    if logits.shape[1] == 1:
        return label.to(logits.dtype)
    return F.one_hot(label[:, 0], logits.shape[1]).movedim(-1, 1).to(logits.dtype)


def _dice(shares: Tensor, target: Tensor) -> Tensor:
    from monai.losses import DiceLoss

    total: Tensor = DiceLoss(batch=True)(shares, target)
    return total


@functools.cache
def _loss_function(sigmoid: bool, channels: int) -> Callable[[Tensor, Tensor], Tensor]:
    from monai.losses import DiceCELoss, DiceLoss

    # Dice over the whole batch: a patch without foreground alone would make it jump.
    common = {"batch": True, "to_onehot_y": channels > 1}
    if not sigmoid:
        combined: Callable[[Tensor, Tensor], Tensor] = DiceCELoss(softmax=True, **common)
        return combined
    dice = DiceLoss(sigmoid=True, **common)

    def dice_and_binary(logits: Tensor, label: Tensor) -> Tensor:
        binary = F.binary_cross_entropy_with_logits(logits, _target(logits, label, None))
        total: Tensor = dice(logits, label) + binary
        return total

    return dice_and_binary


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
