"""What was found where data were said to be, before options are applied."""

from __future__ import annotations

from dataclasses import dataclass

from .case import Case
from .items import Items
from .preparation import Preparation
from .regions import LabelRegions


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder, a list or a function holds.

    Attributes:
        format: for people.
        cases: whole cases, subjects guessed.
        classes: names where they are declared, else None.
        preparation: the default for this format.
        regions: the label values of each class, where classes overlap.
        items: what the cases without files are read from.
        splits: for each of train, validation and test the ids of its cases, where they are declared.
    """

    format: str
    cases: tuple[Case, ...]
    classes: tuple[str, ...] | None
    preparation: Preparation
    regions: LabelRegions | None = None
    items: Items | None = None
    splits: dict[str, tuple[str, ...]] | None = None
