"""MONAI bundle folders."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from surgeon.data import Padding, Placing, Preparation, Resampling, Scale, Weighting, Window
from surgeon.errors import DataError, HostError
from surgeon.fitting import load_checkpoint
from surgeon.modes import in_eval

from .host import Host
from .inputs import first_layout, smallest_multiple
from .steps import UnknownStepError, short_name
from .transforms import read_preparation, read_way_back

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml", "evaluate.json", "train.json", "train.yaml")
_WEIGHTS = ("model.safetensors", "model.pt", "model.pth", "model.ts")
_NETWORKS = ("network_def", "network", "net")
# A list of transforms that is put together of others: "$@first + @second".
_JOINED = re.compile(r"\$?\s*@[\w#]+(\s*\+\s*@[\w#]+)*\s*")


def find_config(folder: Path) -> Path | None:
    """Return the configuration of a MONAI bundle that describes its network; None if it is no bundle."""
    files = (folder / "configs" / name for name in _CONFIGS)
    return next((file for file in files if file.is_file()), None)


def open_bundle(folder: Path, *, trust: bool = False) -> Host:
    """Open a MONAI bundle. Its configuration is code: expressions in it are run.

    Args:
        folder: with `configs/inference.json` (or YAML) and `models/model.pt`, or `model.ts`.
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
        parser, network = _parse(folder, file)
        design = _Design(*(_definitions(parser, name) for name in _PARTS))
    weights = next((folder / "models" / n for n in _WEIGHTS if (folder / "models" / n).is_file()), None)
    if weights is None:
        raise HostError("the bundle has no models/model.pt", where=str(folder), fix="download its weights")
    notes = load_checkpoint(network, weights, trust=trust)
    preparation, remarks = _preparation(design, in_eval(network))
    report = (f"MONAI bundle, {file.name}", *notes, *remarks)
    classes = _class_names(folder, design)
    return Host(network, str(folder), type(network).__name__, None, preparation, report, classes)


_PARTS = ("preprocessing", "inferer", "postprocessing")


@dataclass(frozen=True, slots=True)
class _Design:
    """What a bundle does around its network: definitions, with references in them resolved."""

    before: Any
    inferer: Any
    after: Any


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


def _parse(folder: Path, file: Path) -> tuple[Any, nn.Module]:
    from monai.bundle import ConfigParser

    try:
        parser = ConfigParser()
        parser.read_config(str(file))
        parser["bundle_root"] = str(folder)
        name = next((name for name in _NETWORKS if name in parser.get()), None)
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
    return parser, network


def _definitions(parser: Any, name: str) -> Any:
    """Return the definition under a name; for a chain of transforms, a list of theirs.

    References and expressions are resolved where that can be done without building what they stand for.
    """
    raw = parser.get(name)
    if isinstance(raw, str) and _JOINED.fullmatch(raw):
        parts = [_definitions(parser, part) for part in re.findall(r"@([\w#]+)", raw)]
        return [one for part in parts for one in part] if all(isinstance(p, list) for p in parts) else raw
    if isinstance(raw, Mapping) and "transforms" in raw:
        return _definitions(parser, f"{name}#transforms")
    return _resolved(parser, name, raw)


def _resolved(parser: Any, name: str, raw: Any) -> Any:
    if isinstance(raw, Mapping):
        # What a transform inverts is another chain, not a value of its own.
        return {k: v if k == "transform" else _resolved(parser, f"{name}#{k}", v) for k, v in raw.items()}
    if isinstance(raw, list):
        return [_resolved(parser, f"{name}#{index}", value) for index, value in enumerate(raw)]
    if isinstance(raw, str) and raw[:1] in ("@", "$"):
        with contextlib.suppress(Exception):  # an expression runs its author's code
            return parser.get_parsed_content(name)
    return raw


def _preparation(design: _Design, network: nn.Module) -> tuple[Preparation | None, tuple[str, ...]]:
    """Read what happens around the network; what is not understood leaves the preparation to the user."""
    if not isinstance(design.before, list):
        return None, ("the bundle declares no list of transforms: no preparation taken over",)
    channels, dims = first_layout(network) or (1, 3)
    try:
        window = _window(design.inferer, dims)
        padded = any(short_name(transform).endswith("Pad") for transform in design.before)
        # Without a window the network sees whole images, whose sides have to suit its levels.
        multiple = 1 if window is not None or padded else smallest_multiple(network, (channels, dims))
        found = read_preparation(
            design.before, channels=channels, dims=dims, window=window, multiple=multiple
        )
        _check_slices(design.inferer, found)
    except UnknownStepError as unknown:
        return None, (f"preparation not taken over: {unknown} is not known here"[:300],)
    except (KeyError, TypeError, ValueError, DataError) as error:
        return None, (f"preparation not taken over: a transform cannot be read ({error!s})"[:300],)
    back, others = read_way_back(design.after) if isinstance(design.after, list) else (found.back, ())
    remarks = ["preparation taken from the bundle's transforms"]
    if Scale.NONZERO in (found.scale, found.then) and found.spacing is not None and found.scales_last:
        remarks.append(
            "what is not zero is told after resampling: next to exact zeros, MONAI's rounding may differ"
        )
    if others:
        remarks.append(f"postprocessing not taken over: {', '.join(others)}")
    return dataclasses.replace(found, back=back), tuple(remarks)


def _window(inferer: Any, dims: int) -> Window | None:
    """Read the sliding window of a bundle; without one images are shown whole.

    Raises:
        UnknownStepError: the inferer is another.
    """
    name = short_name(inferer) if isinstance(inferer, Mapping) else ""
    if not isinstance(inferer, Mapping) or name == "SimpleInferer":
        return None
    size, overlap = inferer.get("roi_size"), inferer.get("overlap", 0.25)
    size = [size] * dims if isinstance(size, int) else size if isinstance(size, list | tuple) else ()
    plain = bool(size) and all(isinstance(side, int) and side > 0 for side in size)
    along = name == "SlidingWindowInferer" or (name == "SliceInferer" and inferer.get("spatial_dim") == 2)
    if not (along and plain and len(size) == dims) or isinstance(overlap, list) or inferer.get("cval"):
        raise UnknownStepError(f"the inferer {dict(inferer)}"[:200])
    return Window(
        tuple(size),
        float(overlap),
        placing=Placing.STRIDE,
        weights=Weighting(str(inferer.get("mode", "constant"))),
        padding=Padding(str(inferer.get("padding_mode", "constant"))),
    )


def _check_slices(inferer: Any, preparation: Preparation) -> None:
    """Refuse to prepare slices one by one where the bundle prepares the volume.

    Raises:
        UnknownStepError: the steps do not say the same of a slice as of its volume.
    """
    sliced = isinstance(inferer, Mapping) and short_name(inferer) == "SliceInferer"
    if sliced and preparation.moves_voxels and preparation.resampling is not Resampling.LINEAR:
        raise UnknownStepError("resampling of volumes before they are sliced")


def _class_names(folder: Path, design: _Design) -> tuple[str, ...] | None:
    """Return the names of the classes, where metadata.json has them and they exclude each other."""
    file = folder / "configs" / "metadata.json"
    after = design.after if isinstance(design.after, list) else []
    exclusive = any(step.get("softmax") or step.get("argmax") for step in after if isinstance(step, Mapping))
    if not file.is_file() or not exclusive:
        return None
    try:
        outputs = json.loads(file.read_text(encoding="utf-8"))["network_data_format"]["outputs"]
        named = next(iter(outputs.values()))["channel_def"]
        names = tuple(str(named[str(index)]) for index in range(len(named)))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    return names if len(names) > 1 and len(set(names)) == len(names) else None
