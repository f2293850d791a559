"""Classes that are unions of label values and may overlap, as BraTS and KiTS have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surgeon.errors import DataError


@dataclass(frozen=True, slots=True)
class LabelRegions:
    """The label values that make up each foreground class.

    Attributes:
        values: for each foreground class the label values that are in it.
        order: for each foreground class the value that is painted where it is seen, the later over the
            earlier (nnU-Net's `regions_class_order`).
    """

    values: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]

    @property
    def known(self) -> frozenset[int]:
        """The values that a label may hold."""
        return frozenset({0, *(value for values in self.values for value in values)})

    def masks(self, label: Tensor) -> Tensor:
        """Turn label values `(N, *spatial)` into a mask for each class, bool `(N, R, *spatial)`."""
        table = torch.zeros((len(self.values), max(self.known) + 1), dtype=torch.bool, device=label.device)
        for row, values in enumerate(self.values):
            table[row, list(values)] = True
        return table[:, label].movedim(0, 1)

    def paint(self, masks: Tensor) -> Tensor:
        """Turn a mask for each class, bool `(N, R, *spatial)`, into label values, int64 `(N, *spatial)`."""
        label = torch.zeros_like(masks[:, 0], dtype=torch.int64)
        for row, value in enumerate(self.order):
            label[masks[:, row]] = value
        return label

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"values": [list(values) for values in self.values], "order": list(self.order)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LabelRegions:
        """Read back what `to_dict` gave."""
        return cls(tuple(map(tuple, content["values"])), tuple(content["order"]))


def has_regions(labels: Any) -> bool:
    """Whether the `labels` of a `dataset.json` name a class of several values."""
    return isinstance(labels, dict) and any(isinstance(value, list | tuple) for value in labels.values())


def read_regions(
    labels: Mapping[str, Any], order: Sequence[int] | None, where: str
) -> tuple[tuple[str, ...], LabelRegions]:
    """Read the regions of an nnU-Net `dataset.json`.

    Args:
        labels: `{"background": 0, "whole tumor": [1, 2, 3], "enhancing": 3}`.
        order: its `regions_class_order`.
        where: named in an error.

    Returns:
        the names of the classes, background first, and what they are made of.

    Raises:
        DataError: a value is no whole number above 0, the background is missing, or the order has another
            length.
    """
    named = {str(name): _values(name, value, where) for name, value in labels.items()}
    background = [name for name, values in named.items() if values == (0,)]
    if len(background) != 1 or "ignore" in named:
        raise DataError(
            "labels with regions need one background of value 0, and no ignore label",
            where=where,
            fix='write "labels": {"background": 0, "whole": [1, 2], "core": [2]}',
        )
    foreground = {name: values for name, values in named.items() if name not in background}
    if not isinstance(order, list | tuple) or len(order) != len(foreground):
        raise DataError(
            f"regions_class_order has to name one value for each of the {len(foreground)} regions",
            where=where,
            fix='add "regions_class_order": [1, 2, ...], in the order of labels',
        )
    painted = tuple(_values("regions_class_order", value, where)[0] for value in order)
    regions = LabelRegions(tuple(foreground.values()), painted)
    if not set(painted) <= regions.known:
        raise DataError(
            f"regions_class_order {list(painted)} names a value that is in no region", where=where
        )
    return (background[0], *foreground), regions


def _values(name: str, value: Any, where: str) -> tuple[int, ...]:
    values = value if isinstance(value, list | tuple) and value else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in values):
        raise DataError(f"label {name!r} of {value!r} is no label value and no list of them", where=where)
    return tuple(values)
