"""Single transforms of a MONAI bundle as parts of a preparation.

Only what can be done here exactly alike is taken over; the rest is named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgeon.data import Resampling, Scale

Definition = Mapping[str, Any]
# Neither intensities nor geometry are changed by these.
_PLAIN = (
    "LoadImage",
    "EnsureChannelFirst",
    "EnsureType",
    "CastToType",
    "ToTensor",
    "ToDevice",
    "AddChannel",
    "AsChannelFirst",
    "Identity",
    "SelectItems",
    "DeleteItems",
)
_ANY = ("_target_", "keys", "allow_missing_keys", "lazy", "dtype", "_disabled_")


@dataclass(frozen=True, slots=True)
class Step:
    """One transform as a part of a preparation.

    Attributes:
        kind: `resample`, `scale`, `crop`, `pad`, or empty where its place does not matter.
        values: of the preparation.
    """

    kind: str
    values: dict[str, Any]


class UnknownStepError(Exception):
    """A transform, or an order of transforms, that cannot be done here in the same way."""


def read_step(transform: Any, channels: int, dims: int) -> Step:
    """Turn one transform into a part of a preparation.

    Args:
        transform: its definition, references in it resolved.
        channels: that the network takes.
        dims: spatial axes that the network takes.

    Raises:
        UnknownStepError: it cannot be done here in the same way.
    """
    name = str(transform.get("_target_", "")) if isinstance(transform, Mapping) else str(transform)
    short = short_name(transform)
    if short in _PLAIN:
        return Step("", {})
    reader = _READERS.get(short)
    step = None
    if reader is not None and isinstance(transform, Mapping):
        known, read = reader
        values = {key: value for key, value in transform.items() if key not in _ANY and value is not None}
        if set(values) <= set(known):
            step = read(values, channels, dims)
    if step is None:
        shown = (
            {k: v for k, v in transform.items() if k not in _ANY} if isinstance(transform, Mapping) else {}
        )
        raise UnknownStepError(f"the transform {name}" + (f" with {shown}" if shown else ""))
    return step


def short_name(transform: Any) -> str:
    """Return the class of a transform without its home, and without the d of those for dictionaries."""
    name = str(transform.get("_target_", "")) if isinstance(transform, Mapping) else str(transform)
    short = name.rpartition(".")[2]
    return short.removesuffix("Dict").removesuffix("d").removesuffix("D")


def is_true(value: Any) -> bool:
    """Whether a switch of a bundle is on; some are written as words."""
    return str(value).lower() == "true"


def _statistics(values: Definition, channels: int) -> dict[str, Any]:
    # What is taken over all channels at once is the same as for each where there is one.
    return {"together": channels > 1 and not is_true(values.get("channel_wise"))}


def _minmax(values: Definition, channels: int, _dims: int) -> Step | None:
    low, high = float(values.get("minv", 0.0)), float(values.get("maxv", 1.0))
    scaled = {"scale": Scale.MINMAX, **_statistics(values, channels)}
    return Step("scale", scaled | _from_unit(low, high)) if low < high else None


def _from_unit(low: float, high: float) -> dict[str, Any]:
    """Return mean and deviation that bring 0 to `low` and 1 to `high`."""
    if (low, high) == (0.0, 1.0):
        return {}
    return {"mean": (-low / (high - low),), "std": (1 / (high - low),)}


def _normalise(values: Definition, channels: int, _dims: int) -> Step | None:
    fixed = [values.get(name) for name in ("subtrahend", "divisor")]
    nonzero = is_true(values.get("nonzero"))
    if all(value is None for value in fixed):
        scale = Scale.NONZERO if nonzero else Scale.ZSCORE
        return Step("scale", {"scale": scale, **_statistics(values, channels)})
    given = [value for value in fixed if value is not None]
    if nonzero or len(given) < len(fixed):
        return None
    means, deviations = (
        [float(v) for v in (value if isinstance(value, list) else [value])] for value in given
    )
    return Step("scale", {"scale": Scale.NONE, "mean": tuple(means), "std": tuple(deviations)})


def _range(values: Definition, _channels: int, _dims: int) -> Step | None:
    low, high = float(values["a_min"]), float(values["a_max"])
    to_low, to_high = float(values.get("b_min", 0.0)), float(values.get("b_max", 1.0))
    if not (low < high and to_low < to_high):
        return None
    # low goes to to_low and high to to_high; clipping before or after is the same.
    factor = (high - low) / (to_high - to_low)
    scaled: dict[str, Any] = {"scale": Scale.NONE, "mean": (low - to_low * factor,), "std": (factor,)}
    return Step("scale", scaled | ({"clip": (low, high)} if is_true(values.get("clip")) else {}))


def _orientation(values: Definition, _channels: int, _dims: int) -> Step | None:
    return Step("", {"orientation": values["axcodes"]}) if isinstance(values.get("axcodes"), str) else None


def _spacing(values: Definition, _channels: int, dims: int) -> Step | None:
    sizes = values["pixdim"] if isinstance(values["pixdim"], list | tuple) else [values["pixdim"]]
    sizes = [*map(float, sizes), *[float(sizes[-1])] * (dims - len(sizes))][: max(dims, 3)]
    if _only(values.get("mode", "bilinear")) != "bilinear" or min(sizes) <= 0:
        return None
    return Step("resample", {"spacing": tuple(sizes), "resampling": Resampling.ORIGIN})


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _resize(values: Definition, _channels: int, dims: int) -> Step | None:
    sides, mode = _sides(values["spatial_size"], dims), _only(values.get("mode", "area"))
    if sides is None or min(sides) < 1 or mode not in ("area", {2: "bilinear", 3: "trilinear"}.get(dims)):
        return None
    how = Resampling.AREA if mode == "area" else Resampling.ORIGIN
    return Step("resample", {"resize": sides, "resampling": how})


def _sides(value: Any, dims: int) -> tuple[int, ...] | None:
    sides = tuple(value) if isinstance(value, list | tuple) else (value,) * dims
    return sides if len(sides) == dims and all(isinstance(side, int) for side in sides) else None


def _crop(values: Definition, _channels: int, _dims: int) -> Step | None:
    plain = all(part == 0 for part in _parts(values.get("margin", 0)))
    whole = all(part == 1 for part in _parts(values.get("k_divisible", 1)))
    return Step("crop", {}) if plain and whole else None


def _parts(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _pad_to(values: Definition, _channels: int, dims: int) -> Step | None:
    sides = _sides(values["spatial_size"], dims)
    return None if sides is None else _padding(values, {"pad_to": tuple(max(1, side) for side in sides)})


def _pad_to_multiple(values: Definition, _channels: int, _dims: int) -> Step | None:
    steps = set(_parts(values["k"]))
    return _padding(values, {"multiple": int(steps.pop())}) if len(steps) == 1 else None


def _padding(values: Definition, padding: dict[str, Any]) -> Step | None:
    plain = _only(values.get("mode", "constant")) == "constant" and not values.get("value", 0)
    ends = {"symmetric": True, "end": False}
    method = str(values.get("method", "symmetric"))
    return Step("pad", {**padding, "pad_both": ends[method]}) if plain and method in ends else None


_Reader = Callable[[Definition, int, int], "Step | None"]
# For each transform the arguments that are understood, and what reads them.
_READERS: dict[str, tuple[tuple[str, ...], _Reader]] = {
    "ScaleIntensity": (("minv", "maxv", "channel_wise"), _minmax),
    "NormalizeIntensity": (("subtrahend", "divisor", "nonzero", "channel_wise"), _normalise),
    "ScaleIntensityRange": (("a_min", "a_max", "b_min", "b_max", "clip"), _range),
    "Orientation": (("axcodes",), _orientation),
    "Spacing": (("pixdim", "mode"), _spacing),
    "Resize": (("spatial_size", "mode"), _resize),
    "CropForeground": (("source_key", "margin", "k_divisible", "allow_smaller", "mode"), _crop),
    "SpatialPad": (("spatial_size", "mode", "method", "value"), _pad_to),
    "DivisiblePad": (("k", "mode", "method", "value"), _pad_to_multiple),
}
