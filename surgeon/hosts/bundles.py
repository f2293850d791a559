"""MONAI bundle folders."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from surgeon.checkpoints import load_weights, read_checkpoint
from surgeon.data import Placing, Preparation, Resampling, Scale, Weighting, Window
from surgeon.errors import HostError

from .host import Host
from .inputs import first_layout

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "evaluate.json", "train.json", "train.yaml")
_WEIGHTS = ("model.safetensors", "model.pt", "model.pth")
_NETWORKS = ("network_def", "network", "net")
# Transforms that change neither intensities nor geometry.
_PLAIN = (
    "LoadImage",
    "EnsureChannelFirst",
    "EnsureType",
    "CastToType",
    "ToTensor",
    "AddChannel",
    "AsDiscrete",
)


def find_config(folder: Path) -> Path | None:
    """Return the configuration of a MONAI bundle that describes its network; None if it is no bundle."""
    files = (folder / "configs" / name for name in _CONFIGS)
    return next((file for file in files if file.is_file()), None)


def open_bundle(folder: Path, *, trust: bool = False) -> Host:
    """Open a MONAI bundle. Its configuration is code: expressions in it are run.

    Args:
        folder: with `configs/inference.json` (or YAML) and `models/model.pt`.
        trust: whether the checkpoint may run code.

    Raises:
        HostError: the configuration cannot be read or names no network, or the weights are missing.
        CheckpointError: the weights cannot be read or do not fit.
    """
    file = find_config(folder)
    if file is None:
        raise HostError(
            "the bundle has no configs/inference.json", where=str(folder), fix="give a whole bundle"
        )
    with _own_scripts(folder):
        config, network = _parse(folder, file)
    weights = next((folder / "models" / n for n in _WEIGHTS if (folder / "models" / n).is_file()), None)
    if weights is None:
        raise HostError("the bundle has no models/model.pt", where=str(folder), fix="download its weights")
    content = read_checkpoint(weights, trust=trust)
    notes = load_weights(network, content.weights, where=str(weights))
    layout = first_layout(network)
    preparation, remark = _preparation(
        config.get("preprocessing"), config.get("inferer"), 1 if layout is None else layout[0]
    )
    report = (f"MONAI bundle, {file.name}", *content.report, *notes, *remark)
    return Host(network.eval(), str(folder), type(network).__name__, None, preparation, report)


@contextmanager
def _own_scripts(folder: Path) -> Iterator[None]:
    """Let the bundle's `scripts` be imported while its configuration is read, and leave nothing behind."""
    before = dict(sys.modules)
    path = list(sys.path)
    if (folder / "scripts").is_dir():
        sys.path.insert(0, str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name.partition(".")[0] == "scripts"]:
            del sys.modules[name]
        sys.modules.update({n: m for n, m in before.items() if n.partition(".")[0] == "scripts"})


def _parse(folder: Path, file: Path) -> tuple[dict[str, Any], nn.Module]:
    from monai.bundle import ConfigParser

    try:
        parser = ConfigParser()
        parser.read_config(str(file))
        parser["bundle_root"] = str(folder)
        config = dict(parser.get())
        name = next((name for name in _NETWORKS if name in config), None)
        network = None if name is None else parser.get_parsed_content(name)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HostError(
            f"the bundle's configuration cannot be read: {first[:200]}", where=str(file)
        ) from error
    if not isinstance(network, nn.Module):
        raise HostError(
            f"the bundle's configuration defines no network: none of {', '.join(_NETWORKS)}", where=str(file)
        )
    return config, network


def _preparation(
    preprocessing: Any, inferer: Any, channels: int
) -> tuple[Preparation | None, tuple[str, ...]]:
    """Read the transforms of a bundle; what is not understood leaves the preparation to the user."""
    transforms = preprocessing.get("transforms") if isinstance(preprocessing, Mapping) else None
    if not isinstance(transforms, list):
        return None, ("the bundle declares no list of transforms: no preparation taken over",)
    window, remark = _window(inferer)
    # Without a window the network sees whole images, whose sides have to suit its levels.
    values: dict[str, Any] = {"scale": Scale.NONE, "axes": "xyz", "window": window}
    values["multiple"] = 1 if window is not None else 16
    for transform in transforms:
        # A list or expression may stand for a transform; only plain definitions are read.
        name = str(transform.get("_target_", "")) if isinstance(transform, Mapping) else str(transform)
        short = name.rpartition(".")[2].removesuffix("d").removesuffix("D")
        if short in _PLAIN:
            continue
        read = _read_transform(short, transform, channels) if isinstance(transform, Mapping) else None
        if read is None:
            return None, (f"preparation not taken over: the transform {name or transform} is not known here",)
        values.update(read)
    return Preparation(**values), ("preparation taken from the bundle's transforms", *remark)


def _window(inferer: Any) -> tuple[Window | None, tuple[str, ...]]:
    """Read the sliding window of a bundle; without one images are shown whole."""
    if not isinstance(inferer, Mapping) or str(inferer.get("_target_", "")).endswith("SimpleInferer"):
        return None, ()
    size, overlap = inferer.get("roi_size"), inferer.get("overlap", 0.25)
    plain = isinstance(size, list) and all(isinstance(side, int) and side > 0 for side in size)
    if not str(inferer.get("_target_", "")).endswith("SlidingWindowInferer") or not plain:
        return None, (f"window not taken over: the inferer {dict(inferer)} is not known here"[:200],)
    weights = Weighting(str(inferer.get("mode", "constant")))
    return Window(tuple(size or ()), float(overlap), placing=Placing.STRIDE, weights=weights), ()


def _read_transform(name: str, values: Mapping[str, Any], channels: int) -> dict[str, Any] | None:
    # What is taken over all channels at once is the same as for each where there is one.
    each = channels == 1 or bool(values.get("channel_wise"))
    if name == "ScaleIntensity" and each and not {"minv", "maxv", "factor"} & set(values):
        return {"scale": Scale.MINMAX}
    if name == "NormalizeIntensity" and each and not {"subtrahend", "divisor", "nonzero"} & _truthy(values):
        return {"scale": Scale.ZSCORE}
    if name == "ScaleIntensityRange" and values.get("clip") and (values["b_min"], values["b_max"]) == (0, 1):
        low, high = float(values["a_min"]), float(values["a_max"])
        return {"clip": (low, high), "mean": (low,), "std": (high - low,)}
    if name == "Orientation" and isinstance(values.get("axcodes"), str):
        return {"orientation": values["axcodes"]}
    if name == "Spacing" and isinstance(values.get("pixdim"), list):
        spacing = tuple(float(size) for size in values["pixdim"])
        return {"spacing": spacing, "resampling": Resampling.ORIGIN}
    return None


def _truthy(values: Mapping[str, Any]) -> set[str]:
    return {key for key, value in values.items() if value not in (None, False)}
