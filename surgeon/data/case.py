"""One image of a data folder, list or dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Case:
    """One image that a network sees whole, or one slice of a volume.

    Attributes:
        id: unique in its cohort.
        subject: who or what it was taken of; a subject is never in two splits.
        images: files of the channels, in order; none for an item of a dataset.
        labels: files of the label, several where each holds one object of the image; none without a label.
        volume: id of the volume this is a slice of; the case's own id when it is whole.
        slice: the axis and the index along it; None when it is whole.
        item: its place in a dataset; None where it is read from files.
        stratum: what splits shall hold equal shares of, such as the hospital.
    """

    id: str
    subject: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    volume: str
    slice: tuple[int, int] | None = None
    item: int | None = None
    stratum: str = ""

    @property
    def has_label(self) -> bool:
        """Whether there is a label to train on or to score with."""
        return bool(self.labels) or self.item is not None

    @property
    def place(self) -> str:
        """Where it is read from, for an error."""
        return ", ".join(map(str, self.images)) or f"item {self.item}"
