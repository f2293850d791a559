"""Training batches as a function of seed, epoch and step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from surgeon.data import Batches, Preparation, open_data
from surgeon.errors import DataError
from tests.core.data.builders import decathlon_folder, disc, picture, picture_folder


@pytest.fixture
def cohort(tmp_path: Path):
    return open_data(picture_folder(tmp_path, count=5), preparation=Preparation())


def test_a_batch_is_the_same_whatever_was_drawn_before(cohort) -> None:
    one = Batches(cohort, (16, 16), 2, seed=7)
    batches = list(one.epoch(3))
    again = Batches(cohort, (16, 16), 2, seed=7).batch(3, 2)
    assert torch.equal(batches[2].image, again.image)
    assert torch.equal(batches[2].label, again.label)
    assert batches[2].case_ids == again.case_ids
    later = list(one.epoch(3, start=2))
    assert len(later) == 1
    assert torch.equal(later[0].image, again.image)


def test_seed_and_epoch_change_what_is_drawn(cohort) -> None:
    base = Batches(cohort, (16, 16), 2, seed=7).batch(0, 0)
    assert not torch.equal(base.image, Batches(cohort, (16, 16), 2, seed=8).batch(0, 0).image)
    assert not torch.equal(base.image, Batches(cohort, (16, 16), 2, seed=7).batch(1, 0).image)


def test_an_epoch_shows_every_case_and_every_batch_is_full(cohort) -> None:
    batches = list(Batches(cohort, (16, 16), 2).epoch(0))
    assert len(batches) == 3
    assert all(batch.image.shape == (2, 1, 16, 16) for batch in batches)
    assert {name for batch in batches for name in batch.case_ids} == {f"case{i}" for i in range(5)}


def test_image_and_label_are_varied_alike(cohort) -> None:
    for step in range(3):
        batch = Batches(cohort, (16, 16), 2, augment=True, seed=step).batch(0, step)
        for image, label in zip(batch.image, batch.label, strict=True):
            bright = image[0] > image.mean()
            assert torch.equal(bright, label == 1)


def test_without_augmentation_a_whole_sample_is_as_it_was_read(cohort) -> None:
    batch = Batches(cohort, None, 1, augment=False).batch(0, 0)
    sample = cohort.read(next(case for case in cohort.cases if case.id == batch.case_ids[0]))
    assert torch.equal(batch.image[0], sample.image)
    assert sample.label is not None
    assert torch.equal(batch.label[0], sample.label)


def test_foreground_is_in_every_patch_when_all_are_centred_on_it(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png", disc((100, 100), 3))
    picture(tmp_path / "masks" / "a.png", disc((100, 100), 3))
    cohort = open_data(tmp_path)
    batches = Batches(cohort, (12, 12), 4, foreground=1.0, steps=5)
    assert all(int(label.sum()) > 0 for batch in batches.epoch(0) for label in batch.label)
    seldom = Batches(cohort, (12, 12), 4, foreground=0.0, steps=5)
    assert any(int(label.sum()) == 0 for batch in seldom.epoch(0) for label in batch.label)


def test_volumes_give_patches_and_a_crop_larger_than_a_sample_is_padded(tmp_path: Path) -> None:
    cohort = open_data(decathlon_folder(tmp_path), preparation=Preparation())
    batch = Batches(cohort, (16, 8, 8), 3, augment=False).batch(0, 0)
    assert batch.image.shape == (3, 1, 16, 8, 8)
    assert batch.label.shape == (3, 16, 8, 8)
    assert float(batch.image[:, :, :3].abs().max()) == 0


def test_whole_samples_of_two_sizes_are_cut_to_the_smaller(tmp_path: Path) -> None:
    for name, size in (("a", (24, 20)), ("b", (16, 32))):
        picture(tmp_path / "images" / f"{name}.png", disc(size))
        picture(tmp_path / "masks" / f"{name}.png", disc(size))
    batch = Batches(open_data(tmp_path, preparation=Preparation()), None, 2).batch(0, 0)
    assert batch.image.shape == (2, 1, 16, 20)


def test_what_cannot_be_trained_on_is_refused(cohort) -> None:
    with pytest.raises(DataError, match="no case to train on"):
        Batches(dataclasses.replace(cohort, cases=()), None, 1)
    with pytest.raises(DataError, match="a crop of"):
        Batches(cohort, (8, 8, 8), 1)
    with pytest.raises(DataError, match="a batch of 0 samples"):
        Batches(cohort, None, 0)
    bare = tuple(dataclasses.replace(case, labels=()) for case in cohort.cases)
    with pytest.raises(DataError, match="case 'case0' has no label"):
        Batches(dataclasses.replace(cohort, cases=bare), None, 1)
