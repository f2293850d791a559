"""How close two sets of outputs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

# Whole numbers beyond this are no labels.
_MOST_CLASSES = 1 << 12
# An output that is zero but for rounding has no range of its own.
_SMALLEST_SHARE = 1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """The distance between two sets of tensors.

    Attributes:
        largest: largest absolute difference over all elements.
        relative: the difference over the largest finite value of the reference, each tensor by itself, of the
            worst tensor. One that is smaller than a millionth of the largest counts as if it were not.
        argmax_agreement: share of positions whose largest channel is the same; of a single channel, whose
            sign, or whose side of one half where it holds probabilities; of whole numbers, which are labels
            themselves, those that are equal.
        dice: of the classes that these positions then have, the mean over the classes that occur.
        equal: the same to the bit.
    """

    largest: float
    relative: float
    argmax_agreement: float
    dice: float
    equal: bool

    def to_dict(self) -> dict[str, float | bool]:
        """Return plain JSON."""
        return asdict(self)


def tensors_in(value: Any) -> list[Tensor]:
    """List the tensors in a nest of tuples, lists, mappings and dataclasses, in a fixed order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [leaf for item in value.values() for leaf in tensors_in(item)]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [leaf for item in value for leaf in tensors_in(item)]
    if is_dataclass(value) and not isinstance(value, type):
        return [leaf for field in fields(value) for leaf in tensors_in(getattr(value, field.name))]
    return []


def compare(reference: Any, candidate: Any) -> Difference:
    """Compare two outputs tensor by tensor.

    Args:
        reference: tensors `(N, C, *spatial)`, alone or in a nest.
        candidate: the same nest from the other side.

    Raises:
        ValueError: the two hold different numbers of tensors, or tensors of different shapes.
    """
    expected, found = tensors_in(reference), tensors_in(candidate)
    if [t.shape for t in expected] != [t.shape for t in found]:
        raise ValueError(
            f"outputs differ in form: {[tuple(t.shape) for t in expected]} "
            f"against {[tuple(t.shape) for t in found]}"
        )
    pairs = [(a.detach(), b.detach().to(a.device)) for a, b in zip(expected, found, strict=True)]
    differences = [_largest(a, b) for a, b in pairs]
    scales = [_scale(a) for a, _ in pairs]
    floor = max(_SMALLEST_SHARE * max(scales, default=0.0), 1e-12)
    labels = [
        (_labels(a, a), _labels(b, a)) for a, b in pairs if a.ndim > 2 and a.numel() and not a.is_complex()
    ]
    return Difference(
        max(differences, default=0.0),
        max((d / max(scale, floor) for d, scale in zip(differences, scales, strict=True)), default=0.0),
        min((float((a == b).double().mean()) for a, b in labels), default=1.0),
        min((_dice(a, b) for a, b in labels), default=1.0),
        all(torch.equal(a, b) for a, b in pairs),
    )


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.complex128) if x.is_complex() else x.to(torch.float64)


def _scale(x: Tensor) -> float:
    """Return the largest absolute value that is a number; beside infinities everything would be small."""
    size = _wide(x).abs()
    return float(torch.where(size.isfinite(), size, 0.0).max()) if x.numel() else 0.0


def _largest(a: Tensor, b: Tensor) -> float:
    if not a.numel():
        return 0.0
    difference = (_wide(a) - _wide(b)).abs()
    # Infinities of the same sign are equal, and their difference is not a number.
    difference = torch.where(a == b, torch.zeros_like(difference), difference)
    return float(difference.nan_to_num(nan=float("inf")).max())


def _labels(x: Tensor, reference: Tensor) -> Tensor:
    """Return the class at every position of a map; the reference says how its classes are to be read."""
    if not x.is_floating_point():
        return x.long()
    if x.shape[1] > 1:
        return x.argmax(1)
    # The sign of a probability says nothing but whether it was rounded to zero.
    border = 0.5 if bool(((reference >= 0) & (reference <= 1)).all()) else 0.0
    return (x > border).long()


def _dice(a: Tensor, b: Tensor) -> float:
    """Return the mean Dice over the classes that occur in one of two maps of classes."""
    classes = int(max(a.max(), b.max())) + 1
    if int(min(a.min(), b.min())) < 0 or classes > _MOST_CLASSES:
        return float((a == b).double().mean())
    both = torch.bincount(a[a == b].flatten(), minlength=classes).double()
    total = torch.bincount(a.flatten(), minlength=classes) + torch.bincount(b.flatten(), minlength=classes)
    occurs = total > 0
    return float((2 * both[occurs] / total[occurs]).mean())
