"""Files decoded to arrays."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from surgeon.data.reading import read_image, read_label, shape_of, stem_of
from surgeon.errors import DataError
from tests.core.data.builders import ball, disc, picture, volume


def test_a_grey_png_has_one_channel_and_a_colour_one_three(tmp_path: Path) -> None:
    assert read_image(picture(tmp_path / "a.png", disc())).array.shape == (1, 24, 20)
    colour = np.stack([disc()] * 3, -1)
    assert read_image(picture(tmp_path / "b.png", colour)).array.shape == (3, 24, 20)


def test_a_channel_of_transparency_is_left_out(tmp_path: Path) -> None:
    array = np.stack([disc() * 9] * 3 + [disc() * 255], -1)
    assert read_image(picture(tmp_path / "a.png", array)).array.shape == (3, 24, 20)
    assert read_label(picture(tmp_path / "a.png", array)).array.max() == 9


def test_the_numbers_of_a_palette_are_the_classes(tmp_path: Path) -> None:
    image = Image.fromarray(disc() * 2, mode=None).convert("P")
    image.putpalette([0, 0, 0, 9, 9, 9, 255, 0, 0])
    image.putdata((disc() * 2).flatten().tolist())
    image.save(tmp_path / "a.png")
    assert np.unique(read_label(tmp_path / "a.png").array).tolist() == [0, 2]


def test_sixteen_bits_survive(tmp_path: Path) -> None:
    array = (disc().astype(np.uint16)) * 40000
    assert read_image(picture(tmp_path / "a.png", array)).array.max() == 40000


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".bmp"])
def test_other_pictures_are_read(suffix: str, tmp_path: Path) -> None:
    assert read_image(picture(tmp_path / f"a{suffix}", disc())).array.shape == (1, 24, 20)


def test_arrays_of_numpy_have_channels_first_where_they_are_few(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((3, 24, 20)))
    np.save(tmp_path / "b.npy", np.zeros((24, 20)))
    np.save(tmp_path / "c.npy", np.zeros((24, 20, 18)))
    assert read_image(tmp_path / "a.npz").array.shape == (3, 24, 20)
    assert read_image(tmp_path / "b.npy").array.shape == (1, 24, 20)
    assert read_image(tmp_path / "c.npy").array.shape == (1, 24, 20, 18)


def test_an_array_of_python_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="cannot be decoded: Object arrays cannot be loaded"):
        read_image(tmp_path / "a.npy")


def test_a_volume_has_its_spacing_in_the_order_of_its_axes(tmp_path: Path) -> None:
    file = volume(tmp_path / "a.nii.gz", ball(), (1.0, 2.0, 3.0))
    assert read_image(file, "xyz").spacing == (1.0, 2.0, 3.0)
    assert read_image(file, "zyx").spacing == (3.0, 2.0, 1.0)
    assert shape_of(file, "xyz") == (10, 12, 14)
    assert shape_of(file, "zyx") == (14, 12, 10)
    assert np.array_equal(read_image(file, "zyx").array[0], ball().transpose(2, 1, 0))


def test_the_last_axis_of_four_is_the_channels(tmp_path: Path) -> None:
    file = volume(tmp_path / "a.nii", np.stack([ball(), ball() * 2], -1))
    assert read_image(file).array.shape == (2, 10, 12, 14)


def test_a_volume_is_turned_to_the_orientation_that_is_asked_for(tmp_path: Path) -> None:
    array = np.zeros((4, 5, 6), np.uint8)
    array[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(array, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "a.nii.gz")
    turned = read_image(tmp_path / "a.nii.gz", orientation="RAS").array[0]
    assert np.argwhere(turned).tolist() == [[3, 4, 0]]


@pytest.mark.parametrize("size", [np.nan, np.inf])
def test_a_voxel_size_that_is_none_is_refused(size: float, tmp_path: Path) -> None:
    content = bytearray(nibabel.Nifti1Image(ball(), np.eye(4)).to_bytes())
    content[80:84] = np.float32(size).tobytes()  # the first voxel size in the header
    (tmp_path / "a.nii").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"the voxel size .* is no size"):
        read_image(tmp_path / "a.nii")


def test_a_file_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a file of a kind that is not read"):
        read_image(tmp_path / "a.docx")
    with pytest.raises(DataError, match="no such image file"):
        read_image(tmp_path / "a.png")


def test_the_name_of_a_case_has_neither_of_two_suffixes() -> None:
    assert stem_of(Path("x/a.b.nii.gz")) == "a.b"
    assert stem_of(Path("x/A.PNG")) == "A"
