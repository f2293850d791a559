"""A host: the pretrained network and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from surgeon.data import LabelRegions, Preparation


@dataclass(frozen=True, slots=True)
class Host:
    """A pretrained network, opened.

    Attributes:
        module: in eval mode, on the CPU.
        spec: what it was opened from.
        name: of its class.
        example: inputs it is known to take, or None.
        preparation: how its images are prepared, where its form says so.
        report: what was found on the way: nesting, prefixes.
        classes: names of what it was trained for, background first, where its form says so.
        regions: the label values of each class, where classes overlap.
        channels: of each image that it took as an input of its own, where one image holds them all now.
    """

    module: nn.Module
    spec: str
    name: str
    example: tuple[Tensor, ...] | None = None
    preparation: Preparation | None = None
    report: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    regions: LabelRegions | None = None
    channels: tuple[int, ...] = ()
