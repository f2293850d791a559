"""Volumes as TIFF files of several pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin

from surgeon.data import open_data
from surgeon.data.reading import read_image, read_label, shape_of
from surgeon.errors import DataError
from tests.core.data.builders import ball, nnunet_folder, write_json

VOLUME = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)  # (channels, planes, H, W)
OME = '<OME><Image><Pixels SizeC="{c}" SizeZ="{z}" SizeT="{t}" DimensionOrder="{order}"/></Image></OME>'


def stack(path: Path, pages: np.ndarray, description: str = "") -> Path:
    """Write pages `(N, H, W)` or `(N, H, W, 3)`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if description:
        tags[270] = description
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others, tiffinfo=tags)
    return path


@pytest.mark.parametrize(
    ("channels_first", "description"),
    [
        (False, "ImageJ=1.53\nimages=6\nchannels=2\nslices=3\nhyperstack=true\n"),
        (False, OME.format(c=2, z=3, t=1, order="XYCZT")),
        (True, OME.format(c=2, z=3, t=1, order="XYZCT")),
        (True, '{"shape": [2, 3, 4, 5]}'),
    ],
    ids=["ImageJ", "OME", "OME, planes first", "tifffile"],
)
def test_pages_are_planes_and_channels_as_the_program_that_wrote_them_says(
    channels_first: bool, description: str, tmp_path: Path
) -> None:
    pages = VOLUME if channels_first else VOLUME.swapaxes(0, 1)
    file = stack(tmp_path / "a.tif", pages.reshape(6, 4, 5), description)
    assert np.array_equal(read_image(file, "zyx").array, VOLUME)
    assert np.array_equal(read_image(file, "xyz").array, VOLUME.transpose(0, 3, 2, 1))
    assert (shape_of(file, "zyx"), shape_of(file, "xyz")) == ((3, 4, 5), (5, 4, 3))


def test_pages_of_which_nothing_is_said_are_planes(tmp_path: Path) -> None:
    assert np.array_equal(read_label(stack(tmp_path / "a.tif", VOLUME[0]), "zyx").array, VOLUME[0])


def test_colour_pages_are_planes_of_three_channels(tmp_path: Path) -> None:
    colour = np.stack([VOLUME[0], VOLUME[1], VOLUME[0]], -1)
    assert np.array_equal(
        read_image(stack(tmp_path / "a.tif", colour), "zyx").array, np.moveaxis(colour, -1, 0)
    )


def test_pages_that_are_channels_alone_are_a_picture(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.tif", VOLUME[:, 0], "ImageJ=1.53\nimages=2\nchannels=2\n")
    assert np.array_equal(read_image(file).array, VOLUME[:, 0])
    assert shape_of(file) == (4, 5)


def test_a_film_of_volumes_is_refused(tmp_path: Path) -> None:
    file = stack(tmp_path / "a.tif", VOLUME.reshape(6, 4, 5), "ImageJ=1.53\nimages=6\nslices=3\nframes=2\n")
    with pytest.raises(DataError, match="a film of 2 volumes"):
        read_image(file)


def test_pages_of_two_sizes_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(VOLUME[0, 0]), Image.fromarray(VOLUME[0, 0, :2])]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="pages of the file differ in size"):
        read_image(tmp_path / "a.tif")


def folder(root: Path) -> Path:
    for index in range(3):
        label = ball((6, 16, 16))
        stack(root / "images" / f"{index}.tif", label * 100 + 50)
        stack(root / "masks" / f"{index}.tif", label)
    return root


def test_stacks_are_volumes_for_a_3d_network_and_planes_for_a_2d_one(tmp_path: Path) -> None:
    cohort = open_data(folder(tmp_path), spatial_dims=3)
    sample = cohort.read(cohort.cases[0])
    assert sample.image.shape == (1, 16, 16, 16)  # a multiple of 16
    assert torch.equal(sample.label[:6], torch.from_numpy(ball((6, 16, 16)).astype("int64")))
    planes = open_data(tmp_path, spatial_dims=2)
    assert (len(planes.cases), planes.subjects) == (18, ("0", "1", "2"))
    assert planes.read(planes.cases[3]).label.sum() == ball((6, 16, 16))[3].sum()


def test_the_voxel_size_is_read_from_the_json_of_nnunet(tmp_path: Path) -> None:
    file = stack(tmp_path / "case_0000.tif", VOLUME[0])
    write_json(tmp_path / "case.json", {"spacing": [3, 2, 1]})
    assert read_image(file, "xyz").spacing == (1, 2, 3)
    write_json(tmp_path / "case.json", {"spacing": [3, 2]})
    with pytest.raises(DataError, match=r"says no voxel size(.|\n)*case.json"):
        read_image(file)


def test_stacks_of_nnunet_are_volumes(tmp_path: Path) -> None:
    for file in nnunet_folder(tmp_path, channels=1).rglob("*.nii.gz"):
        file.unlink()
    for index in range(3):
        stack(tmp_path / "imagesTr" / f"ct{index}_0000.tif", ball() * 9)
        stack(tmp_path / "labelsTr" / f"ct{index}.tif", ball())
    cohort = open_data(tmp_path)
    assert (cohort.spatial_dims, cohort.preparation.axes) == (3, "zyx")
