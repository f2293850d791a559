"""Subjects dealt out to three splits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgeon.data import Case, Cohort, Legend, Preparation, Splits, split_subjects
from surgeon.errors import DataError


def cohort_of(subjects: list[str]) -> Cohort:
    cases = tuple(Case(f"{s}-{i}", s, (), None, f"{s}-{i}") for s in subjects for i in range(2))
    return Cohort(Path("data"), "made up", cases, Legend(("background", "part")), 2, 1, Preparation())


@given(count=st.integers(3, 60), seed=st.integers(0, 99))
def test_every_subject_is_in_one_split_and_no_split_is_empty(count: int, seed: int) -> None:
    subjects = [f"p{index}" for index in range(count)]
    splits = split_subjects(cohort_of(subjects), seed)
    dealt = [*splits.train, *splits.validation, *splits.test]
    assert sorted(dealt) == sorted(subjects)
    assert min(len(splits.train), len(splits.validation), len(splits.test)) >= 1


def test_shares_are_kept_and_a_seed_gives_one_split_whatever_the_order_of_cases() -> None:
    cohort = cohort_of([f"p{index}" for index in range(10)])
    splits = split_subjects(cohort, 3)
    assert [len(splits.train), len(splits.validation), len(splits.test)] == [6, 2, 2]
    assert split_subjects(dataclasses.replace(cohort, cases=cohort.cases[::-1]), 3) == splits
    assert split_subjects(cohort, 4) != splits
    assert Splits.from_dict(splits.to_dict()) == splits


def test_shares_that_would_leave_training_empty_are_lowered() -> None:
    splits = split_subjects(cohort_of(["a", "b", "c", "d"]), 0, (0.01, 0.495, 0.495))
    assert len(splits.train) == 1


def test_one_subject_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one subject only, and three are needed"):
        split_subjects(cohort_of(["a"]), 0)
    with pytest.raises(DataError, match="2 subjects only, and three are needed"):
        split_subjects(cohort_of(["a", "b"]), 0)


def test_fractions_are_three_shares_above_0() -> None:
    with pytest.raises(DataError, match="are not three shares above 0"):
        split_subjects(cohort_of(["a", "b", "c"]), 0, (0.5, 0.5, 0.0))


def test_a_subject_in_two_splits_is_a_leak() -> None:
    with pytest.raises(DataError, match="subject 'a' is in two splits") as caught:
        Splits(("a", "b"), ("c",), ("a",))
    assert caught.value.where == "train and test"


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(DataError, match="the split test is empty"):
        Splits(("a",), ("b",), ())
