"""What a MONAI bundle does with an image before and after its network, as one preparation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from surgeon.data import Back, Foreground, Preparation, Scale, Window

from .steps import UnknownStepError, is_true, read_step, short_name

_AFFINE = (Scale.NONE, Scale.MINMAX, Scale.ZSCORE)


def read_preparation(
    transforms: Sequence[Any], *, channels: int, dims: int, window: Window | None, multiple: int
) -> Preparation:
    """Turn the transforms before a network into a preparation.

    Args:
        transforms: their definitions, references in them resolved.
        channels: that the network takes.
        dims: spatial axes that the network takes.
        window: that the network sees images through.
        multiple: of the sides of whole images, where nothing pads them.

    Raises:
        UnknownStepError: one of them, or their order, cannot be done here in the same way.
    """
    image = _image_key(transforms)
    steps = [read_step(transform, channels, dims) for transform in transforms if _concerns(transform, image)]
    values: dict[str, Any] = {"scale": Scale.NONE, "axes": "xyz", "window": window, "multiple": multiple}
    if dims == 2:
        values["transposed"] = True
    for step in steps:
        if step.kind != "scale":
            values.update(step.values)
    values.update(_combined([step.values for step in steps if step.kind == "scale"]))
    return Preparation(**values, **_order("".join(_LETTERS.get(step.kind, "") for step in steps)))


_LETTERS = {"resample": "R", "scale": "S", "crop": "C", "pad": "P"}


def _order(letters: str) -> dict[str, Any]:
    """Return when the foreground is cut out and intensities are scaled; one letter for each transform.

    Raises:
        UnknownStepError: the order is another.
    """
    if re.fullmatch("CR?S*P*", letters):
        return {"crop_foreground": Foreground.RAW}
    if re.fullmatch("R?S*CP*", letters):
        return {"crop_foreground": Foreground.SCALED}
    if re.fullmatch("S+CRP*", letters):
        return {"crop_foreground": Foreground.SCALED, "scale_first": True}
    if re.fullmatch("R?S*P*", letters):
        return {}
    if re.fullmatch("S+RP*", letters):
        return {"scale_first": True}
    words = {letter: kind for kind, letter in _LETTERS.items()}
    raise UnknownStepError(f"the order {', '.join(words[letter] for letter in letters)}")


def _image_key(transforms: Sequence[Any]) -> str | None:
    """Return the key of the image: the first that the first transform is for."""
    keys = next((t.get("keys") for t in transforms if isinstance(t, Mapping) and t.get("keys")), None)
    return keys if keys is None or isinstance(keys, str) else str(keys[0])


def _concerns(transform: Any, image: str | None) -> bool:
    if not isinstance(transform, Mapping):
        return True
    keys = transform.get("keys")
    of_others = keys is not None and image is not None and image not in ([keys] if _is_word(keys) else keys)
    return not of_others and not transform.get("_disabled_")


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _combined(scalings: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Join what happens to intensities, one after the other, into one step of a preparation.

    Raises:
        UnknownStepError: they cannot be joined.
    """
    joined: dict[str, Any] = {"scale": Scale.NONE}
    for scaling in scalings:
        joined = _joined(joined, scaling)
    return joined


def _joined(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    if first == {"scale": Scale.NONE}:
        return second
    shifted = {"mean", "std"} & set(first)
    alike = first["scale"] is Scale.NONE or first.get("together") == second.get("together")
    if second["scale"] is Scale.NONE and "clip" not in second and not shifted:
        return first | {key: value for key, value in second.items() if key in ("mean", "std")}
    if second["scale"] in (Scale.MINMAX, Scale.ZSCORE) and alike and "then" not in first:
        if first["scale"] in _AFFINE:
            # Whatever was added to all values, or multiplied with, statistics take out again.
            return second | ({"clip": first["clip"]} if "clip" in first else {})
        if not shifted:
            return second | {"scale": first["scale"], "then": second["scale"]}
    raise UnknownStepError(f"{second['scale'].value} scaling after {first['scale'].value}")


def read_way_back(transforms: Sequence[Any]) -> tuple[Back, tuple[str, ...]]:
    """Read the transforms after a network.

    Returns:
        what is brought back to the file's grid, and the names of those that are not taken over.
    """
    names = [short_name(transform) for transform in transforms]
    others = tuple(name for name in names if name not in _ENDS)
    if "Invert" not in names:
        return Back.PROBABILITIES, others
    before = names[: names.index("Invert")]
    if "AsDiscrete" in before:
        mixed = not is_true(transforms[names.index("Invert")].get("nearest_interp", True))
        return Back.LABELS, (*others, *(("Invert of labels by mixing",) if mixed else ()))
    return (Back.PROBABILITIES if "Activations" in before else Back.LOGITS), others


# What ends a prediction: shares, labels and files of them.
_ENDS = (
    "Activations",
    "AsDiscrete",
    "Invert",
    "SaveImage",
    "EnsureType",
    "CastToType",
    "ToTensor",
    "ToDevice",
    "FromMetaTensor",
    "DeleteItems",
)
