"""Weights read safely from a file, and fitted into a network."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surgeon.errors import CheckpointError

Weights = dict[str, Tensor]

# Where training code puts the weights, the likeliest first; averaged copies only where nothing else is.
_NESTS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "network_weights",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "ema_state_dict",
    "model_ema",
    "ema",
)
# A dictionary may hold itself.
_DEEPEST = 8
# What wrappers put before every name: DataParallel, torch.compile, Lightning, training scripts.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a file.

    Attributes:
        path: the file.
        weights: tensors by name, prefixes of wrappers still on.
        report: where in the file they were.
    """

    path: Path
    weights: Weights
    report: tuple[str, ...]


def read_checkpoint(path: str | Path, *, trust: bool = False) -> Checkpoint:
    """Read the weights of a `.safetensors`, `.pt`, `.pth`, `.ckpt` or `.tar` file.

    Nothing in the file is run, unless `trust` is given: then a pickle may run any code it likes.

    Args:
        path: the file.
        trust: whether to unpickle objects other than tensors and plain values.

    Raises:
        CheckpointError: the file is missing or cannot be read, would run code, is TorchScript, or holds no
            weights.
    """
    file = Path(path)
    content = read_content(file, trust=trust)
    if isinstance(content, nn.Module):
        return Checkpoint(file, dict(content.state_dict()), ("a whole pickled network",))
    found = find_weights(content)
    if found is None:
        raise CheckpointError(
            f"the checkpoint holds no weights, but {_describe(content)}",
            where=str(file),
            fix="save network.state_dict()",
        )
    nest, weights = found
    return Checkpoint(file, weights, (f"weights found under {nest!r}",) if nest else ())


def read_content(path: str | Path, *, trust: bool = False) -> Any:
    """Return all that a checkpoint holds; see `read_checkpoint`.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError("no such checkpoint", where=str(file), fix="give an existing file")
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    _refuse_programs(file)
    return _read_pickle(file, trust)


def read_weights(path: str | Path, *, trust: bool = False) -> Weights:
    """Return the tensors of a checkpoint by name; see `read_checkpoint`.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    return read_checkpoint(path, trust=trust).weights


def load_weights(
    module: nn.Module, weights: Mapping[str, Tensor], *, where: str = "", strict: bool = True
) -> tuple[str, ...]:
    """Copy weights into a network, after taking off the prefixes that wrappers put before every name.

    Args:
        module: changed in place, and only when everything fits.
        weights: tensors by name.
        where: the file, named in an error.
        strict: whether every name must be there and none may be left over. Shapes must always agree.

    Returns:
        what was done to the names.

    Raises:
        CheckpointError: names are missing or unexpected, shapes differ, or a tensor is sparse, complex or not
            finite.
    """
    own = module.state_dict()
    prefix, fitted = _without_prefix(weights, own)
    missing = [name for name in own if name not in fitted and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in fitted if name not in own]
    shared = [name for name in fitted if name in own]
    if (strict and (missing or unexpected)) or not shared:
        raise CheckpointError(
            f"the checkpoint is of another network: missing {_shorten(missing)};"
            f" unexpected {_shorten(unexpected)}",
            where=where,
            fix="give the checkpoint of this network, or the arguments it was built with",
        )
    for name in shared:
        _check_values(name, fitted[name], where)
        if fitted[name].shape != own[name].shape:
            raise CheckpointError(
                f"{name} has shape {tuple(fitted[name].shape)} in the checkpoint,"
                f" {tuple(own[name].shape)} in the network",
                where=where,
                fix="build the network with the arguments it was trained with",
            )
    module.load_state_dict({name: fitted[name] for name in shared}, strict=False)
    notes = [f"prefix {prefix!r} taken off every name"] if prefix else []
    if missing or unexpected:
        notes.append(f"not strict: missing {_shorten(missing)}; unexpected {_shorten(unexpected)}")
    return tuple(notes)


def _check_values(name: str, tensor: Tensor, where: str) -> None:
    kind = "sparse" if tensor.layout is not torch.strided else str(tensor.dtype).removeprefix("torch.")
    if kind == "sparse" or tensor.is_complex() or tensor.is_quantized:
        raise CheckpointError(
            f"{name} is {kind}, which cannot be loaded", where=where, fix="save plain floats"
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointError(
            f"the weights are not finite: {name} holds NaN or infinity",
            where=where,
            fix="take an earlier checkpoint: the training that wrote this one had diverged",
        )


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of parameters and persistent buffers.

    The order of the names, the device and the mode of the network make no difference.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{tuple(plain.shape)}|{plain.dtype}|".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_safetensors(file: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error}", where=str(file)) from error


def _refuse_programs(file: Path) -> None:
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        inner = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise CheckpointError(
            "this is a TorchScript program, which cannot be opened up",
            where=str(file),
            fix="give the network's code as HOST, and save torch.jit.load(file).state_dict() to a checkpoint",
        )
    if "archive_format" in inner or "serialized_exported_program.json" in inner:
        raise CheckpointError(
            "this is an exported program, which holds a whole network",
            where=str(file),
            fix="give it as HOST, under a name that ends in .pt2",
        )


def _read_pickle(file: Path, trust: bool) -> Any:
    try:
        if trust:
            return torch.load(file, map_location="cpu", weights_only=False)
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # A truncated or foreign file fails in as many ways as there are parsers.
        names = [] if trust or not isinstance(error, pickle.UnpicklingError) else _unsafe_globals(file)
        if names:
            raise CheckpointError(
                f"the checkpoint would run code when it is read: {_shorten(names)}",
                where=str(file),
                fix="save network.state_dict() instead, or trust the file (--trust) if you know who wrote it",
            ) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the checkpoint cannot be read: {first[:160]}", where=str(file), fix="copy or save it again"
        ) from error


def _unsafe_globals(file: Path) -> list[str]:
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
    except Exception:  # noqa: BLE001 - a file whose pickle cannot even be listed
        return []


def _numpy_scalars() -> list[Any]:
    """Return what nnU-Net's checkpoints hold beside tensors: numbers of its log."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    # The name under which numpy 1 pickled the same function.
    old = (scalar, "numpy.core.multiarray.scalar")
    return [scalar, old, np.dtype, *kinds]


def find_weights(content: Any, nest: str = "") -> tuple[str, Weights] | None:
    """Find the weights in the content of a checkpoint, however deep they lie.

    Args:
        content: what was read.
        nest: where it lies.

    Returns:
        where the weights lie, as keys with dots between them, and the weights; None if there are none.
    """
    if not isinstance(content, Mapping) or nest.count(".") >= _DEEPEST:
        return None
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len([v for v in content.values() if not isinstance(v, int | float | str)]):
        return nest, tensors
    order = [name for name in _NESTS if name in content]
    order += [name for name in content if name not in order and "optim" not in str(name).lower()]
    for name in order:
        found = find_weights(content[name], f"{nest}.{name}" if nest else str(name))
        if found is not None:
            return found
    return (nest, tensors) if tensors else None


def _without_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Any]) -> tuple[str, Weights]:
    """Take off the prefix after which most names are the network's own; none where it makes no gain."""
    best, best_weights = "", dict(weights)
    prefix, current = "", dict(weights)
    while True:
        if len(own.keys() & current.keys()) > len(own.keys() & best_weights.keys()):
            best, best_weights = prefix, current
        step = next((p for p in _PREFIXES if current and all(name.startswith(p) for name in current)), None)
        if step is None:
            return best, best_weights
        prefix, current = prefix + step, {name.removeprefix(step): value for name, value in current.items()}


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"the keys {_shorten([str(key) for key in content])}"
    return f"a {type(content).__name__}"


def _shorten(names: list[str], most: int = 4) -> str:
    if not names:
        return "none"
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
