"""Three sets of subjects that share nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surgeon.errors import DataError

from .cohort import Cohort


@dataclass(frozen=True, slots=True)
class Splits:
    """Subject ids of the three splits.

    Raises:
        DataError: a subject is in two of them, or one of them is empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for name, subjects in self.to_dict().items():
            if not subjects:
                raise DataError(f"the split {name} is empty", where="splits", fix="give each split a subject")
            for subject in subjects:
                if subject in seen:
                    raise DataError(
                        f"subject {subject!r} is in two splits",
                        where=f"{seen[subject]} and {name}",
                        fix="put each subject into one split",
                    )
                seen[subject] = name

    def to_dict(self) -> dict[str, list[str]]:
        """Return plain JSON."""
        return {"train": list(self.train), "validation": list(self.validation), "test": list(self.test)}

    @classmethod
    def from_dict(cls, values: dict[str, list[str]]) -> Splits:
        """Build from plain JSON."""
        return cls(*(tuple(values.get(name, ())) for name in ("train", "validation", "test")))


def split_subjects(
    cohort: Cohort, seed: int, fractions: tuple[float, float, float] = (0.6, 0.2, 0.2)
) -> Splits:
    """Deal the subjects of a cohort out to training, validation and test.

    The same subjects, seed and fractions give the same splits, whatever the order of the files. Splits that
    the data declare are taken as they are; one that they leave out is dealt out of training. Where subjects
    are of several strata (of the table of subjects, else by the classes that their labels hold), each split
    gets its share of each.

    Args:
        cohort: with three subjects or more.
        seed: of the shuffle.
        fractions: shares of the three; each split gets one subject at least.

    Raises:
        DataError: there are fewer than three subjects, or the fractions are not three shares above 0; or
            declared splits share a subject, or leave one empty.
    """
    if len(fractions) != 3 or min(fractions) <= 0:
        raise DataError(f"fractions {fractions} are not three shares above 0", where="splits")
    if cohort.splits is not None:
        return _completed(cohort, cohort.splits, seed, fractions)
    subjects = cohort.subjects
    if len(subjects) < 3:
        count = "one subject only" if len(subjects) == 1 else f"{len(subjects)} subjects only"
        raise DataError(
            f"{count}, and three are needed: one each to train, validate and test on",
            where=str(cohort.path),
            fix="add subjects, or say how cases group into subjects with the option for subjects",
        )
    total = sum(fractions)
    test = max(1, round(len(subjects) * fractions[2] / total))
    validation = max(1, round(len(subjects) * fractions[1] / total))
    while test + validation > len(subjects) - 1:
        test, validation = (test - 1, validation) if test > validation else (test, validation - 1)
    order = _dealt(cohort, subjects, seed, (test, validation))
    held = test + validation
    return Splits(tuple(sorted(order[held:])), tuple(sorted(order[test:held])), tuple(sorted(order[:test])))


def _completed(
    cohort: Cohort,
    declared: dict[str, tuple[str, ...]],
    seed: int,
    fractions: tuple[float, float, float],
) -> Splits:
    """Deal validation or test out of training where the data declare the other alone."""
    train = declared["train"]
    missing = [name for name in ("validation", "test") if not declared[name]]
    if len(missing) != 1 or len(train) < 2:
        return Splits(**declared)
    share = fractions[1 if missing == ["validation"] else 2]
    count = min(max(1, round(len(train) * share / (share + fractions[0]))), len(train) - 1)
    order = _dealt(cohort, train, seed, (count,))
    dealt = {"train": tuple(sorted(order[count:])), missing[0]: tuple(sorted(order[:count]))}
    return Splits(**(declared | dealt))


def _dealt(cohort: Cohort, subjects: tuple[str, ...], seed: int, sizes: tuple[int, ...]) -> list[str]:
    """Shuffle subjects so that as many in front as each size says have their share of every stratum."""
    order = [subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))]
    strata = cohort.strata
    if len({strata[subject] for subject in order}) > 1:
        return _spread(sorted(order, key=lambda subject: strata[subject]), sizes)
    return order


def _spread(order: list[str], sizes: tuple[int, ...]) -> list[str]:
    """Put those at even distances first, as many as the first size, then of the rest as many as the second.

    In an order by strata, what lies at even distances has its share of each stratum.
    """
    front: list[str] = []
    for size in sizes:
        places = {int((place + 0.5) * len(order) / size) for place in range(size)}
        front += [subject for place, subject in enumerate(order) if place in places]
        order = [subject for place, subject in enumerate(order) if place not in places]
    return front + order
