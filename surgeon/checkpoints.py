"""Weights read safely from a file."""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    "state_dict_ema",
    "model_ema",
    "ema",
)
# A dictionary may hold itself.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The weights of a file.

    Attributes:
        path: the file.
        weights: tensors by name, prefixes of wrappers still on.
        report: where in the file they were.
        others: other weights in the file, such as averaged copies, by where they lie.
    """

    path: Path
    weights: Weights
    report: tuple[str, ...]
    others: dict[str, Weights] = field(default_factory=dict)


def read_checkpoint(path: str | Path, *, trust: bool = False) -> Checkpoint:
    """Read the weights of a `.safetensors`, `.pt`, `.pth`, `.ckpt` or `.tar` file, TorchScript among them.

    No Python in the file is run, unless `trust` is given: then a pickle may run any code it likes.

    Args:
        path: the file.
        trust: whether to unpickle objects other than tensors and plain values.

    Raises:
        CheckpointError: the file is missing or cannot be read, would run code, or holds no weights.
    """
    file = Path(path)
    content = read_content(file, trust=trust)
    if isinstance(content, nn.Module):
        return Checkpoint(file, dict(content.state_dict()), ("a whole pickled network",))
    found = dict(all_weights(content))
    if not found:
        raise CheckpointError(
            f"the checkpoint holds no weights, but {_describe(content)}",
            where=str(file),
            fix="save network.state_dict()",
        )
    nest, weights = next(iter(found.items()))
    others = {name: other for name, other in found.items() if name != nest}
    return Checkpoint(file, weights, under(nest), others)


def under(nest: str) -> tuple[str, ...]:
    """Say where in a file the weights were; nothing where they are the file."""
    return (f"weights found under {nest!r}",) if nest else ()


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
    if is_torchscript(file):
        return dict(read_script(file).state_dict())
    _refuse_programs(file)
    return _read_pickle(file, trust)


def read_weights(path: str | Path, *, trust: bool = False) -> Weights:
    """Return the tensors of a checkpoint by name; see `read_checkpoint`.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    return read_checkpoint(path, trust=trust).weights


def fingerprint(module: nn.Module) -> str:
    """Return the SHA-256 over names, shapes, types and bytes of parameters and persistent buffers.

    The order of the names, the device and the mode of the network make no difference. A TorchScript program
    that was frozen holds its weights as constants, which count as well.
    """
    digest = hashlib.sha256()
    constants = [(f"constant {place}", tensor) for place, tensor in enumerate(script_constants(module))]
    for name, tensor in (*sorted(module.state_dict().items()), *constants):
        if isinstance(tensor, Tensor):
            plain = tensor.detach().cpu().contiguous()
            digest.update(f"{name}|{tuple(plain.shape)}|{plain.dtype}|".encode())
            digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def script_constants(module: nn.Module) -> list[Tensor]:
    """Return the tensors that a TorchScript program holds as constants; none of any other network."""
    if not isinstance(module, torch.jit.ScriptModule):
        return []
    graph = module.inlined_graph  # held, since its nodes go with it
    values = [node.output().toIValue() for node in graph.findAllNodes("prim::Constant")]  # type: ignore[attr-defined]
    return [value for value in values if isinstance(value, Tensor)]


def _read_safetensors(file: Path) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint cannot be read: {error}", where=str(file)) from error


def is_torchscript(file: Path) -> bool:
    """Whether a file is a TorchScript program, as `torch.jit.save` writes it."""
    inner = _members(file)
    return "constants.pkl" in inner or any(name.startswith("code/") for name in inner)


def _members(file: Path) -> set[str]:
    """Return the names in a zip archive, and those inside its outermost folder; none of any other file."""
    if not zipfile.is_zipfile(file):
        return set()
    with zipfile.ZipFile(file) as archive:
        return {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())


def read_script(file: Path) -> torch.jit.ScriptModule:
    """Read a TorchScript program.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its deprecation, which is no business of who got the file
            network: torch.jit.ScriptModule = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"the TorchScript program cannot be read: {first[:160]}",
            where=str(file),
            fix="write it again with torch.jit.save, with this version of torch or an older one",
        ) from error
    return network


def _refuse_programs(file: Path) -> None:
    inner = _members(file)
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
                f"the checkpoint would run code when it is read: {shorten(names)}",
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


def all_weights(content: Any, nest: str = "") -> Iterator[tuple[str, Weights]]:
    """Find the weights in the content of a checkpoint, however deep they lie, the likeliest first.

    Args:
        content: what was read.
        nest: where it lies.

    Yields:
        where weights lie, as keys with dots between them, and the weights.
    """
    if not isinstance(content, Mapping) or nest.count(".") >= _DEEPEST:
        return
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if tensors and len(tensors) == len([v for v in content.values() if not isinstance(v, int | float | str)]):
        yield nest, tensors
        return
    order = [name for name in _NESTS if name in content]
    order += [name for name in content if name not in order and "optim" not in str(name).lower()]
    for name in order:
        yield from all_weights(content[name], f"{nest}.{name}" if nest else str(name))
    if tensors:
        yield nest, tensors


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"the keys {shorten([str(key) for key in content])}"
    return f"a {type(content).__name__}"


def shorten(names: Sequence[str], most: int = 4) -> str:
    """Return the first names, and how many more there are."""
    if not names:
        return "none"
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
