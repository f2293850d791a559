"""Folders as public data sets have them: which image goes with which label, subject and split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch

from surgeon.data import Splits, open_data, split_subjects
from surgeon.errors import DataError
from tests.core.data.builders import ball, disc, nnunet_folder, picture, volume


def write(root: Path, *names: str) -> Path:
    """Write an image or a label of each name."""
    for name in names:
        if name.endswith(".nii.gz"):
            volume(root / name, ball())
        else:
            picture(root / name, disc())
    return root


# The first two of each are an image and its label.
LAYOUTS = {
    "an ending": ("images/a.png", "masks/a_segmentation.png", "images/b.png", "masks/b_segmentation.png"),
    "Carvana": ("train/x_01.png", "train_masks/x_01_mask.png", "test/y_01.png"),
    "ISIC": (
        "ISIC2018_Task1-2_Training_Input/ISIC_0000001.png",
        "ISIC2018_Task1-2_Training_GroundTruth/ISIC_0000001_segmentation.png",
    ),
    "ISIC as it comes": (
        "ISIC2018_Task1-2_Training_Input/ISIC_0000001.png",
        "ISIC2018_Task1_Training_GroundTruth/ISIC_0000001_segmentation.png",
        "ISIC2018_Task1_Validation_GroundTruth/ISIC_0000002_segmentation.png",
    ),
    "DRIVE": (
        "training/images/21_training.tif",
        "training/1st_manual/21_manual1.gif",
        "training/images/22_training.tif",
        "training/1st_manual/22_manual1.gif",
        "training/mask/21_training_mask.gif",
        "training/mask/22_training_mask.gif",
        "test/images/01_test.tif",
        "test/mask/01_test_mask.gif",
    ),
    "STARE": (
        "stare-images/im0001.ppm",
        "labels-ah/im0001.ah.ppm",
        "stare-images/im0002.ppm",
        "labels-ah/im0002.ah.ppm",
    ),
    "Pascal VOC": ("JPEGImages/2007_01.jpg", "SegmentationClass/2007_01.png"),
    "DeepGlobe": ("1_sat.jpg", "1_mask.png", "2_mask.png", "2_sat.jpg"),
    "LiTS": ("volume-0.nii.gz", "segmentation-0.nii.gz", "volume-1.nii.gz", "segmentation-1.nii.gz"),
    "KiTS": (
        "case_0/imaging.nii.gz",
        "case_0/segmentation.nii.gz",
        "case_1/imaging.nii.gz",
        "case_1/segmentation.nii.gz",
    ),
    "ACDC": (
        "patient001/patient001_frame01.nii.gz",
        "patient001/patient001_frame01_gt.nii.gz",
        "patient001/patient001_4d.nii.gz",
    ),
    "CVC-ClinicDB": ("Original/1.png", "Ground Truth/1.png"),
    "both are numbered": ("img/img001.png", "gt/gt001.png", "img/img002.png", "gt/gt002.png"),
    "beside it": ("T_CS/T_CS_1.png", "T_CS/T_CS_1_mask.png", "T_DU/T_DU_1_mask.png", "T_DU/T_DU_1.png"),
    "beside it, in front": ("image_07.png", "mask_07.png", "image_08.png", "mask_08.png"),
    "volumes of one name": ("p1/image.nii.gz", "p1/label.nii.gz", "p2/image.nii.gz", "p2/label.nii.gz"),
    "raw images beside": ("images/a.png", "masks/a.png", "images_raw/a.png", "images_raw/b.png"),
    "originals beside": ("images/a.png", "masks/a.png", "Original/a.png"),
    "below a folder called input": ("input/images/a.png", "input/masks/a.png"),
    "boxes beside": ("images/a.png", "masks/a.png", "labels/readme.csv.gz"),
}


@pytest.mark.parametrize("names", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_image_and_its_label_are_paired_by_what_their_names_have_in_common(
    names: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, *(name for name in names if not name.endswith(".csv.gz")))
    (tmp_path / "labels").mkdir(exist_ok=True)
    cases = {case.images[0]: case.labels for case in open_data(tmp_path).cases}
    assert cases[tmp_path / names[0]] == (tmp_path / names[1],)
    for image, (label,) in cases.items():
        digits = [character for character in image.name if character.isdigit()]
        assert [character for character in label.name if character.isdigit()][: len(digits)] == digits


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("a (1).png", ("a (1)_mask.png", "a (1)_mask_1.png", "a (1)_mask_2.png")),
        ("00ae/images/00ae.png", ("00ae/masks/07a9.png", "00ae/masks/1815.png")),
    ],
    ids=["BUSI", "Data Science Bowl"],
)
def test_an_image_may_have_a_mask_for_each_object(
    image: str, labels: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path, image)
    for shift, name in enumerate(labels):
        picture(tmp_path / name, disc(radius=2, shift=4 * shift) * 255)
    cohort = open_data(tmp_path)
    case = cohort.cases[0]
    assert case.labels == tuple(tmp_path / name for name in labels)
    expected = sum(disc(radius=2, shift=4 * shift) for shift in range(len(labels)))
    assert torch.equal(cohort.read(case).label[:24, :20], torch.from_numpy(expected.astype("int64")))


def test_slices_beside_their_masks_are_those_of_the_folders_subject(tmp_path: Path) -> None:
    write(tmp_path, *LAYOUTS["beside it"])
    assert open_data(tmp_path).subjects == ("T_CS", "T_DU")


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("{split}/images", "{split}/masks"),
        ("images/{split}", "masks/{split}"),
        ("{split}_images", "{split}_masks"),
        ("{split}", "{split}_mask"),
        ("{split}", "{split}"),
    ],
)
def test_folders_called_like_the_three_splits_are_the_splits_and_no_subjects(
    images: str, masks: str, tmp_path: Path
) -> None:
    for place, split in enumerate(("train", "val", "test")):
        for index in range(2 + (split == "train")):
            name = f"{place}{index}"
            write(tmp_path, f"{images.format(split=split)}/{name}.png")
            write(tmp_path, f"{masks.format(split=split)}/{name}_mask.png")
    splits = split_subjects(open_data(tmp_path), seed=0)
    assert [len(subjects) for subjects in splits.to_dict().values()] == [3, 2, 2]
    assert all(subject.endswith(("00", "01", "02")) for subject in splits.train)


def test_subjects_inside_the_folder_of_a_split_are_told_apart(tmp_path: Path) -> None:
    for split, subject in (("train", "anna"), ("validation", "bob"), ("test", "carl")):
        for index in range(2):
            write(tmp_path, f"{split}/{subject}/{index}.png", f"{split}/{subject}/{index}_mask.png")
    assert split_subjects(open_data(tmp_path), seed=0) == Splits(("anna",), ("bob",), ("carl",))


def test_subjects_with_the_word_test_in_their_names_are_subjects(tmp_path: Path) -> None:
    for subject in ("test_anna", "test_bob"):
        write(tmp_path, f"{subject}/images/0.png", f"{subject}/masks/0.png")
        write(tmp_path, f"{subject}/images/1.png", f"{subject}/masks/1.png")
    assert open_data(tmp_path).subjects == ("test_anna", "test_bob")


@pytest.mark.parametrize("held", ["test", "val"])
def test_a_split_that_is_missing_is_dealt_out_of_training(held: str, tmp_path: Path) -> None:
    for index in range(8):
        write(tmp_path, f"train/{index}.png", f"train/{index}_mask.png")
    for index in range(3):
        write(tmp_path, f"{held}/{index}.png", f"{held}/{index}_mask.png")
    cohort = open_data(tmp_path)
    splits = split_subjects(cohort, seed=0)
    kept, dealt = (splits.test, splits.validation) if held == "test" else (splits.validation, splits.test)
    assert kept == tuple(f"{held}/{index}" for index in range(3))
    assert (len(dealt), len(splits.train)) == (2, 6)
    assert set(dealt) | set(splits.train) == {f"train/{index}" for index in range(8)}
    assert split_subjects(cohort, seed=0) == splits
    assert len({split_subjects(cohort, seed=seed) for seed in range(6)}) > 1


def test_images_to_predict_need_no_masks_and_training_alone_is_dealt_out(tmp_path: Path) -> None:
    for index in range(4):
        write(tmp_path, f"training/images/{index}.png", f"training/masks/{index}.png")
        write(tmp_path, f"test/images/{index}.png")
    cohort = open_data(tmp_path)
    assert cohort.splits is None
    assert cohort.subjects == tuple(f"training/{index}" for index in range(4))


@pytest.mark.parametrize(
    ("names", "what", "fix"),
    [
        (
            ("images/1.png", "labels/1.png", "mask/1.png"),
            "several folders may hold the labels of images: labels, mask",
            "leave one of them there",
        ),
        (("a.png", "a_mask.png", "b_mask.png"), "a label has no image", "call it as its image"),
        (("x/images/1.png", "x/images/2.png", "x/masks/a.png"), "an image has no label", "called as"),
        (("images/1.png", "masks/a.png", "masks/b.png"), "an image has no label", "called as"),
        (
            ("s_flair.nii.gz", "s_t1.nii.gz", "s_seg.nii.gz"),
            "a label has no image beside it",
            "a list of channels",
        ),
        (
            ("1.png", "image_1.png", "mask_1.png"),
            "a label may be that of several images",
            "one label an image",
        ),
        (("1.png", "label_1.png", "mask_1.png"), "an image has several labels", "one label an image"),
        (("1.png", "1_mask.png", "2.png"), "an image has no label", "2_mask.png"),
        (("images/1.png", "images/image_1.png", "masks/mask_1.png"), "an image has no label", "called as"),
        (("train/images/1.png", "train/masks/1.png", "val/images/1.png"), "has no labels", "beside images"),
    ],
)
def test_what_may_be_paired_in_two_ways_or_in_none_gets_one_clear_error(
    names: tuple[str, ...], what: str, fix: str, tmp_path: Path
) -> None:
    write(tmp_path, *names)
    with pytest.raises(DataError, match=r"label") as caught:
        open_data(tmp_path)
    assert what in str(caught.value)
    assert fix in str(caught.value)


def test_a_folder_of_nnunet_without_its_json_is_asked_for_it(tmp_path: Path) -> None:
    write(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(DataError, match="no images were found") as caught:
        open_data(tmp_path)
    assert "write its dataset.json" in caught.value.fix


def test_a_few_folders_of_many_images_are_said_to_be_the_subjects(tmp_path: Path) -> None:
    for kind in ("benign", "malignant", "normal"):
        for index in range(40):
            write(tmp_path, f"{kind}/{index}.png", f"{kind}/{index}_mask.png")
    (remark,) = open_data(tmp_path).remarks
    assert "120 images lie in 3 folders" in remark
    apart = open_data(tmp_path, subjects="(.+)")
    assert (len(apart.subjects), apart.remarks) == (120, ())


def test_the_only_folder_of_images_is_no_subject(tmp_path: Path) -> None:
    write(tmp_path, *LAYOUTS["STARE"])
    assert open_data(tmp_path).subjects == ("im0001", "im0002")


@pytest.mark.parametrize("dates", [("A", "B"), ("im1", "im2"), ("Before", "After")])
def test_two_dates_of_a_place_are_the_channels_of_one_image(dates: tuple[str, str], tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        for name in (f"{split}_1.png", f"{split}_2.png"):
            write(tmp_path / split, f"{dates[0]}/{name}", f"{dates[1]}/{name}", f"label/{name}")
    cohort = open_data(tmp_path, binarise=True)
    assert cohort.channels == 2
    assert cohort.cases[0].images == tuple(tmp_path / "test" / date / "test_1.png" for date in dates)
    assert cohort.cases[0].labels == (tmp_path / "test" / "label" / "test_1.png",)
    assert cohort.splits == {s: (f"{k}/{k}_1", f"{k}/{k}_2") for s, k in SPLIT_NAMES.items()}


SPLIT_NAMES = {"train": "train", "validation": "val", "test": "test"}


@pytest.mark.parametrize("missing", ["B", "label"])
def test_a_date_or_a_label_that_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    write(tmp_path, "A/x.png", "B/x.png", "label/x.png", "A/y.png", "B/y.png", "label/y.png")
    (tmp_path / missing / "x.png").unlink()
    with pytest.raises(DataError, match=f"an image has no file in {missing}(.|\n)*x.png"):
        open_data(tmp_path)


def test_a_folder_with_a_datalist_is_read_by_it(tmp_path: Path) -> None:
    write(tmp_path, "a/x.png", "b/x.png", "c/x.png")
    entry = {"image": ["a/x.png", "b/x.png"], "label": "c/x.png"}
    (tmp_path / "datalist.json").write_text(json.dumps({"training": [entry]}))
    cohort = open_data(tmp_path, binarise=True)
    assert (cohort.format, cohort.channels) == ("MONAI datalist", 2)


BRATS = tuple(f"p{i}/p{i}_{word}.nii.gz" for i in (1, 2) for word in ("flair", "t1", "t1ce", "seg"))


@pytest.mark.parametrize(
    ("names", "images", "label"),
    [
        (BRATS, ("p1/p1_t1.nii.gz", "p1/p1_flair.nii.gz"), "p1/p1_seg.nii.gz"),
        (
            ("images/p1-T1.png", "images/p1-flair.png", "labels/p1.png"),
            ("images/p1-T1.png", "images/p1-flair.png"),
            "labels/p1.png",
        ),
        (
            ("t1/p1.png", "flair/p1.png", "t1ce/p1.png", "masks/p1.png"),
            ("t1/p1.png", "flair/p1.png"),
            "masks/p1.png",
        ),
    ],
    ids=["BraTS", "labels apart", "folders"],
)
def test_files_called_after_channels_are_the_channels_of_one_image(
    names: tuple[str, ...], images: tuple[str, ...], label: str, tmp_path: Path
) -> None:
    cohort = open_data(write(tmp_path, *names), channels=("t1", "flair"))
    case = cohort.cases[0]
    assert (case.subject, cohort.channels) == ("p1", 2)
    assert case.images == tuple(tmp_path / name for name in images)
    assert case.labels == (tmp_path / label,)


@pytest.mark.parametrize(
    ("left_out", "channels", "what"),
    [
        ("p2/p2_t1.nii.gz", ("flair", "t1"), "an image lacks the channel 't1'"),
        ("p2/p2_seg.nii.gz", ("flair", "t1"), "an image has no label"),
        ("", ("flair", "t2"), "no file is called after the channel 't2'"),
        ("", ("flair", "flair"), "not one or more different words"),
        ("p2/p2_flair.nii.gz", ("flair",), "a label has no image of these channels"),
    ],
)
def test_a_channel_that_is_missing_is_named(
    left_out: str, channels: tuple[str, ...], what: str, tmp_path: Path
) -> None:
    write(tmp_path, *(name for name in BRATS if name != left_out))
    with pytest.raises(DataError, match=what):
        open_data(tmp_path, channels=channels)


def test_two_files_of_one_channel_are_named(tmp_path: Path) -> None:
    write(tmp_path, *BRATS, "p1/p1_t1_mask.nii.gz", "p1/p1-t1.nii.gz")
    with pytest.raises(DataError, match="two files may be the same channel 't1'"):
        open_data(tmp_path, channels=("flair", "t1"))


def test_channels_of_data_that_say_them_themselves_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data say themselves which files"):
        open_data(nnunet_folder(tmp_path), channels=("a", "b"))
    with pytest.raises(DataError, match="no such data folder"):
        open_data(tmp_path / "none", channels=("a", "b"))


def test_an_image_and_its_label_in_one_archive_are_both_read(tmp_path: Path) -> None:
    for volume_ in range(3):
        for index in range(2):
            file = tmp_path / f"case{volume_:04d}_slice{index:03d}.npz"
            numpy.savez(file, image=disc() * 0.5, label=disc(shift=index).astype("float32"))
    cohort = open_data(tmp_path)
    assert cohort.subjects == ("case0000", "case0001", "case0002")
    sample = cohort.read(cohort.cases[1])
    assert torch.equal(sample.label[:24, :20], torch.from_numpy(disc(shift=1).astype("int64")))
    assert sample.image.max() == 0.5


def test_slices_of_a_single_volume_are_dealt_out_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, *(f"{kind}/scan_slice_{i}.png" for kind in ("images", "masks") for i in range(4)))
    assert len(open_data(tmp_path).subjects) == 4
