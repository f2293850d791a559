"""Preparations as values, as files, and applied."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from surgeon.data import Preparation, Scale, read_preparation
from surgeon.data.intensities import prepare_intensities
from surgeon.data.preparing import prepare_geometry
from surgeon.errors import DataError


def test_a_preparation_survives_json_and_toml(tmp_path: Path) -> None:
    preparation = Preparation(
        scale="none", channels=1, clip=(-100.0, 200.0), mean=(3.5,), std=(2.0,), resize_fit=(8, 9),
        multiple=4, axes="zyx", spacing=(1.0, 2.0, 3.0), orientation="RAS", binarise=True,
    )  # fmt: skip
    assert Preparation.from_dict(preparation.to_dict()) == preparation
    file = tmp_path / "preparation.toml"
    file.write_text(preparation.to_toml())
    assert read_preparation(file) == preparation


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"scale": "tanh"}, "unknown scale 'tanh'"),
        ({"multiple": 0}, "multiple of 0 cannot be used"),
        ({"multiple": True}, "multiple of True cannot be used"),
        ({"channels": 0}, "channels of 0 cannot be used"),
        ({"axes": "yxx"}, "axes of 'yxx' cannot be used"),
        ({"resize_fit": [0, 3]}, "resize_fit of"),
        ({"std": [0.0]}, "std of"),
        ({"spacing": [1, -1, 1]}, "spacing of"),
        ({"clip": [3, 1]}, "clip of"),
        ({"orientation": "RLS"}, "orientation of 'RLS' cannot be used"),
        ({"colour": 1}, "unknown key 'colour' in the preparation"),
        ({"clip": 5}, "wrong type"),
    ],
)
def test_a_value_out_of_its_range_is_refused(values, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Preparation.from_dict(values)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text("scale =")
    with pytest.raises(DataError, match="the preparation is not TOML"):
        read_preparation(tmp_path / "p.toml")


def prepared(array: np.ndarray, **values) -> torch.Tensor:
    return prepare_intensities(array, Preparation(**values), "here")


def test_bytes_are_divided_by_255_and_shorts_by_65535() -> None:
    assert prepared(np.full((1, 2, 2), 255, np.uint8)).max() == 1
    assert prepared(np.full((1, 2, 2), 65535, np.uint16)).max() == 1
    assert prepared(np.full((1, 2, 2), 0.3, np.float32)).max() == pytest.approx(0.3)


def test_minmax_brings_each_channel_to_0_and_1_and_a_flat_one_to_0() -> None:
    array = np.stack([np.arange(4).reshape(2, 2), np.full((2, 2), 7)])
    x = prepared(array, scale=Scale.MINMAX)
    assert x[0].flatten().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert x[1].tolist() == [[0, 0], [0, 0]]


def test_zscore_has_mean_0_and_deviation_1() -> None:
    x = prepared(np.arange(100, dtype=np.int16).reshape(1, 10, 10), scale=Scale.ZSCORE)
    assert float(x.mean()) == pytest.approx(0, abs=1e-6)
    assert float(x.std(correction=0)) == pytest.approx(1, abs=1e-6)


def test_clip_comes_before_mean_and_deviation() -> None:
    x = prepared(np.array([[[-500.0, 50.0, 900.0]]]), scale="none", clip=(-100, 100), mean=(10,), std=(5,))
    assert x.flatten().tolist() == pytest.approx([-22, 8, 18])


def test_grey_is_the_grey_of_pillow_to_the_bit() -> None:
    from PIL import Image

    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(colour).convert("L"))
    found = prepared(np.moveaxis(colour, -1, 0), channels=1) * 255
    assert np.array_equal(found[0].round().numpy(), expected)


def test_grey_floats_keep_white_white_and_grey_is_repeated_for_three_channels() -> None:
    assert float(prepared(np.ones((3, 2, 2), np.float32), channels=1).max()) == pytest.approx(1)
    assert prepared(np.ones((1, 2, 2), np.float32), channels=3).shape == (3, 2, 2)


def test_fitting_keeps_the_aspect_and_centres_the_image() -> None:
    image, label = torch.ones(1, 10, 20), torch.ones(10, 20, dtype=torch.int64)
    how = Preparation(resize_fit=(16, 16))
    seen = prepare_geometry(image, label, how, (1.0, 1.0))
    image, out, spacing, region = seen.image, seen.label, seen.spacing, seen.region
    assert out is not None
    assert image.shape == (1, 16, 16)
    assert region == ((4, 12), (0, 16))
    assert spacing == (1.25, 1.25)
    assert out.sum() == 8 * 16
    assert float(image[0, 4:12].min()) == pytest.approx(1)
    assert float(image.sum()) == pytest.approx(8 * 16)


@pytest.mark.parametrize("size", [(17,), (17, 33), (5, 17, 32)])
def test_sides_are_padded_at_their_end_to_a_multiple(size: tuple[int, ...]) -> None:
    how = Preparation(multiple=16)
    label = torch.ones(size, dtype=torch.int64)
    seen = prepare_geometry(torch.ones(1, *size), label, how, (1.0,) * len(size))
    image, out, region = seen.image, seen.label, seen.region
    assert out is not None
    assert tuple(image.shape[1:]) == tuple(-(-side // 16) * 16 for side in size)
    assert region == tuple((0, side) for side in size)
    assert out.sum() == label.sum()


def test_volumes_are_resampled_to_a_spacing_without_new_classes() -> None:
    label = torch.zeros(8, 8, 8, dtype=torch.int64)
    label[2:6] = 5
    how = Preparation(spacing=(1.0, 2.0, 1.0))
    seen = prepare_geometry(torch.rand(1, 8, 8, 8), label, how, (2.0, 2.0, 1.0))
    image, out, spacing = seen.image, seen.label, seen.spacing
    assert out is not None
    assert image.shape == (1, 16, 8, 8)
    assert spacing == (1.0, 2.0, 1.0)
    assert out.unique().tolist() == [0, 5]
    assert (out == 5).sum() == 8 * 8 * 8
