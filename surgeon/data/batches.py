"""Training batches that depend on seed, epoch and step alone."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from surgeon.errors import DataError

from .augmentation import augment_sample
from .case import Case
from .cohort import Cohort
from .legend import IGNORED


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one size.

    Attributes:
        image: float32 `(N, C, *spatial)`.
        label: int64 `(N, *spatial)`.
        case_ids: one for each sample.
        digests: of the bytes of each image, where they come again unchanged; else empty.
    """

    image: Tensor
    label: Tensor
    case_ids: tuple[str, ...]
    digests: tuple[str, ...] = ()


class Batches:
    """The batches of every epoch: a function of seed, epoch and step, so that a resumed run sees the same.

    Every batch is full: the last one of an epoch is filled up with cases of a second shuffle.

    Args:
        cohort: cases with labels.
        crop: spatial size of a training patch, padded with zeros where a sample is smaller; None takes the
            window of the preparation; without one, samples are taken whole, cut to the smallest of their
            batch where they differ.
        batch_size: samples in a batch.
        augment: flip, turn, and vary brightness and contrast.
        seed: of everything random.
        foreground: share of the patches that are centred on a pixel of the foreground, of each class alike.
        steps: batches in an epoch; None for as many as show each case once.

    Raises:
        DataError: the cohort is empty or a case has no label, or the crop has another number of axes.
    """

    def __init__(
        self,
        cohort: Cohort,
        crop: tuple[int, ...] | None,
        batch_size: int,
        augment: bool = True,
        seed: int = 0,
        *,
        foreground: float = 1 / 3,
        steps: int | None = None,
    ) -> None:
        if crop is None and cohort.preparation.window is not None:
            crop = cohort.preparation.window.size
        _check(cohort, crop, batch_size)
        self.cohort = cohort
        self.crop = crop
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.foreground = foreground
        self.steps = steps or math.ceil(len(cohort.cases) / batch_size)
        self.places = range(batch_size)
        self._sizes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return self.steps

    @property
    def fixed(self) -> bool:
        """Whether a case is the same image whenever it comes."""
        return self.crop is None and not self.augment

    def share(self, part: int, parts: int) -> Batches:
        """Return the same batches, of which one of several processes sees its part.

        The parts of a batch are what all would see, cut one after the other, as even as they can be.

        Raises:
            DataError: there would be nothing for some of them.
        """
        if self.batch_size < parts:
            raise DataError(
                f"a batch of {self.batch_size} cannot be shared by {parts} processes",
                where="batch_size",
                fix=f"give at least {parts} (--batch-size {parts}), or start fewer processes",
            )
        mine = copy.copy(self)
        starts = [k * self.batch_size // parts for k in range(parts + 1)]
        mine.places = range(starts[part], starts[part + 1])
        return mine

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, from step `start` on."""
        for step in range(start, self.steps):
            yield self.batch(epoch, step)

    def batch(self, epoch: int, step: int) -> Batch:
        """Return one batch, or this process's part of it."""
        first = step * self.batch_size
        patches = [self._patch(epoch, first + place) for place in self.places]
        shapes = [tuple(label.shape) for _, label, _ in patches]
        others = [place for place in range(self.batch_size) if place not in self.places]
        if self.crop is None:  # all are cut to the smallest of the whole batch
            shapes += [self._size(epoch, first + place) for place in others]
        crop = tuple(min(sides) for sides in zip(*shapes, strict=True))
        pairs = [_corner(image, label, crop) for image, label, _ in patches]
        images, labels = zip(*pairs, strict=True)
        digests = tuple(digest_of(image) for image in images) if self.fixed else ()
        return Batch(torch.stack(images), torch.stack(labels), tuple(p[2] for p in patches), digests)

    def _patch(self, epoch: int, position: int) -> tuple[Tensor, Tensor, str]:
        sample = self.cohort.read(self._case(epoch, position))
        assert sample.label is not None
        # A generator for each place: patches do not depend on which were drawn before.
        generator = np.random.default_rng((self.seed, epoch, position, 1))
        image, label = sample.image, sample.label
        if self.crop is not None:
            image, label = _cut(image, label, self.crop, self.foreground, generator)
        if self.augment:
            image, label = augment_sample(image, label, generator)
        return image, label, sample.case_id

    def _case(self, epoch: int, position: int) -> Case:
        count = len(self.cohort.cases)
        order = _order(self.seed, epoch, position // count, count)
        return self.cohort.cases[order[position % count]]

    def _size(self, epoch: int, position: int) -> tuple[int, ...]:
        """Return the spatial size of a sample that another process sees; a case is read for it once."""
        case = self._case(epoch, position)
        if case.id not in self._sizes:
            self._sizes[case.id] = tuple(self.cohort.read(case).image.shape[1:])
        return self._sizes[case.id]


def digest_of(x: Tensor) -> str:
    """Return a digest of the shape, type and values of a tensor on the CPU."""
    data = x.detach().contiguous().flatten().view(torch.uint8).numpy()
    head = f"{tuple(x.shape)} {x.dtype} ".encode()
    return hashlib.blake2b(head + data.tobytes(), digest_size=16).hexdigest()


def _check(cohort: Cohort, crop: tuple[int, ...] | None, batch_size: int) -> None:
    if not cohort.cases:
        raise DataError("no case to train on", where=str(cohort.path))
    for case in cohort.cases:
        if not case.has_label:
            raise DataError(
                f"case {case.id!r} has no label", where=str(cohort.path), fix="train on labelled cases"
            )
    if cohort.absent == cohort.classes[1:]:
        raise DataError(
            "the labels hold nothing but background: there is nothing to train on",
            where=str(cohort.path),
            fix="give masks that hold the classes, and look at the values in one of them",
        )
    if crop is not None and (len(crop) != cohort.spatial_dims or min(crop) < 1):
        raise DataError(
            f"a crop of {crop} for samples of {cohort.spatial_dims} axes",
            where="crop",
            fix=f"give {cohort.spatial_dims} sides of at least 1",
        )
    if batch_size < 1:
        raise DataError(f"a batch of {batch_size} samples", where="batch_size", fix="give at least 1")


@functools.lru_cache(maxsize=16)
def _order(seed: int, epoch: int, turn: int, count: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.random.default_rng((seed, epoch, turn, 0)).permutation(count))


def _cut(
    image: Tensor, label: Tensor, crop: tuple[int, ...], foreground: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cut a patch: image `(C, *spatial)` and label `(*spatial)` become `(C, *crop)` and `(*crop)`."""
    missing = [max(0, c - s) for c, s in zip(crop, label.shape, strict=True)]
    if any(missing):
        flat = [width for side in reversed(missing) for width in (side // 2, side - side // 2)]
        image, label = F.pad(image, flat), F.pad(label, flat)
    room = [s - c for s, c in zip(label.shape, crop, strict=True)]
    corner = [int(generator.integers(0, r + 1)) for r in room]
    if generator.random() < foreground:
        inside = _class_to_centre(label, generator).flatten().nonzero()
        if len(inside):
            pick = int(inside[int(generator.integers(0, len(inside)))])
            centre = np.unravel_index(pick, tuple(label.shape))
            corner = [min(max(int(at) - c // 2, 0), r) for at, c, r in zip(centre, crop, room, strict=True)]
    window = tuple(slice(at, at + c) for at, c in zip(corner, crop, strict=True))
    return image[(slice(None), *window)], label[window]


def _class_to_centre(label: Tensor, generator: np.random.Generator) -> Tensor:
    """Return where one of the foreground classes is, each as likely: small structures are not drowned."""
    present = label.flatten().bincount()[1:IGNORED].nonzero().flatten().tolist()
    if len(present) < 2:
        return (label > 0) & (label != IGNORED)
    return torch.eq(label, present[int(generator.integers(0, len(present)))] + 1)


def _corner(image: Tensor, label: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    window = tuple(slice(0, side) for side in size)
    return image[(slice(None), *window)], label[window]
