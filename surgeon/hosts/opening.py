"""One door for every form of host."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surgeon.checkpoints import is_torchscript
from surgeon.errors import HostError, InputError
from surgeon.filling import fill_inputs, split_image
from surgeon.fitting import load_checkpoint
from surgeon.modes import in_eval
from surgeon.wrappers import innermost

from .bundles import find_config, open_bundle
from .factories import build_host
from .host import Host
from .nnunet import open_nnunet
from .pretrained import open_pretrained
from .programs import open_program
from .scripts import open_script

FORMS = (
    "package.module:factory, file.py:factory, a .pt2 or TorchScript file, or the folder of a MONAI bundle, "
    "of an nnU-Net result or of save_pretrained"
)


def load(
    spec: str,
    checkpoint: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
    strict: bool = True,
    forward: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Open a host and return its network in eval mode; see `open_host`.

    Raises:
        HostError: as `open_host`.
        CheckpointError: as `open_host`.
        InputError: as `open_host`.
    """
    return open_host(spec, checkpoint, arguments, trust=trust, strict=strict, forward=forward).module


def open_host(
    spec: str,
    checkpoint: str | Path | None = None,
    arguments: Mapping[str, Any] | None = None,
    *,
    trust: bool = False,
    strict: bool = True,
    forward: Mapping[str, Any] | None = None,
) -> Host:
    """Open a host in any of its forms.

    Args:
        spec: `package.module:factory`, `path/to/file.py:factory`, a `.pt2` exported program, a TorchScript
            program, or a folder: a MONAI bundle, an nnU-Net result, or what `save_pretrained` wrote.
        checkpoint: weights to load into it; not for a `.pt2`, which holds its own.
        arguments: keyword arguments of a factory.
        trust: whether a checkpoint may run code while it is read.
        strict: whether the checkpoint must have the names of the network, no more and no fewer.
        forward: values for inputs of the network's forward that are no tensors: `{"inference": True}`.

    Raises:
        HostError: it cannot be found, imported or built.
        CheckpointError: the weights cannot be read or do not fit.
        InputError: the forward has no such inputs.
    """
    spec = str(spec)
    place = Path(spec)
    if place.is_dir():
        host = _open_folder(place, arguments, trust)
    elif place.suffix == ".pt2":
        return _open_pt2(place, checkpoint, {**(arguments or {}), **(forward or {})})
    elif place.is_file() and is_torchscript(place):
        host = _open_script(place, arguments)
    elif ":" in spec:
        network = innermost(build_host(spec, arguments))
        host = Host(in_eval(network), spec, type(network).__name__)
    else:
        raise _unknown(spec)
    if checkpoint is not None:
        host = _with_checkpoint(host, Path(checkpoint), trust, strict)
    if forward:
        fill_inputs(host.module, forward)
    return _in_float32(host)


def join_inputs(host: Host, shapes: Sequence[tuple[int, ...]]) -> Host:
    """Return a host of several images as one of a single image with the channels of all, in their order.

    Args:
        host: its network is changed in place.
        shapes: of its inputs, each `(N, C, *spatial)`.

    Raises:
        InputError: they are not images of one size, or the network is a program.
    """
    if min(map(len, shapes)) < 3 or len({(shape[0], *shape[2:]) for shape in shapes}) > 1:
        words = ", ".join(str(tuple(shape)) for shape in shapes)
        raise InputError(
            f"the network's {len(shapes)} inputs cannot be the channels of one image",
            where=f"inputs of the shapes {words}",
            fix="give images of one size with --input, and what is none with --forward NAME=VALUE; or hand "
            "in a module that makes the other inputs of the image",
        )
    channels = tuple(shape[1] for shape in shapes)
    split_image(host.module, channels)
    note = f"each image holds the network's {len(shapes)} inputs: channels {' + '.join(map(str, channels))}"
    example = None if host.example is None else (torch.cat(host.example, 1),)
    return dataclasses.replace(host, example=example, report=(*host.report, note), channels=channels)


def _with_checkpoint(host: Host, file: Path, trust: bool, strict: bool) -> Host:
    notes = load_checkpoint(host.module, file, trust=trust, strict=strict)
    return dataclasses.replace(host, report=host.report + notes)


def _open_pt2(place: Path, checkpoint: str | Path | None, arguments: Mapping[str, Any] | None) -> Host:
    if not place.is_file():
        raise HostError("no such file", where=str(place), fix="give an existing .pt2 file")
    if checkpoint is not None or arguments:
        raise HostError(
            "an exported program holds its own weights and takes no arguments",
            where=str(place),
            fix="leave out --checkpoint, --arg and --forward",
        )
    module, example = open_program(place)
    return Host(module, str(place), place.stem, example)


def _open_script(place: Path, arguments: Mapping[str, Any] | None) -> Host:
    if arguments:
        raise HostError("a TorchScript program takes no arguments", where=str(place), fix="leave out --arg")
    network = open_script(place)
    return Host(network, str(place), str(network.original_name))


def _in_float32(host: Host) -> Host:
    """Compute in float32 where all weights are of another type: implants and exports are made from there."""
    kinds = {tensor.dtype for tensor in host.module.parameters() if tensor.is_floating_point()}
    if len(kinds) != 1 or torch.float32 in kinds:
        return host
    name = str(kinds.pop()).removeprefix("torch.")
    return dataclasses.replace(
        host, module=host.module.float(), report=(*host.report, f"weights in {name} are computed in float32")
    )


def _open_folder(place: Path, arguments: Mapping[str, Any] | None, trust: bool) -> Host:
    if (place / "plans.json").is_file():
        return open_nnunet(place, arguments, trust=trust)
    if arguments:
        raise HostError(
            "a folder describes its network and takes no arguments", where=str(place), fix="leave out --arg"
        )
    if find_config(place) is not None:
        return open_bundle(place, trust=trust)
    if (place / "config.json").is_file():
        return open_pretrained(place, trust=trust)
    raise HostError(
        "the folder holds no host: no plans.json, configs/inference.json or config.json",
        where=str(place),
        fix=f"give {FORMS}",
    )


def _unknown(spec: str) -> HostError:
    if spec.endswith(".py"):
        return HostError("the factory in the file is not named", where=spec, fix=f"write {spec}:NAME")
    if Path(spec).is_file():
        return HostError(
            "a file of weights is no network",
            where=spec,
            fix="name the code that builds it, and give the file with --checkpoint",
        )
    kind = "no such file or folder" if "/" in spec or spec.endswith(".pt2") else "no host is named so"
    return HostError(kind, where=spec, fix=f"give {FORMS}")
