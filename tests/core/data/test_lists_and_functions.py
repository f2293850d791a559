"""Data that are no folder: a MONAI datalist, functions that return datasets; splits that these declare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from surgeon.data import Preparation, Splits, open_data, split_subjects
from surgeon.errors import DataError
from tests.core.data.builders import ball, decathlon_folder, disc, picture_folder, write_json


def datalist(root: Path, **sections: object) -> Path:
    decathlon_folder(root, count=6)
    (root / "dataset.json").unlink()
    return write_json(root / "my list.json", sections)


def pairs(*indices: int, **more: object) -> list[dict]:
    names = [f"brain{index}.nii.gz" for index in indices]
    return [{"image": f"imagesTr/{n}", "label": f"labelsTr/{n}", **more} for n in names]


def test_a_datalist_of_monai_is_read_with_its_splits(tmp_path: Path) -> None:
    file = datalist(tmp_path, training=pairs(0, 1), validation=pairs(2), testing=pairs(3, 4))
    cohort = open_data(file)
    assert (cohort.format, len(cohort.cases), cohort.spatial_dims) == ("MONAI datalist", 5, 3)
    assert split_subjects(cohort, seed=3) == Splits(("brain0", "brain1"), ("brain2",), ("brain3", "brain4"))


def test_test_images_without_labels_are_left_out_and_others_dealt_out_of_training(tmp_path: Path) -> None:
    file = datalist(
        tmp_path,
        labels={"0": "background", "1": "part"},
        training=pairs(0, 1, 2),
        validation=pairs(3),
        test=[{"image": "imagesTr/brain4.nii.gz"}, "imagesTr/brain5.nii.gz"],
    )
    cohort = open_data(file)
    assert len(cohort.cases) == 4
    assert cohort.classes == ("background", "part")
    splits = split_subjects(cohort, seed=0)
    assert splits.validation == ("brain3",)
    assert (len(splits.train), len(splits.test)) == (2, 1)


def test_a_bare_list_and_an_image_of_several_files_are_read(tmp_path: Path) -> None:
    entry = {
        "image": ["imagesTr/brain0.nii.gz", "imagesTr/brain1.nii.gz"],
        "label": "labelsTr/brain0.nii.gz",
        "patient": "anna",
    }
    datalist(tmp_path)
    cohort = open_data(write_json(tmp_path / "bare.json", [entry]))
    assert (cohort.channels, cohort.subjects) == (2, ("anna",))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({}, "lists no case to train on"),
        (3, "no object and no list"),
        ({"training": [{"image": "imagesTr/brain0.nii.gz"}]}, "no pair of image and label"),
        ({"training": pairs(9)}, "a file that my list.json lists is missing"),
        ({"training": pairs(1, 1)}, "the case 'brain1' is listed twice"),
        ({"training": pairs(0), "validation": pairs(0), "test": pairs(1)}, "'brain0' is listed twice"),
    ],
)
def test_a_datalist_that_cannot_be_used_is_refused(content: object, text: str, tmp_path: Path) -> None:
    file = datalist(tmp_path)
    with pytest.raises(DataError, match=text):
        open_data(write_json(file, content))


def test_a_subject_in_two_declared_splits_is_leakage(tmp_path: Path) -> None:
    file = datalist(
        tmp_path,
        training=pairs(0, subject="anna"),
        validation=pairs(1, subject="bob"),
        testing=pairs(2, subject="anna"),
    )
    with pytest.raises(DataError, match="subject 'anna' is in two splits"):
        split_subjects(open_data(file), seed=0)


CODE = """
import numpy as np, torch
from utils import make

class Pairs(torch.utils.data.Dataset):
    def __init__(self, first, count):
        self.first, self.count = first, count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        if index >= self.count: raise IndexError(index)
        return make(self.first + index)

def one(): return Pairs(0, 4)
def three(): return {"train": Pairs(0, 3), "val": Pairs(3, 1), "test": Pairs(4, 2)}
def leaking(): return {"train": Pairs(0, 3), "val": Pairs(3, 1), "test": Pairs(0, 2)}
def tuples(): return [(np.zeros((8, 8)), np.ones((8, 8), bool)), (torch.rand(1, 8, 8), torch.ones(1, 8, 8))]
def volumes():
    return [{"image": np.random.rand(2, 6, 7, 8), "label": np.ones((6, 7, 8)), "spacing": (3, 1, 1)}]
def files(): return [{"image": PLACE + "/images/case0.png", "label": PLACE + "/masks/case0.png"}]
def number(): return 3
def two(): return {"train": [], "test": []}
def empty(): return []
def raising(): raise KeyError("no such folder")
def broken(): return [None]
def unlike(): return [(np.zeros((8, 8)), np.zeros((8, 9)))]
def halves(): return [(np.zeros((8, 8)), np.full((8, 8), 0.5))]
def holes(): return [(np.full((8, 8), np.nan), np.zeros((8, 8)))]
def words(): return [(np.zeros((8, 8)).astype(str), np.zeros((8, 8)))]
def spaced(): return [{"image": np.zeros((8, 8)), "label": np.zeros((8, 8)), "spacing": (1, 1, 1)}]
def twins(): return [{"image": np.zeros((8, 8)), "label": np.zeros((8, 8)), "name": "a"}] * 2
"""
HELPER = """
import numpy as np
def make(n):
    label = np.zeros((8, 8), np.uint8)
    label[2:5, 1 + n % 3:6] = 1
    image = label[None].astype(np.float32) + n
    return {"image": image, "label": label, "subject": f"p{n}", "name": f"case {n}"}
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    """Return a file of functions beside a `utils.py` of its own."""
    folder = tmp_path / "their code"
    folder.mkdir()
    picture_folder(tmp_path / "png")
    (folder / "data.py").write_text(f"PLACE = {str(tmp_path / 'png')!r}\n{CODE}")
    (folder / "utils.py").write_text(HELPER)
    return str(folder / "data.py")


def test_a_function_gives_a_dataset_as_it_is(code: str) -> None:
    cohort = open_data(f"{code}:one")
    assert (cohort.format, cohort.subjects, cohort.channels) == ("function", ("p0", "p1", "p2", "p3"), 1)
    sample = cohort.read(cohort.cases[2])
    assert sample.image.max() == 3.0
    assert sample.label is not None
    assert sample.label.sum() == 9


def test_a_function_gives_three_datasets_as_splits(code: str) -> None:
    splits = split_subjects(open_data(f"{code}:three"), seed=0)
    assert splits == Splits(("p0", "p1", "p2"), ("p3",), ("p4", "p5"))


def test_one_subject_in_two_datasets_is_an_error(code: str) -> None:
    with pytest.raises(DataError, match="two items are called 'case 0'"):
        open_data(f"{code}:leaking")


def test_items_may_be_tuples_volumes_with_spacing_or_files(code: str) -> None:
    assert open_data(f"{code}:tuples").spatial_dims == 2
    volumes = open_data(f"{code}:volumes")
    assert (volumes.channels, volumes.read(volumes.cases[0]).spacing) == (2, (3.0, 1.0, 1.0))
    slices = open_data(f"{code}:volumes", spatial_dims=2, slice_axis=0)
    assert len(slices.cases) == 6
    assert slices.read(slices.cases[5]).image.shape == (2, 7, 8)
    assert open_data(f"{code}:files", preparation=Preparation()).cases[0].id == "case0"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("number", "returned a int, no dataset"),
        ("two", "the function names no validation"),
        ("empty", "the dataset is empty"),
        ("raising", "failed: KeyError: 'no such folder'"),
        ("nothing", "failed: AttributeError"),
        ("broken", "no pair of image and label, but a NoneType"),
        ("unlike", r"differ in size: \(1, 8, 8\) against \(8, 9\)|differ in size"),
        ("halves", "not whole numbers"),
        ("holes", "not finite"),
        ("words", "no numbers of pixels"),
        ("spaced", r"a spacing of \(1.0, 1.0, 1.0\) for 2 axes"),
        ("twins", "two items are called 'a'"),
    ],
)
def test_a_function_that_cannot_be_used_gets_one_clear_error(name: str, text: str, code: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        open_data(f"{code}:{name}")
    assert len(str(caught.value).splitlines()) <= 3


def test_a_dataset_of_monai_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai.data import CacheDataset
    from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged

    decathlon_folder(tmp_path)
    entries = [{k: str(tmp_path / v) for k, v in pair.items()} for pair in pairs(0, 1, 2)]
    steps = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    import tests.core.data.builders as module

    dataset = CacheDataset(entries, steps, progress=False)
    monkeypatch.setattr(module, "their_data", lambda: dataset, raising=False)
    cohort = open_data("tests.core.data.builders:their_data")
    label = cohort.read(cohort.cases[0]).label
    assert label is not None
    assert torch.equal(label, torch.from_numpy(ball()).long())


def test_a_table_declares_strata_and_each_split_gets_its_share(tmp_path: Path) -> None:
    picture_folder(tmp_path / "data", count=20)
    rows = [f"case{i},case{i},{'north' if i < 10 else 'south'}" for i in range(20)]
    (tmp_path / "table.csv").write_text("\n".join(["case,subject,stratum", *rows]))
    splits = split_subjects(open_data(tmp_path / "data", subjects=tmp_path / "table.csv"), seed=1)
    for subjects, share in ((splits.train, 6), (splits.validation, 2), (splits.test, 2)):
        assert sum(int(subject[4:]) < 10 for subject in subjects) == share
    assert not set(splits.train) & set(splits.test)


def test_a_table_declares_splits_and_a_leak_in_it_is_an_error(tmp_path: Path) -> None:
    picture_folder(tmp_path / "data")
    table = tmp_path / "table.csv"
    table.write_text("case,subject,split\ncase0,a,train\ncase1,b,val\ncase2,c,test\ncase3,a,train\n")
    cohort = open_data(tmp_path / "data", subjects=table)
    assert split_subjects(cohort, seed=0) == Splits(("a",), ("b",), ("c",))
    table.write_text("case,subject,split\ncase0,a,train\ncase1,b,val\ncase2,c,test\ncase3,a,test\n")
    with pytest.raises(DataError, match="subject 'a' is in two splits"):
        split_subjects(open_data(tmp_path / "data", subjects=table), seed=0)
    table.write_text("case,subject,split\ncase0,a,train\ncase1,b,val\ncase2,c,holdout\ncase3,a,test\n")
    with pytest.raises(DataError, match="is in the split 'holdout'"):
        open_data(tmp_path / "data", subjects=table)


def test_without_a_table_subjects_are_stratified_by_the_classes_they_hold(tmp_path: Path) -> None:
    from tests.core.data.builders import picture

    for index in range(20):
        mask = disc() if index % 4 else disc() * 0
        picture(tmp_path / "images" / f"{index:02d}.png", disc() * 9)
        picture(tmp_path / "masks" / f"{index:02d}.png", mask)
    splits = split_subjects(open_data(tmp_path), seed=0)
    empty = [sum(int(subject) % 4 == 0 for subject in split) for split in splits.to_dict().values()]
    assert empty == [3, 1, 1]
    assert json.loads(json.dumps(splits.to_dict()))["test"] == list(splits.test)


def test_patches_are_centred_on_each_class_alike(tmp_path: Path) -> None:
    from surgeon.data import Batches
    from tests.core.data.builders import picture

    label = np.zeros((64, 64), np.uint8)
    label[:, 32:], label[3, 3] = 1, 2
    picture(tmp_path / "images" / "a.png", label)
    picture(tmp_path / "labels" / "a.png", label)
    cohort = open_data(tmp_path, classes=("b", "large", "small"))
    batches = Batches(cohort, (8, 8), 40, augment=False, foreground=1.0)
    held = [(patch == 2).any().item() for patch in batches.batch(0, 0).label]
    assert 10 < sum(held) < 30  # every second one; by area one in two thousand
