"""nnU-Net v2 result folders, opened without nnU-Net.

`plans.json` names the class of the network and its arguments, `dataset.json` channels and labels,
`fold_*/checkpoint_final.pth` holds the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgeon.checkpoints import all_weights, read_content
from surgeon.data import Preparation, Resampling, Scale, Window, declared_legend
from surgeon.errors import HostError
from surgeon.fitting import load_weights
from surgeon.modes import in_eval

from .host import Host
from .libraries import read_json, require

_BUILDERS = "dynamic_network_architectures"
_RESAMPLING = "resample_data_or_seg_to_shape"


def open_nnunet(folder: Path, arguments: Mapping[str, Any] | None = None, *, trust: bool = False) -> Host:
    """Open the result folder of a trainer, such as `nnUNetTrainer__nnUNetPlans__2d`.

    Args:
        folder: with `plans.json`, `dataset.json` and `fold_*`.
        arguments: `fold` ("0", ..., "all") and `checkpoint` (a file name); the first fold that is finished,
            and `checkpoint_final.pth`, where left out.
        trust: whether the checkpoint may run code.

    Raises:
        HostError: a file is missing, the plans are of a form that is not supported, or the library that
            defines the network is not installed.
        CheckpointError: the weights cannot be read or do not fit.
    """
    plans, dataset = read_json(folder / "plans.json"), read_json(folder / "dataset.json")
    file = _choose_checkpoint(folder, dict(arguments or {}))
    content = read_content(file, trust=trust)
    found = next(all_weights(content), None)
    if found is None or not isinstance(content, Mapping):
        raise HostError("the checkpoint holds no network_weights", where=str(file))
    name = str((content.get("init_args") or {}).get("configuration") or folder.name.split("__")[-1])
    settings = _configuration(plans, name, folder)
    network = _build(settings, dataset, folder)
    notes = load_weights(network, found[1], where=str(file))
    preparation, remarks = _preparation(plans, settings, dataset, _mirror_axes(content))
    report = (f"nnU-Net configuration {name}, {file.parent.name}/{file.name}", *notes, *remarks)
    example = (_example(settings, _channels(dataset)),)
    legend = declared_legend(dataset, str(folder / "dataset.json"))
    return Host(
        in_eval(network),
        str(folder),
        type(network).__name__,
        example,
        preparation,
        report,
        legend.classes,
        legend.regions,
    )


def _choose_checkpoint(folder: Path, arguments: dict[str, Any]) -> Path:
    unknown = sorted(set(arguments) - {"fold", "checkpoint"})
    if unknown:
        raise HostError(
            f"an nnU-Net result takes no argument {unknown[0]!r}",
            where=str(folder),
            fix="give fold or checkpoint",
        )
    name = str(arguments.get("checkpoint", "checkpoint_final.pth"))
    fold = f"fold_{arguments['fold']}" if "fold" in arguments else "fold_*"
    files = sorted(folder.glob(f"{fold}/{name}"))
    if not files:
        raise HostError(
            f"no finished fold: there is no {fold}/{name}",
            where=str(folder),
            fix="train to the end, or name another file with --arg checkpoint=checkpoint_best.pth",
        )
    return files[0]


def _configuration(plans: Mapping[str, Any], name: str, folder: Path) -> dict[str, Any]:
    known = plans.get("configurations") or {}
    if name not in known:
        raise HostError(
            f"the plans have no configuration {name!r}",
            where=str(folder / "plans.json"),
            fix=f"they have {', '.join(known) or 'none'}",
        )
    settings = dict(known[name])
    while "inherits_from" in settings:
        parent = dict(known[settings.pop("inherits_from")])
        settings = {**parent, **settings}
    if "architecture" not in settings:
        raise HostError(
            "plans written before nnU-Net 2.4 are not supported yet: they name no architecture",
            where=str(folder / "plans.json"),
            fix="plan again with a newer nnU-Net; weights stay valid",
        )
    if settings.get("previous_stage"):
        raise HostError(
            "the second stage of a cascade is not supported yet: it also takes the first stage's prediction",
            where=f"{folder}: configuration {name}",
            fix=f"give the result of {settings['previous_stage']}, its first stage, or of 2d or 3d_fullres",
        )
    return settings


def _build(settings: Mapping[str, Any], dataset: Mapping[str, Any], folder: Path) -> nn.Module:
    design = settings["architecture"]
    place, _, name = str(design["network_class_name"]).rpartition(".")
    if not place.startswith(f"{_BUILDERS}."):
        raise HostError(
            f"the network {place}.{name} is not one of {_BUILDERS}",
            where=str(folder / "plans.json"),
            fix="give the code that builds it as HOST, and the checkpoint with --checkpoint",
        )
    arguments = dict(design["arch_kwargs"])
    for key in design.get("_kw_requires_import", ()):
        if arguments.get(key) is not None:
            home, _, attribute = str(arguments[key]).rpartition(".")
            arguments[key] = getattr(require(home, str(folder)), attribute)
    kind = getattr(require(place, str(folder)), name, None)
    if kind is None:
        raise HostError(f"{place} has no {name!r}", where=str(folder), fix=f"install a newer {_BUILDERS}")
    network: nn.Module = kind(
        input_channels=_channels(dataset), num_classes=_heads(dataset), deep_supervision=False, **arguments
    )
    return network


def _channels(dataset: Mapping[str, Any]) -> int:
    return len(dataset.get("channel_names") or dataset.get("modality") or {"0": "image"})


def _heads(dataset: Mapping[str, Any]) -> int:
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    regions = any(isinstance(value, list | tuple) for value in labels.values())
    # Regions overlap: each has a sigmoid of its own, and the background none.
    return len(labels) - 1 if regions else len(labels)


def _stride(settings: Mapping[str, Any]) -> list[int]:
    strides = settings["architecture"]["arch_kwargs"]["strides"]
    dims = len(settings["patch_size"])
    steps = [[step] * dims if isinstance(step, int) else list(step) for step in strides]
    return [math.prod(step[axis] for step in steps) for axis in range(dims)]


def _example(settings: Mapping[str, Any], channels: int) -> torch.Tensor:
    # Two positions an axis at the bottom: instance normalisation needs more than one.
    sides = [2 * step for step in _stride(settings)]
    return torch.rand((1, channels, *sides), generator=torch.Generator().manual_seed(0))


def _preparation(
    plans: Mapping[str, Any],
    settings: Mapping[str, Any],
    dataset: Mapping[str, Any],
    mirror: tuple[int, ...] = (),
) -> tuple[Preparation | None, tuple[str, ...]]:
    """Turn what nnU-Net does with an image into a preparation, or say why that cannot be done."""
    schemes, masks = (
        set(settings.get("normalization_schemes") or ()),
        set(settings.get("use_mask_for_norm") or ()),
    )
    if len(schemes) != 1 or len(masks) > 1:
        return None, ("preparation not taken over: channels are treated differently",)
    scale = _scaling(schemes.pop(), plans, dataset)
    if scale is None:
        scheme = next(iter(settings["normalization_schemes"]))
        return None, (f"preparation not taken over: {scheme} is not known here",)
    window = Window(size=tuple(settings["patch_size"]), mirror=mirror)
    common: dict[str, Any] = {
        "axes": "".join("zyx"[axis] for axis in plans.get("transpose_forward", (0, 1, 2))),
        "spacing": tuple(settings["spacing"]) if settings.get("spacing") else None,
        "resampling": Resampling.CUBIC,
        "crop_nonzero": True,
        "mask_nonzero": True in masks and scale["scale"] is Scale.ZSCORE,
        "window": window,
    }
    remarks = ["normalisation, spacing, resampling, cropping and windows are those of the plans"]
    function = settings.get("resampling_fn_data", _RESAMPLING)
    order = (settings.get("resampling_fn_data_kwargs") or {}).get("order", 3)
    if function != _RESAMPLING or order != 3:
        remarks.append(f"the plans resample with {function} of order {order}; here with splines of order 3")
    return Preparation(**scale, **common), tuple(remarks)


def _scaling(scheme: str, plans: Mapping[str, Any], dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how intensities are scaled under a scheme of nnU-Net; None for one that is not known."""
    simple = {
        "ZScoreNormalization": Scale.ZSCORE,
        "RescaleTo01Normalization": Scale.MINMAX,
        "RGBTo01Normalization": Scale.UNIT,
        "NoNormalization": Scale.NONE,
    }
    if scheme in simple:
        return {"scale": simple[scheme]}
    properties = plans.get("foreground_intensities_properties_per_channel") or {}
    if scheme != "CTNormalization" or _channels(dataset) != 1 or "0" not in properties:
        return None
    values = properties["0"]
    return {
        "scale": Scale.NONE,
        "clip": (float(values["percentile_00_5"]), float(values["percentile_99_5"])),
        "mean": (float(values["mean"]),),
        "std": (max(float(values["std"]), 1e-8),),
    }


def _mirror_axes(content: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the axes that the trainer allows to be mirrored when predicting."""
    axes = content.get("inference_allowed_mirroring_axes") or ()
    return tuple(int(axis) for axis in axes)
