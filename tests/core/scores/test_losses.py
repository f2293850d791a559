"""The loss against MONAI's, to which it is equal."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from surgeon.data import IGNORED
from surgeon.scores.losses import overlap_and_entropy


def drawn(channels, spatial, classes):
    generator = torch.Generator().manual_seed(len(spatial) + channels)
    logits = 3 * torch.randn(2, channels, *spatial, generator=generator, dtype=torch.float64)
    label = torch.randint(0, classes, (2, *spatial), generator=generator)
    return logits.requires_grad_(), label


def gradient(loss, logits):
    return torch.autograd.grad(loss, logits)[0]


@pytest.mark.parametrize("spatial", [(7,), (5, 6), (3, 4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_and_its_gradient_are_those_of_monai(spatial, channels):
    losses = pytest.importorskip("monai.losses")
    logits, label = drawn(channels, spatial, max(2, channels))
    sigmoid = channels == 1
    ours = overlap_and_entropy(logits, label, sigmoid=sigmoid)
    common = {"batch": True, "to_onehot_y": not sigmoid}
    if sigmoid:
        theirs = losses.DiceLoss(sigmoid=True, **common)(logits, label[:, None])
        theirs = theirs + F.binary_cross_entropy_with_logits(logits, label[:, None].double())
    else:
        theirs = losses.DiceCELoss(softmax=True, **common)(logits, label[:, None])
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-12)
    assert torch.allclose(gradient(ours, logits), gradient(theirs, logits), atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_sums_of_two_processes_make_the_loss_of_all_their_images(channels):
    logits, label = drawn(channels, (4, 5), max(2, channels))
    label[0, :2] = IGNORED
    kind = {"sigmoid": channels == 1, "ignores": True}
    sums: list[list[torch.Tensor]] = []
    for part in (slice(0, 1), slice(1, 2)):
        seen = []
        overlap_and_entropy(logits[part], label[part], **kind, total=lambda x, seen=seen: seen.append(x) or x)
        sums.append(seen)
    of_all = iter([one + two for one, two in zip(*sums, strict=True)])
    shared = overlap_and_entropy(logits[:1], label[:1], **kind, total=lambda _: next(of_all))
    whole = overlap_and_entropy(logits, label, **kind)
    assert shared.item() == pytest.approx(whole.item(), abs=1e-12)
    assert torch.allclose(gradient(shared, logits), gradient(whole, logits), atol=1e-12)
