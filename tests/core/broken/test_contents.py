"""Files that can be decoded and hold something odd: each works, or gives one clear error."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from surgeon.data import open_data
from surgeon.errors import DataError
from tests.core.broken.files import pairs, write_array
from tests.core.data.builders import ball, decathlon_folder, disc, nnunet_folder, volume, write_json

Build = Callable[[Path], Path]
FLAT, SOLID = disc((40, 36), 12), ball()


def image(array: np.ndarray, suffix: str = ".npy") -> Build:
    """Put another image into a folder of pairs."""
    return lambda root: write_array(pairs(root, suffix) / "images" / f"case1{suffix}", array).parents[1]


def label(array: np.ndarray, suffix: str = ".npy") -> Build:
    return lambda root: write_array(pairs(root, suffix) / "labels" / f"case1{suffix}", array).parents[1]


def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    other = array.astype(np.float32)
    other[tuple(side // 2 for side in other.shape)] = value
    return other


def nifti(
    array: np.ndarray = SOLID,
    affine: np.ndarray | None = None,
    role: str = "images",
    header: dict[int, bytes] | None = None,
) -> Build:
    """Put a NIfTI with this affine, and bytes of its header changed, into a folder of pairs."""

    def build(root: Path) -> Path:
        pairs(root, ".nii")
        content = bytearray(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes())
        for at, change in (header or {}).items():
            content[at : at + len(change)] = change
        (root / role / "case1.nii").write_bytes(bytes(content))
        return root

    return build


def both(affine: np.ndarray) -> Build:
    """Give image and label the same affine."""

    def build(root: Path) -> Path:
        nifti(SOLID, affine, "images")(root)
        nibabel.save(nibabel.Nifti1Image(SOLID, affine), root / "labels" / "case1.nii")
        return root

    return build


def turned(degrees: float) -> np.ndarray:
    affine, angle = np.eye(4), np.deg2rad(degrees)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return affine


def rgb_nifti(root: Path) -> Path:
    colour = np.zeros(SOLID.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    pairs(root, ".nii")
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), root / "images" / "case1.nii")
    return root


def picture_as(mode: str, role: str = "images") -> Build:
    def build(root: Path) -> Path:
        Image.fromarray(FLAT).convert(mode).save(pairs(root, ".tif") / role / "case1.tif")
        return root

    return build


def objects(root: Path) -> Path:
    return image(np.array([{"a": 1}], dtype=object))(root)


def empty_archive(root: Path) -> Path:
    np.savez(pairs(root, ".npz") / "images" / "case1.npz")
    return root


def two_arrays(root: Path) -> Path:
    np.savez(pairs(root, ".npz") / "images" / "case1.npz", a=FLAT, b=FLAT)
    return root


def swapped(root: Path) -> Path:
    pairs(root, ".npy")
    one, other = root / "images" / "case1.npy", root / "labels" / "case1.npy"
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    return root


F32 = np.float32
SLOPE = F32(1 / 255).tobytes() + F32(0).tobytes()
CONTENTS: dict[str, tuple[Build, str | None]] = {
    # the numbers of an image
    "NaN": (image(spoilt(FLAT, np.nan)), "not finite"),
    "infinite": (image(spoilt(FLAT, -np.inf)), "not finite"),
    "NaN in a volume": (nifti(spoilt(SOLID, np.nan)), "not finite"),
    "beyond float32": (image(FLAT * 1e300), "too large"),
    "complex": (image(FLAT.astype(np.complex64)), "complex64"),
    "text": (image(FLAT.astype("U4")), "<U4"),
    "dates": (image(FLAT.astype("M8[s]")), "datetime64"),
    "objects": (objects, "Object arrays cannot be loaded"),
    "booleans": (image(FLAT.astype(bool)), None),
    "half precision": (image(FLAT.astype(np.float16)), None),
    "double precision": (image(FLAT.astype(np.float64)), None),
    "64 bits unsigned": (image(FLAT.astype(np.uint64)), None),
    "signed": (image(-FLAT.astype(np.int16)), None),
    "big endian": (image(FLAT.astype(">i2")), None),
    "one value everywhere": (image(np.full(FLAT.shape, 7, np.uint8)), None),
    "no axis": (image(np.float32(1) * np.ones(())), "0 axes"),
    "one axis": (image(np.ones(9, F32)), "differ in size"),
    "five axes": (image(np.ones((1, 2, 3, 4, 5), F32)), "5 axes"),
    "no pixel": (image(np.zeros((0, 36), F32)), "empty"),
    "an archive of nothing": (empty_archive, "holds no array"),
    "an archive of two": (two_arrays, "2 arrays"),
    # the modes of a picture
    "black and white": (picture_as("1"), None),
    "palette": (picture_as("P"), "channels"),
    "32 bits": (picture_as("I"), None),
    "floating": (picture_as("F"), None),
    "colour among grey": (picture_as("RGB"), "channels"),
    "grey with transparency": (picture_as("LA"), None),
    "label in colour": (picture_as("RGB", "labels"), None),
    "label of floats": (picture_as("F", "labels"), None),
    # the numbers of a label
    "label NaN": (label(spoilt(FLAT, np.nan)), "whole numbers"),
    "label of halves": (label(FLAT * 0.5), "whole numbers"),
    "label negative": (label(-FLAT.astype(np.int16)), "unknown classes: -1"),
    "label unknown": (label(FLAT * 7), "unknown classes: 7"),
    "label enormous": (label(FLAT.astype(np.float64) * 1e30), "whole numbers"),
    "label complex": (label(FLAT.astype(np.complex64)), "complex64"),
    "label of text": (label(FLAT.astype("U4")), "<U4"),
    "label of floats that were rounded": (label(FLAT * np.float64(1.0000001)), None),
    "label by a slope of 1/255": (nifti(SOLID * 255, role="labels", header={112: SLOPE}), None),
    "label black and white of two bytes": (label(FLAT.astype(np.uint16) * 65535), None),
    "label of booleans": (label(FLAT.astype(bool)), None),
    "label of whole floats": (label(FLAT.astype(F32)), None),
    "label empty everywhere": (label(FLAT * 0), None),
    "label black and white": (label(FLAT * 255), None),
    "label of another size": (label(FLAT[:-1]), "differ in size"),
    "label transposed": (label(FLAT.T.copy()), "differ in size"),
    "label with equal channels": (label(np.stack([FLAT, FLAT])), None),
    "label with other channels": (label(np.stack([FLAT, FLAT * 0])), "channels that differ"),
    "image and label swapped": (swapped, "unknown classes"),
    # where a volume lies
    "no spacing": (nifti(header={80: F32(0).tobytes() * 3}), None),
    "no spacing beside an affine": (
        nifti(affine=np.eye(4) * 3, header={80: F32(0).tobytes() * 3}),
        "two voxel sizes",
    ),
    "spacing NaN": (nifti(header={80: F32(np.nan).tobytes()}), "voxel size"),
    "spacing negative": (nifti(header={80: F32(-2).tobytes()}), "two voxel sizes"),
    "affine NaN": (nifti(header={280: F32(np.nan).tobytes()}), "affine|voxel size"),
    "affine of zeros": (nifti(header={280: F32(0).tobytes() * 12}), "two voxel sizes"),
    "turned by 20 degrees": (both(turned(20)), None),
    "turned by 90 degrees": (both(turned(90)), None),
    "upside down": (both(np.diag([1.0, 1, -1, 1])), None),
    "label mirrored": (nifti(affine=np.diag([-1.0, 1, 1, 1]), role="labels"), "lie differently"),
    "label turned": (nifti(affine=turned(90), role="labels"), "lie differently"),
    "label of another spacing": (nifti(affine=np.diag([1.0, 1, 3, 1]), role="labels"), "lie differently"),
    "label a hair apart": (nifti(affine=turned(0.2), role="labels"), None),
    "one slice": (nifti(SOLID[..., :1]), "differ in size"),
    "a volume in time": (nifti(np.stack([SOLID] * 3, -1)), "channels"),
    "five axes of a volume": (nifti(SOLID[..., None, None]), "5 axes"),
    "colour voxels": (rgb_nifti, "RGB|R', "),
    "slope NaN": (nifti(header={112: F32(np.nan).tobytes()}), None),
    "a type that is none": (nifti(header={70: np.int16(77).tobytes()}), "cannot be decoded"),
    "a shape beyond the file": (nifti(header={42: np.int16(3000).tobytes()}), "cannot be decoded"),
    "a shape below zero": (nifti(header={42: np.int16(-3).tobytes()}), "cannot be decoded|empty"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_odd_contents_work_or_are_refused_with_the_file_named(name: str, tmp_path: Path) -> None:
    build, refusal = CONTENTS[name]
    build(tmp_path)
    before = {str(f): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    if refusal is None:
        cohort = open_data(tmp_path)
        assert [case.id for case in cohort.cases] == ["case0", "case1", "case2"]
        assert all(torch.isfinite(cohort.read(case).image).all() for case in cohort.cases)
    else:
        with pytest.raises(DataError, match=refusal) as caught:
            open_data(tmp_path)
        assert "case1" in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 3
    assert {str(f): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def spaced_names(root: Path) -> Path:
    for name in ("größe 1", "日本 (2)", "a'b\"c", "..hidden", "-rf", "%20 #"):
        write_array(root / "images" / f"{name}.png", FLAT)
        write_array(root / "masks" / f"{name}.png", FLAT)
    return root


def composed_and_decomposed(root: Path) -> Path:
    # macOS writes ö as two characters, Linux as one.
    write_array(root / "images" / "go\u0308.png", FLAT)
    write_array(root / "masks" / "g\u00f6.png", FLAT)
    return root


def upper_case(root: Path) -> Path:
    write_array(root / "a.png", FLAT)
    (root / "Images").mkdir()
    (root / "Masks").mkdir()
    (root / "a.png").rename(root / "Images" / "A.PNG")
    write_array(root / "Masks" / "A.png", FLAT)
    return root


def clutter(root: Path) -> Path:
    pairs(root, ".png")
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "._case0.png"):
        (root / "images" / name).write_bytes(b"nothing")
    return root


def loop(root: Path) -> Path:
    (pairs(root, ".png") / "images" / "again").symlink_to(root, target_is_directory=True)
    (root / "masks2").symlink_to(root / "masks2")
    return root


def linked_files(root: Path) -> Path:
    pairs(root / "store", ".png")
    (root / "data" / "images").mkdir(parents=True)
    (root / "data" / "masks").mkdir()
    for index in range(3):
        for one, other in (("images", "images"), ("labels", "masks")):
            (root / "data" / other / f"{index}.png").symlink_to(root / "store" / one / f"case{index}.png")
    return root / "data"


def listed(**changes: object) -> Build:
    """Change the dataset.json of a Decathlon folder; None takes a key out."""

    def build(root: Path) -> Path:
        pair = {"image": "./imagesTr/brain0.nii.gz", "label": "./labelsTr/brain0.nii.gz"}
        content = {"labels": {"0": "background", "1": "part"}, "training": [pair]} | changes
        decathlon_folder(root)
        write_json(root / "dataset.json", {k: v for k, v in content.items() if v is not None})
        return root

    return build


def entry(image: object, label: object = "labelsTr/brain0.nii.gz") -> Build:
    return listed(training=[{"image": image, "label": label}])


def raw(**changes: object) -> Build:
    """Change the dataset.json of an nnU-Net raw folder."""

    def build(root: Path) -> Path:
        names = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "front": 1, "back": 2}}
        write_json(nnunet_folder(root) / "dataset.json", names | changes)
        return root

    return build


def json_text(text: bytes) -> Build:
    def build(root: Path) -> Path:
        (decathlon_folder(root) / "dataset.json").write_bytes(text)
        return root

    return build


def channels_apart(root: Path) -> Path:
    volume(nnunet_folder(root) / "imagesTr" / "ct1_0001.nii.gz", SOLID, (1.0, 2.0, 9.0))
    return root


def declared(text: str) -> Build:
    def build(root: Path) -> Path:
        (pairs(root, ".png") / "preparation.toml").write_text(text, encoding="utf-8")
        return root

    return build


def of_macos(root: Path) -> Path:
    pairs(root, ".png")
    (root / "__MACOSX" / "images").mkdir(parents=True)
    (root / "__MACOSX" / "images" / "._case0.png").write_bytes(b"nothing")
    return root


def dicom(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "IM0001"
    file.write_bytes(bytes(128) + b"DICM" + bytes(100))
    return file


def dicom_images(root: Path) -> Path:
    (root / "masks").mkdir()
    return dicom(root / "images").parents[1]


def archive(root: Path) -> Path:
    with zipfile.ZipFile(root / "data.zip", "w") as packed:
        packed.writestr("images/a.png", b"")
    return root / "data.zip"


def a_file(root: Path) -> Path:
    return write_array(root / "a.png", FLAT)


TWICE = [{"image": "imagesTr/brain0.nii.gz", "label": "labelsTr/brain0.nii.gz"}] * 2
FOLDERS: dict[str, tuple[Build, str | None]] = {
    "spaces, quotes and umlauts": (spaced_names, None),
    "an umlaut as two characters": (composed_and_decomposed, None),
    "upper case": (upper_case, None),
    "clutter of other programs": (clutter, None),
    "a loop of links": (loop, None),
    "links to files": (linked_files, None),
    "a folder of nothing": (lambda root: root, "no images were found"),
    "a file for a folder": (a_file, "give the folder that holds images/"),
    "only text": (lambda root: write_json(root / "images" / "a.json", 1).parents[1], "has no labels"),
    "dataset.json empty": (json_text(b""), "not JSON"),
    "dataset.json of bytes": (json_text(b"\xff\xfe\x00"), "not JSON"),
    "dataset.json with a mark": (json_text(b"\xef\xbb\xbf[]"), "not an object"),
    "dataset.json a number": (json_text(b"3"), "not an object"),
    "a case twice": (listed(training=TWICE), "twice"),
    "an entry that is a number": (listed(training=[3]), "no pair"),
    "an image that is a number": (entry(3), "no pair"),
    "an image that is nothing": (entry(None), "no pair"),
    "an image that is a folder": (entry("imagesTr"), "missing"),
    "an image elsewhere": (entry("../../etc/passwd"), "missing"),
    "a label that is nothing": (entry("imagesTr/brain0.nii.gz", None), "no pair"),
    "labels as a list": (listed(labels=["background", "part"]), None),
    "labels as an empty list": (listed(labels=[]), "names no labels"),
    "paths of Windows": (entry(".\\imagesTr\\brain0.nii.gz", "labelsTr\\brain0.nii.gz"), None),
    "what macOS adds to an archive": (of_macos, None),
    "its own folder of images": (lambda root: pairs(root, ".png") / "images", "no images were found"),
    "DICOM alone": (lambda root: dicom(root / "study").parents[1], "dcm2niix"),
    "DICOM among images": (dicom_images, "dcm2niix"),
    "an archive": (archive, "unpack it"),
    "labels from 1": (listed(labels={"1": "background", "2": "part"}), "need one background of value 0"),
    "labels of one name": (listed(labels={"0": "part", "1": "part"}), "two or more different names"),
    "no labels": (listed(labels=None), "names no labels"),
    "nnU-Net with a third channel": (raw(channel_names={"0": "a", "1": "b", "2": "c"}), "names 3"),
    "nnU-Net with channels as a number": (raw(channel_names=2), "channel_names"),
    "nnU-Net channels apart": (channels_apart, "lie differently"),
    "nnU-Net labels as text": (raw(labels={"background": 0, "front": "1", "back": 2}), "'front'"),
    "preparation is no TOML": (declared("scale ="), "not TOML"),
    "preparation of an unknown key": (declared("rescale = true"), "unknown key 'rescale'"),
    "preparation with text for a number": (declared('multiple = "8"'), "multiple"),
    "preparation with text for a list": (declared('std = "abc"'), "std"),
    "preparation with a number for a list": (declared("clip = 3"), "clip|wrong type"),
    "preparation with a number for a word": (declared("axes = 3"), "axes"),
    "preparation of NaN": (declared("std = [nan]"), "std"),
    "preparation with a mark": (declared("\ufeffscale = 'zscore'\r\n"), None),
    "preparation empty": (declared(""), None),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_odd_folders_work_or_are_refused_in_three_lines(name: str, tmp_path: Path) -> None:
    build, refusal = FOLDERS[name]
    root = build(tmp_path)
    before = {str(f): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    if refusal is None:
        assert open_data(root).cases
    else:
        with pytest.raises(DataError, match=refusal) as caught:
            open_data(root)
        assert caught.value.where
        assert len(str(caught.value).splitlines()) <= 3
    assert {str(f): f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
