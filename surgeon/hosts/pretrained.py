"""Folders written by `save_pretrained`: segmentation_models_pytorch, transformers, diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from surgeon.errors import HostError
from surgeon.fitting import load_checkpoint
from surgeon.modes import in_eval

from .host import Host
from .libraries import read_json, require


def open_pretrained(folder: Path, *, trust: bool = False) -> Host:
    """Open a folder with `config.json` and weights.

    Args:
        folder: what `save_pretrained` wrote.
        trust: whether a pickled checkpoint may run code; safetensors never do.

    Raises:
        HostError: the library is missing or does not know the network, or the form is another.
        CheckpointError: the weights do not fit.
    """
    config = read_json(folder / "config.json")
    if "_model_class" in config:
        return _open_smp(folder, config, trust)
    if "_class_name" in config:
        return _open_hub(folder, "diffusers", str(config["_class_name"]))
    if config.get("architectures"):
        return _open_hub(folder, "transformers", str(config["architectures"][0]))
    raise HostError(
        "config.json names no network of segmentation_models_pytorch, transformers or diffusers",
        where=str(folder),
        fix="write the folder with the network's own save_pretrained",
    )


def _open_smp(folder: Path, config: dict[str, Any], trust: bool) -> Host:
    library = require("segmentation_models_pytorch", str(folder))
    # The weights of the folder replace those of the encoder: nothing has to be downloaded.
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    arguments["encoder_weights"] = None
    network = _built(_class_of(library, str(config["_model_class"]), folder), arguments, folder)
    files = [folder / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((file for file in files if file.is_file()), files[0])
    report = ("segmentation_models_pytorch folder", *load_checkpoint(network, file, trust=trust))
    return Host(in_eval(network), str(folder), type(network).__name__, report=report)


def _open_hub(folder: Path, library_name: str, class_name: str) -> Host:
    library = require(library_name, str(folder))
    kind = _class_of(library, class_name, folder)
    try:
        network = kind.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HostError(f"{library_name} cannot open the folder: {first[:200]}", where=str(folder)) from error
    return Host(in_eval(network), str(folder), class_name, report=(f"{library_name} folder",))


def _class_of(library: Any, name: str, folder: Path) -> Any:
    kind = getattr(library, name, None)
    if kind is None:
        raise HostError(
            f"{library.__name__} {getattr(library, '__version__', '')} has no network {name!r}",
            where=str(folder / "config.json"),
            fix="install the version that wrote the folder",
        )
    return kind


def _built(kind: Any, arguments: dict[str, Any], folder: Path) -> nn.Module:
    try:
        network: nn.Module = kind(**arguments)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise HostError(
            f"the network cannot be built from config.json: {first[:200]}", where=str(folder / "config.json")
        ) from error
    return network
