"""From the options of a command to labelled images."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from surgeon.data import Cohort, Preparation


@dataclass(frozen=True, slots=True)
class DataRequest:
    """How labelled images are named on the command line.

    Attributes:
        path: the folder.
        preparation: a file that says how a raw image becomes an input.
        binarise: every label above 0 is the one class.
        subjects: a pattern or a CSV file that tells subjects apart.
        classes: names of the classes, background first.
        slice_axis: the axis that volumes are sliced along for a 2-D network.
        cache: a folder that keeps prepared samples.
        channels: words in the names of the files of one image.
    """

    path: Path
    preparation: Path | None = None
    binarise: bool = False
    subjects: str | None = None
    classes: tuple[str, ...] | None = None
    slice_axis: int | None = None
    cache: Path | None = None
    channels: tuple[str, ...] | None = None

    def of_classes(self, known: tuple[str, ...] | None) -> DataRequest:
        """Take over the classes that a network knows, unless others were named."""
        return self if self.classes is not None else dataclasses.replace(self, classes=known)

    def open(self, declared: Preparation | None = None, spatial_dims: int | None = None) -> Cohort:
        """Open the data and read every case once.

        Args:
            declared: what the network says of its inputs; holds when no preparation is given.
            spatial_dims: of the network.

        Raises:
            DataError: the folder cannot be used.
        """
        from surgeon.data import open_data

        return open_data(
            self.path,
            preparation=self.preparation or declared,
            binarise=self.binarise,
            subjects=self.subjects,
            classes=self.classes,
            channels=self.channels,
            spatial_dims=spatial_dims,
            slice_axis=self.slice_axis,
            cache=self.cache,
        )
