"""Voxels brought to another spacing, against scikit-image and nnU-Net's rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surgeon.data import resample, resample_from_origin
from surgeon.data.resampling import size_from_origin


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("size", [(9, 17, 12), (14, 10, 8), (10, 12, 11)])
def test_splines_are_those_of_scikit_image(order: int, size: tuple[int, ...]) -> None:
    transform = pytest.importorskip("skimage.transform")
    image = noise(2, 10, 12, 11)
    ours = resample(image, size, (1.0, 1.0, 1.0), (1.0, 1.2, 1.1), order)
    theirs = [
        transform.resize(channel, size, order, mode="edge", anti_aliasing=False)
        for channel in image.double().numpy()
    ]
    assert np.allclose(ours.numpy(), np.stack(theirs), atol=1e-5)


def test_far_longer_voxels_are_resized_slice_by_slice_and_taken_from_the_nearest() -> None:
    image = noise(1, 4, 6, 5)
    ours = resample(image, (8, 12, 10), (5.0, 1.0, 1.0), (2.5, 0.5, 0.5), 3)
    assert torch.equal(ours[:, 0::2], ours[:, 1::2])
    alone = resample(image[:, 2], (12, 10), (1.0, 1.0), (0.5, 0.5), 3)
    assert torch.equal(ours[:, 4], alone)


def test_two_long_axes_are_resized_at_once() -> None:
    image = noise(1, 6, 5, 4)
    ours = resample(image, (12, 5, 4), (0.24, 1.25, 1.25), (0.12, 1.25, 1.25), 3)
    assert torch.equal(ours, resample(image, (12, 5, 4), (1.0, 1.0, 1.0), (0.5, 1.0, 1.0), 3))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 1.0), (1.5, 1.0, 0.8)])
def test_the_rule_is_nnunets(spacing: tuple[float, ...]) -> None:
    rule = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    image, after, size = noise(2, 9, 14, 13), (1.2, 1.1, 0.9), (10, 12, 15)
    for order in (1, 3):
        theirs = rule.resample_data_or_seg_to_shape(
            image.double().numpy(), size, spacing, after, order=order, order_z=0, force_separate_z=None
        )
        assert np.allclose(resample(image, size, spacing, after, order).numpy(), theirs, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai", "ignore::DeprecationWarning:monai")
@pytest.mark.parametrize("spacing", [(0.8, 1.3, 2.0), (2.0, 0.7, 1.0)])
def test_voxels_counted_from_the_origin_are_those_of_monais_spacing(spacing: tuple[float, ...]) -> None:
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    image, before = noise(1, 9, 14, 13), (1.0, 1.2, 1.1)
    affine = torch.diag(torch.tensor([*before, 1.0], dtype=torch.float64))
    theirs = Spacing(spacing, mode="bilinear", dtype=torch.float64)(MetaTensor(image, affine=affine))
    size = size_from_origin(image.shape[1:], before, spacing)
    assert size == tuple(theirs.shape[1:])
    ours = resample_from_origin(image, size, before, spacing)
    assert torch.allclose(ours, torch.as_tensor(theirs.array).float(), atol=1e-4)
