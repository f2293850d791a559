"""Data folders of every format, and each way in which one cannot be used."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from surgeon.data import Batches, Preparation, open_data
from surgeon.errors import DataError
from tests.core.data.builders import (
    ball,
    decathlon_folder,
    disc,
    nnunet_folder,
    picture,
    picture_folder,
    volume,
    write_json,
)


def tree_of(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def test_a_folder_of_images_and_masks_is_a_cohort_in_which_each_image_is_a_subject(tmp_path: Path) -> None:
    cohort = open_data(picture_folder(tmp_path))
    assert cohort.format == "images and masks"
    assert cohort.subjects == ("case0", "case1", "case2", "case3")
    assert cohort.classes == ("background", "foreground")
    assert (cohort.spatial_dims, cohort.channels) == (2, 1)


def test_black_and_white_masks_are_background_and_foreground(tmp_path: Path) -> None:
    cohort = open_data(picture_folder(tmp_path), preparation=Preparation())
    sample = cohort.read(cohort.cases[0])
    assert sample.label is not None
    assert torch.equal(sample.label, torch.from_numpy(disc()).long())


def test_nothing_is_written_into_the_data_folder(tmp_path: Path) -> None:
    before = tree_of(picture_folder(tmp_path))
    open_data(tmp_path)
    assert tree_of(tmp_path) == before


def test_folders_for_subjects_above_images_are_the_subjects(tmp_path: Path) -> None:
    for name in ("anna", "bob"):
        for index in range(2):
            picture(tmp_path / name / "images" / f"{index}.png", disc())
            picture(tmp_path / name / "masks" / f"{index}.png", disc())
    cohort = open_data(tmp_path)
    assert [(case.id, case.subject) for case in cohort.cases] == [
        ("anna/0", "anna"),
        ("anna/1", "anna"),
        ("bob/0", "bob"),
        ("bob/1", "bob"),
    ]


def test_folders_for_subjects_below_images_are_the_subjects(tmp_path: Path) -> None:
    for name in ("anna", "bob"):
        picture(tmp_path / "images" / name / "0.png", disc())
        picture(tmp_path / "labels" / name / "0.png", disc())
    assert open_data(tmp_path).subjects == ("anna", "bob")


def test_masks_may_be_named_with_an_ending_and_names_may_have_spaces_and_umlauts(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "größe 1.png", disc())
    picture(tmp_path / "masks" / "größe 1_mask.png", disc())
    assert open_data(tmp_path).cases[0].id == "größe 1"


def test_a_link_that_leads_back_into_the_folder_does_no_harm(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    (tmp_path / "images" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert len(open_data(tmp_path).cases) == 4


def test_a_pattern_groups_cases_into_subjects(tmp_path: Path) -> None:
    cohort = open_data(picture_folder(tmp_path), subjects=r"case(\d)")
    assert cohort.subjects == ("0", "1", "2", "3")


def test_a_table_groups_cases_into_subjects(tmp_path: Path) -> None:
    table = tmp_path / "subjects.csv"
    table.write_text("case,subject\ncase0,a\ncase1,a\ncase2,b\ncase3,b\n")
    assert open_data(picture_folder(tmp_path), subjects=table).subjects == ("a", "b")


def test_nnunet_raw_gives_channels_classes_and_axes_as_simpleitk_has_them(tmp_path: Path) -> None:
    cohort = open_data(nnunet_folder(tmp_path))
    assert cohort.format == "nnU-Net raw"
    assert cohort.classes == ("background", "front", "back")
    assert (cohort.spatial_dims, cohort.channels) == (3, 2)
    sample = cohort.read(cohort.cases[0])
    assert sample.region == ((0, 14), (0, 12), (0, 10))
    assert sample.spacing == (3.0, 2.0, 1.0)


def test_two_phases_of_an_acdc_patient_are_one_subject(tmp_path: Path) -> None:
    for phase in ("patient001_frame01", "patient001_frame12", "patient002_frame01"):
        volume(tmp_path / "imagesTr" / f"{phase}_0000.nii.gz", ball())
        volume(tmp_path / "labelsTr" / f"{phase}.nii.gz", ball())
    write_json(
        tmp_path / "dataset.json", {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "heart": 1}}
    )
    assert open_data(tmp_path).subjects == ("patient001", "patient002")


def test_a_decathlon_list_is_read_with_axes_as_nibabel_has_them(tmp_path: Path) -> None:
    cohort = open_data(decathlon_folder(tmp_path))
    assert cohort.format == "Decathlon"
    assert cohort.classes == ("background", "part")
    assert cohort.read(cohort.cases[0]).region == ((0, 10), (0, 12), (0, 14))


def test_a_network_for_images_gets_the_slices_of_volumes(tmp_path: Path) -> None:
    cohort = open_data(decathlon_folder(tmp_path), spatial_dims=2)
    assert len(cohort.cases) == 3 * 14
    assert cohort.subjects == ("brain0", "brain1", "brain2")
    sample = cohort.read(cohort.cases[7])
    assert sample.region == ((0, 10), (0, 12))
    assert sample.label is not None
    assert torch.equal(sample.label[:10, :12], torch.from_numpy(ball()[:, :, 7]).long())


def test_a_volume_that_changed_is_read_again_for_its_slices(tmp_path: Path) -> None:
    cohort = open_data(
        decathlon_folder(tmp_path), spatial_dims=2, preparation=Preparation(scale="none"), memory=0
    )
    case = cohort.cases[7]
    assert cohort.read(case).image.max() == 7
    volume(case.images[0], (ball() * 5).astype(np.float32))
    os.utime(case.images[0], ns=(1, 1))
    assert cohort.read(case).image.max() == 5
    assert cohort.read(case).between == 3.0


def test_slices_are_cut_along_the_axis_that_is_asked_for(tmp_path: Path) -> None:
    cohort = open_data(decathlon_folder(tmp_path), spatial_dims=2, slice_axis=0)
    assert len(cohort.cases) == 3 * 10


def test_a_preparation_beside_the_data_is_used_and_one_that_is_given_wins(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    (tmp_path / "preparation.toml").write_text('scale = "minmax"\nmultiple = 8\n')
    assert open_data(tmp_path).preparation == Preparation(scale="minmax", multiple=8)
    assert open_data(tmp_path, preparation=Preparation(multiple=4)).preparation.multiple == 4


def test_samples_are_kept_in_memory_as_they_were_read(tmp_path: Path) -> None:
    kept, fresh = open_data(picture_folder(tmp_path)), open_data(tmp_path, memory=0)
    for case in kept.cases:
        one, other = kept.read(case), fresh.read(case)
        assert torch.equal(one.image, other.image)
        assert one.label is not None
        assert other.label is not None
        assert torch.equal(one.label, other.label)
        assert one.label.dtype == torch.int64


def test_instance_masks_are_refused_with_the_option_that_makes_them_foreground(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", disc())
    picture(tmp_path / "labels" / "a.png", disc() * 7)
    with pytest.raises(
        DataError, match=r"unknown classes: 7 \(known: 0 background, 1 foreground\)"
    ) as caught:
        open_data(tmp_path)
    assert "--binarise" in caught.value.fix
    cohort = open_data(tmp_path, binarise=True)
    label = cohort.read(cohort.cases[0]).label
    assert label is not None
    assert label.unique().tolist() == [0, 1]


def empty(root: Path) -> Path:
    return root


def without_masks(root: Path) -> Path:
    picture(root / "images" / "a.png", disc())
    return root


def one_mask_missing(root: Path) -> Path:
    (picture_folder(root) / "masks" / "case2.png").unlink()
    return root


def no_images(root: Path) -> Path:
    (root / "images").mkdir()
    (root / "masks").mkdir()
    return root


def one_name_twice(root: Path) -> Path:
    picture_folder(root)
    picture(root / "images" / "case0.tif", disc())
    return root


def broken_picture(root: Path) -> Path:
    (picture_folder(root) / "images" / "case1.png").write_bytes(b"this is no picture")
    return root


def truncated_picture(root: Path) -> Path:
    file = picture_folder(root, size=(200, 200)) / "images" / "case1.png"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return root


def other_size(root: Path) -> Path:
    picture(picture_folder(root) / "masks" / "case1.png", disc((20, 24)))
    return root


def pages(root: Path) -> Path:
    from PIL import Image

    frames = [Image.fromarray(disc()) for _ in range(3)]
    picture_folder(root)
    (root / "images" / "case0.png").unlink()
    frames[0].save(root / "images" / "case0.tif", save_all=True, append_images=frames[1:])
    return root


def coloured_mask(root: Path) -> Path:
    colour = np.stack([disc(), disc() * 0, disc()], -1) * 255
    picture(picture_folder(root) / "masks" / "case1.png", colour)
    return root


def halves_in_label(root: Path) -> Path:
    volume(root / "images" / "a.nii.gz", ball())
    volume(root / "labels" / "a.nii.gz", (ball() * 0.5).astype(np.float32))
    return root


def nan_voxels(root: Path) -> Path:
    array = ball().astype(np.float32)
    array[0, 0, 0] = np.nan
    volume(root / "images" / "a.nii.gz", array)
    volume(root / "labels" / "a.nii.gz", ball())
    return root


def volume_of_one_axis(root: Path) -> Path:
    volume(root / "images" / "a.nii.gz", disc((24,)))
    volume(root / "labels" / "a.nii.gz", disc((24,)))
    return root


def channels_of_two_sizes(root: Path) -> Path:
    volume(nnunet_folder(root) / "imagesTr" / "ct0_0001.nii.gz", ball((9, 12, 14)))
    return root


def bad_json(root: Path) -> Path:
    (picture_folder(root) / "dataset.json").write_text("{")
    return root


def json_list(root: Path) -> Path:
    (picture_folder(root) / "dataset.json").write_text("[]")
    return root


def nnunet_without_labels(root: Path) -> Path:
    for file in (nnunet_folder(root) / "labelsTr").iterdir():
        file.unlink()
    return root


def nnunet_without_images(root: Path) -> Path:
    for file in (nnunet_folder(root) / "imagesTr").iterdir():
        file.unlink()
    return root


def nnunet_channel_missing(root: Path) -> Path:
    (nnunet_folder(root) / "imagesTr" / "ct1_0001.nii.gz").unlink()
    return root


def nnunet_label_missing(root: Path) -> Path:
    (nnunet_folder(root) / "labelsTr" / "ct1.nii.gz").unlink()
    return root


def nnunet_gap(root: Path) -> Path:
    content = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "x": 2}}
    write_json(nnunet_folder(root) / "dataset.json", content)
    return root


def nnunet_nameless(root: Path) -> Path:
    write_json(nnunet_folder(root) / "dataset.json", {"channel_names": {"0": "a", "1": "b"}})
    return root


def nnunet_region_value(root: Path) -> Path:
    content = {"channel_names": {"0": "a", "1": "b"}, "labels": {"background": 0, "whole": [1, 2]}}
    write_json(nnunet_folder(root) / "dataset.json", content)
    return root


def decathlon_without_labels(root: Path) -> Path:
    write_json(
        decathlon_folder(root) / "dataset.json", {"labels": {"0": "b", "1": "f"}, "training": ["a.nii.gz"]}
    )
    return root


def decathlon_file_missing(root: Path) -> Path:
    (decathlon_folder(root) / "imagesTr" / "brain1.nii.gz").unlink()
    return root


def gzip_cut_short(root: Path) -> Path:
    file = decathlon_folder(root) / "imagesTr" / "brain1.nii.gz"
    file.write_bytes(file.read_bytes()[:100])
    return root


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (empty, "no images were found in the data folder"),
        (without_masks, "the data folder has no labels"),
        (one_mask_missing, "an image has no label"),
        (no_images, "the folder of images is empty"),
        (one_name_twice, "two images are called 'case0'"),
        (broken_picture, "the file cannot be decoded"),
        (truncated_picture, "the file cannot be decoded"),
        (other_size, "image and label differ in size: 24x20 against 20x24"),
        (pages, "image and label differ in size: 3x24x20 against 24x20"),
        (coloured_mask, "the label has 3 channels that differ"),
        (halves_in_label, "values that are not whole numbers"),
        (nan_voxels, "voxels that are not finite"),
        (volume_of_one_axis, "a volume of 1 axes, and 3 or 4 are read"),
        (channels_of_two_sizes, "the channels of a case differ in size"),
        (bad_json, "dataset.json is not JSON"),
        (json_list, "dataset.json is not an object"),
        (nnunet_without_labels, "the data folder has no labels"),
        (nnunet_without_images, "the data folder has no images"),
        (nnunet_channel_missing, r"case 'ct1' has the channels \[0\], dataset.json names 2"),
        (nnunet_label_missing, "an image has no label"),
        (nnunet_gap, r"unknown classes: 1 \(known: 0 background, 2 x\)"),
        (nnunet_nameless, "dataset.json names no labels"),
        (nnunet_region_value, "regions_class_order has to name one value for each of the 1 regions"),
        (decathlon_without_labels, "an entry of training has no pair"),
        (decathlon_file_missing, "a file that dataset.json lists is missing"),
        (gzip_cut_short, "the file cannot be decoded"),
    ],
)
def test_data_that_cannot_be_used_get_one_clear_error(build, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=text) as caught:
        open_data(build(tmp_path))
    assert caught.value.where
    assert len(str(caught.value).splitlines()) <= 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"format": "dicom"}, "unknown format 'dicom'"),
        ({"format": "nnunet"}, "no dataset.json in the data folder"),
        ({"preparation": "none.toml"}, "no such preparation file"),
        ({"subjects": "("}, "no regular expression"),
        ({"subjects": "patient"}, "fits nowhere in the case 'case0'"),
        ({"subjects": "none.csv"}, "no such table of subjects"),
        ({"classes": ("background",)}, "not two or more different names"),
        ({"classes": ("a", "b", "c"), "binarise": True}, "binarised labels have 2 classes, and 3 are named"),
        ({"spatial_dims": 3}, "the network takes images of 3 axes, the data have 2"),
        ({"preparation": Preparation(channels=2)}, "the image has 1 channels, the preparation asks for 2"),
        ({"preparation": Preparation(mean=(1, 2))}, "2 values of mean, the image 1 channels"),
        ({"preparation": Preparation(resize_fit=(8, 8, 8))}, "resize_fit has 3 sides, the image 2"),
    ],
)
def test_an_option_that_does_not_suit_the_data_gets_one_clear_error(
    options, text: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=text):
        open_data(picture_folder(tmp_path), **options)


def test_a_table_of_subjects_needs_two_columns_and_every_case(tmp_path: Path) -> None:
    picture_folder(tmp_path)
    table = tmp_path / "subjects.csv"
    table.write_text("case,age\ncase0,3\n")
    with pytest.raises(DataError, match="the table of subjects lacks a column"):
        open_data(tmp_path, subjects=str(table))
    table.write_text("case,subject\ncase0,a\n")
    with pytest.raises(DataError, match="the table of subjects has no case 'case1'"):
        open_data(tmp_path, subjects=str(table))


def test_a_slice_axis_is_one_of_three(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="slice axis 5 is not 0, 1 or 2"):
        open_data(decathlon_folder(tmp_path), spatial_dims=2, slice_axis=5)


def test_an_empty_decathlon_list_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "dataset.json", {"labels": {"0": "b", "1": "f"}, "training": []})
    with pytest.raises(DataError, match=r"dataset.json lists no case to train on"):
        open_data(tmp_path, format="decathlon")
    write_json(tmp_path / "dataset.json", {"labels": {"0": "b", "1": "f"}})
    with pytest.raises(DataError, match=r"dataset.json has no list called training"):
        open_data(tmp_path, format="decathlon")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data folder") as caught:
        open_data(tmp_path / "nowhere")
    assert caught.value.where == str(tmp_path / "nowhere")


def test_tables_of_office_programs_are_read_and_those_that_contradict_themselves_refused(
    tmp_path: Path,
) -> None:
    root, table = picture_folder(tmp_path / "data"), tmp_path / "table.csv"
    rows = ["case;patient", *(f"case{i};p{i // 2}" for i in range(4)), "case0;p0"]
    table.write_text("\r\n".join(rows), encoding="utf-8-sig")
    assert open_data(root, subjects=table).subjects == ("p0", "p1")
    table.write_text("\n".join([*rows, "case0;p1"]))
    with pytest.raises(DataError, match="says two things of the case 'case0'"):
        open_data(root, subjects=table)
    table.write_text("\n".join(rows), encoding="utf-16")
    with pytest.raises(DataError, match="the table of subjects is no text in UTF-8"):
        open_data(root, subjects=table)


@pytest.mark.parametrize(
    ("name", "head", "row"),
    [
        ("t.tsv", "case\tpatient_id", "case{i}\tp{p}"),
        ("t.csv", '"Case", "Subject"', '"case{i}", "p{p}"'),
        ("t.csv", "image,PatientID", "images/case{i}.png,p{p}"),
    ],
    ids=["tabs", "quotes and spaces", "paths"],
)
def test_a_table_names_cases_as_its_author_does(name: str, head: str, row: str, tmp_path: Path) -> None:
    root, table = picture_folder(tmp_path / "data"), tmp_path / name
    table.write_text("\n".join([head, *(row.format(i=i, p=i // 2) for i in range(4))]))
    assert open_data(root, subjects=str(table)).subjects == ("p0", "p1")


def test_nnunets_natural_images_hold_their_channels_in_one_file(tmp_path: Path) -> None:
    for index in range(2):
        colour = np.stack([disc() * 90 + channel for channel in range(3)], -1).astype(np.uint8)
        picture(tmp_path / "imagesTr" / f"road{index}_0000.png", colour)
        picture(tmp_path / "labelsTr" / f"road{index}.png", disc())
    content = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "road": 1}}
    write_json(tmp_path / "dataset.json", content)
    cohort = open_data(tmp_path, preparation=Preparation(scale="none"))
    assert (cohort.format, cohort.channels) == ("nnU-Net raw", 3)
    assert cohort.read(cohort.cases[0]).image[:, 0, 0].tolist() == [0.0, 1.0, 2.0]
    picture(tmp_path / "imagesTr" / "road0_0000.png", disc())
    with pytest.raises(DataError, match=r"'road0' has the channels \[0\], dataset.json names 3") as caught:
        open_data(tmp_path)
    assert "a file for each channel" in caught.value.fix


def test_a_task_of_nnunet_v1_lists_its_images_without_their_channel(tmp_path: Path) -> None:
    nnunet_folder(tmp_path)
    pair = {"image": "./imagesTr/ct0.nii.gz", "label": "./labelsTr/ct0.nii.gz"}
    labels = {"0": "background", "1": "front", "2": "back"}
    content = {"modality": {"0": "CT", "1": "PET"}, "labels": labels, "training": [pair]}
    write_json(tmp_path / "dataset.json", content)
    cohort = open_data(tmp_path)
    assert (cohort.format, cohort.channels, len(cohort.cases)) == ("nnU-Net raw", 2, 3)
    assert cohort.classes == ("background", "front", "back")


def test_an_image_in_nifti_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    for kind, scale in (("images", 90), ("labels", 1)):
        volume(tmp_path / kind / "a.nii.gz", disc() * scale, (1.0, 2.0, 3.0))
    cohort = open_data(tmp_path, preparation=Preparation(scale="none"), spatial_dims=2)
    sample = cohort.read(cohort.cases[0])
    assert torch.equal(sample.image, torch.from_numpy(disc() * 90.0)[None].float())
    assert sample.spacing == (1.0, 2.0)


def test_an_image_of_itk_is_a_volume_of_one_slice(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    for kind, scale in (("images", 90), ("labels", 1)):
        (tmp_path / kind).mkdir()
        image = itk.GetImageFromArray(disc() * scale)
        image.SetSpacing((2.0, 1.0))
        itk.WriteImage(image, str(tmp_path / kind / "a.mha"))
    cohort = open_data(tmp_path, preparation=Preparation(scale="none"), spatial_dims=2)
    sample = cohort.read(cohort.cases[0])
    # ITK has columns first, as NIfTI has.
    assert torch.equal(sample.image, torch.from_numpy(disc().T * 90.0)[None].float())
    assert sample.spacing == (2.0, 1.0)


def test_classes_that_no_label_holds_are_named_and_data_without_any_are_not_trained_on(
    tmp_path: Path,
) -> None:
    names = ("background", "front", "back")
    one = open_data(picture_folder(tmp_path / "one"), binarise=True)
    assert (one.absent, one.remarks) == ((), ())
    root = tmp_path / "none"
    for index in range(2):
        picture(root / "images" / f"{index}.png", disc())
        picture(root / "masks" / f"{index}.png", disc() * 2)
    (remark,) = open_data(root, classes=names).remarks
    assert remark.startswith("no label holds the class front:")
    assert open_data(root, classes=names, check=False).absent == ()
    for index in range(2):
        picture(root / "masks" / f"{index}.png", disc() * 0)
    with pytest.raises(DataError, match="the labels hold nothing but background") as caught:
        Batches(open_data(root, classes=names), None, 1)
    assert caught.value.where == str(root)


def test_a_subject_that_is_not_in_the_cohort_cannot_be_selected(tmp_path: Path) -> None:
    cohort = open_data(picture_folder(tmp_path))
    assert [case.id for case in cohort.select(["case2"]).cases] == ["case2"]
    with pytest.raises(DataError, match=re.escape("no subject 'nobody' in the data")):
        cohort.select(["nobody"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_cannot_be_decoded(tmp_path: Path) -> None:
    (picture_folder(tmp_path) / "images" / "case1.png").chmod(0)
    with pytest.raises(DataError, match="cannot be decoded"):
        open_data(tmp_path)


def test_prepared_samples_are_found_again_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Preparation(scale="none", spacing=(0.5, 1.0, 1.5), crop_nonzero=True)
    root = decathlon_folder(tmp_path / "data")
    fresh = open_data(root, preparation=how, memory=0, cache=tmp_path / "cache")
    expected = [fresh.read(case) for case in fresh.cases]
    # The three cases are equal to the byte: what is kept goes by content, and is found wherever it lies.
    assert len(list((tmp_path / "cache").iterdir())) == 1
    root = shutil.move(root, tmp_path / "moved")

    from surgeon.data import cohort

    def forbidden(*arguments):
        raise AssertionError("prepared again")

    with monkeypatch.context() as patch:
        patch.setattr(cohort, "decode_case", forbidden)
        again = open_data(root, preparation=how, memory=0, cache=tmp_path / "cache")
        for case, sample in zip(again.cases, expected, strict=True):
            kept = again.read(case)
            assert torch.equal(kept.image, sample.image)
            assert kept.source is not None
            assert sample.source is not None
            assert (kept.region, kept.source.box) == (sample.region, sample.source.box)
        with pytest.raises(AssertionError, match="prepared again"):
            open_data(root, preparation=Preparation(scale="none"), cache=tmp_path / "cache")
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(again.read(again.cases[0]).image, expected[0].image)


def test_a_kept_sample_is_not_taken_for_a_file_of_the_same_size_and_time(tmp_path: Path) -> None:
    root, how = picture_folder(tmp_path / "data"), Preparation(scale="none")
    first = open_data(root, preparation=how, memory=0, cache=tmp_path / "cache")
    file = first.cases[0].images[0]
    before, stat = first.read(first.cases[0]).image, file.stat()
    array = np.asarray(Image.open(file))
    picture(file, array[::-1].copy())
    file.write_bytes(file.read_bytes().ljust(stat.st_size, b"\0"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = open_data(root, preparation=how, memory=0, cache=tmp_path / "cache")
    assert torch.equal(second.read(second.cases[0]).image, before.flip(1))


def test_a_cache_in_the_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the cache would be written into the data folder"):
        open_data(decathlon_folder(tmp_path), cache=tmp_path / "cache")
