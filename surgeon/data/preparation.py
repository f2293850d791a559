"""How a raw image becomes what a network was trained on."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from surgeon.errors import DataError

from .choices import Back, Foreground, Resampling, Scale
from .window import Window

FILE_NAME = "preparation.toml"
_ALWAYS = ("scale", "multiple", "axes", "binarise")
_CHOICES: tuple[tuple[str, type[StrEnum]], ...] = (
    ("scale", Scale),
    ("then", Scale),
    ("resampling", Resampling),
    ("crop_foreground", Foreground),
    ("back", Back),
)
_SIDES = ("resize_fit", "resize", "pad_to")
_SWITCHES = (
    "binarise",
    "crop_nonzero",
    "mask_nonzero",
    "together",
    "scale_first",
    "pad_both",
    "transposed",
    "signals",
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a raw image becomes a network input; the same for training, scoring and serving.

    The steps run in this order: channels, crop, clip, scale, mean and deviation, resize, pad. With resampling
    as MONAI does it (`origin`, `area`), resizing comes right after cropping, unless the scale is `unit` or
    `scale_first` is set.

    Attributes:
        scale: how intensities are scaled.
        channels: 1 turns colour into grey, 3 repeats grey; None takes a file as it is.
        clip: lowest and highest raw intensity, before scaling.
        mean: subtracted after scaling: one number, or one for each channel.
        std: divides after `mean` is subtracted.
        resize_fit: spatial size to fit into, keeping the aspect, centred and padded with zeros.
        multiple: sides are padded with zeros at their end to a multiple of this.
        axes: order of a volume's axes, `xyz` (as nibabel and MONAI have it), `zyx` (SimpleITK, nnU-Net) or
            any other.
        spacing: voxel size in mm, in the order of `axes`, that volumes are resampled to; None keeps each.
        resampling: how they are resampled.
        orientation: axis codes such as `RAS` that volumes are turned to; None keeps each.
        binarise: every label above 0 is foreground (instance masks).
        crop_nonzero: cut volumes to the box around what is not zero in some channel.
        mask_nonzero: `zscore` is of what is not zero alone (holes filled), and the rest stays at zero.
        window: the window that a network sees images through; None shows them whole.
        then: how intensities are scaled once more, after `scale`; None leaves them.
        together: statistics of the scaling are of all channels at once.
        scale_first: intensities are scaled before MONAI's resampling.
        crop_foreground: cut to the box around what is above zero in some channel: of the `raw` values, or
            once they are `scaled` (and resampled, unless `scale_first`).
        resize: the spatial size that images are brought to, whatever their aspect.
        pad_to: sides are padded with zeros to at least this.
        pad_both: padding goes to both ends of a side alike.
        transposed: pictures are read with their columns first, as MONAI does.
        signals: arrays of two axes are signals of one, their channels first; without it they are grey images.
        back: what of a prediction is brought back to the file's grid by MONAI's resampling.

    Raises:
        DataError: a value is out of its range.
    """

    scale: Scale = Scale.UNIT
    channels: int | None = None
    clip: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize_fit: tuple[int, ...] | None = None
    multiple: int = 1
    axes: str = "xyz"
    spacing: tuple[float, ...] | None = None
    orientation: str | None = None
    binarise: bool = False
    resampling: Resampling = Resampling.LINEAR
    crop_nonzero: bool = False
    mask_nonzero: bool = False
    window: Window | None = None
    then: Scale | None = None
    together: bool = False
    scale_first: bool = False
    crop_foreground: Foreground | None = None
    resize: tuple[int, ...] | None = None
    pad_to: tuple[int, ...] | None = None
    pad_both: bool = False
    transposed: bool = False
    signals: bool = False
    back: Back = Back.PROBABILITIES

    def __post_init__(self) -> None:
        for name in ("clip", "mean", "std", "resize_fit", "spacing", "resize", "pad_to"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.scale not in tuple(Scale):
            raise DataError(
                f"unknown scale {str(self.scale)!r}", where="preparation: scale", fix=_words(Scale)
            )
        _check_range(self)
        if sum(value is not None for value in (self.resize_fit, self.resize, self.spacing)) > 1 and (
            self.resize is not None or self.resampling == Resampling.ORIGIN
        ):
            raise DataError(
                "spacing, resize and resize_fit exclude each other in MONAI's resampling", where="preparation"
            )
        for name, kind in _CHOICES:
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else kind(value))

    @property
    def moves_voxels(self) -> bool:
        """Whether voxels are not those of the file, so that predictions must be brought back."""
        return (
            self.spacing is not None
            or self.crop_nonzero
            or self.crop_foreground is not None
            or self.resize is not None
        )

    @property
    def scales_last(self) -> bool:
        """Whether intensities are scaled after resampling, as MONAI's bundles do; nnU-Net does it before."""
        as_monai = self.resampling in (Resampling.ORIGIN, Resampling.AREA)
        return as_monai and self.scale is not Scale.UNIT and not self.scale_first

    @property
    def scales_plainly(self) -> bool:
        """Whether clip, scale, mean and deviation are all that happens to intensities, in each channel."""
        return not (self.mask_nonzero or self.together or self.then or self.scale is Scale.NONZERO)

    def across(self, axis: int) -> Preparation:
        """Return the preparation of slices across an axis: the spacing along it is left out."""
        if self.spacing is None or len(self.spacing) != 3:
            return self
        return dataclasses.replace(self, spacing=self.spacing[:axis] + self.spacing[axis + 1 :])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: what is not at its default, and always scale, multiple, axes and binarise."""
        return {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name in _ALWAYS or getattr(self, field.name) != field.default
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "preparation") -> Preparation:
        """Build from plain JSON or TOML.

        Raises:
            DataError: a key is unknown, or a value is out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise DataError(
                f"unknown key {unknown[0]!r} in the preparation",
                where=where,
                fix=f"one of {', '.join(known)}",
            )
        window = values.get("window")
        if window is not None:
            values = {**values, "window": Window.from_dict(window, where)}
        try:
            return cls(**values)
        except TypeError as error:
            raise DataError(f"a value of the preparation has the wrong type: {error}", where=where) from error

    def to_toml(self) -> str:
        """Return the text of a `preparation.toml`.

        >>> print(Preparation(scale="minmax", multiple=16).to_toml())
        scale = "minmax"
        multiple = 16
        axes = "xyz"
        binarise = false
        <BLANKLINE>
        """
        values = self.to_dict()
        window = values.pop("window", None)
        table = "" if window is None else f"\n[window]\n{_lines(window)}"
        return _lines(values) + table


def read_preparation(path: str | Path) -> Preparation:
    """Read a `preparation.toml`.

    Raises:
        DataError: the file is missing or is not TOML, or holds an unknown key or value.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError("no such preparation file", where=str(file))
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"the preparation is not TOML: {error}",
            where=str(file),
            fix='write lines such as scale = "zscore", as text in UTF-8',
        ) from error
    return Preparation.from_dict(values, where=str(file))


def _lines(values: dict[str, Any]) -> str:
    # A JSON string, number, boolean or flat list is TOML as well.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Window):
        return value.to_dict()
    return str(value) if isinstance(value, StrEnum) else value


def _check_range(preparation: Preparation) -> None:
    rules: tuple[tuple[str, bool, str], ...] = (
        ("multiple", _is_count(preparation.multiple), "a whole number of at least 1"),
        ("channels", preparation.channels is None or _is_count(preparation.channels), "at least 1"),
        ("axes", _is_order(preparation.axes), "xyz, zyx or another order of these"),
        *((name, _is_choice(getattr(preparation, name), kind), _words(kind)) for name, kind in _CHOICES[1:]),
        *((name, isinstance(getattr(preparation, name), bool), "true or false") for name in _SWITCHES),
        *((name, _are_sides(getattr(preparation, name)), "sides of at least 1") for name in _SIDES),
        ("mean", _are_numbers(preparation.mean), "a list of numbers"),
        ("std", _are_numbers(preparation.std, above=0), "a list of numbers above 0"),
        ("spacing", _are_numbers(preparation.spacing, above=0), "a list of numbers above 0"),
        ("clip", preparation.clip is None or _is_rising(preparation.clip), "two numbers, the lower first"),
        ("orientation", _is_orientation(preparation.orientation), "three axis codes such as RAS"),
    )
    for name, holds, fix in rules:
        if not holds:
            raise DataError(
                f"{name} of {getattr(preparation, name)!r} cannot be used",
                where=f"preparation: {name}",
                fix=fix,
            )


def _is_choice(value: Any, kind: type[StrEnum]) -> bool:
    return value in tuple(kind) or (value is None and kind in (Scale, Foreground))


def _words(kind: type[StrEnum]) -> str:
    return f"one of {', '.join(kind)}"


def _are_sides(sides: tuple[Any, ...] | None) -> bool:
    return all(_is_count(side) for side in sides or ())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_order(axes: Any) -> bool:
    return isinstance(axes, str) and sorted(axes) == ["x", "y", "z"]


def _is_rising(clip: tuple[float, ...]) -> bool:
    return _are_numbers(clip) and len(clip) == 2 and clip[0] < clip[1]


def _are_numbers(values: tuple[Any, ...] | None, above: float = -math.inf) -> bool:
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values or ())
    return plain and all(above < value < math.inf for value in values or ())


def _is_orientation(codes: str | None) -> bool:
    pairs = ("LR", "AP", "IS")
    known = isinstance(codes, str) and len(codes) == 3
    return codes is None or (known and all(sum(c in pair for c in codes) == 1 for pair in pairs))
