"""What was found where data were said to be, before options are applied."""

from __future__ import annotations

from dataclasses import dataclass

from .case import Case
from .items import Items
from .legend import Legend
from .preparation import Preparation


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder, a list or a function holds.

    Attributes:
        format: for people.
        cases: whole cases, subjects guessed.
        legend: what the values of labels mean, where it is declared, else None.
        preparation: the default for this format.
        items: what the cases without files are read from.
        splits: for each of train, validation and test the ids of its cases, where two of them are declared.
    """

    format: str
    cases: tuple[Case, ...]
    legend: Legend | None
    preparation: Preparation
    items: Items | None = None
    splits: dict[str, tuple[str, ...]] | None = None
