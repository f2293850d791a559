"""Weights fitted into a network, whatever training code put around their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.checkpoints import read_checkpoint, shorten, under
from surgeon.errors import CheckpointError

# Copies of weights that are averaged over steps.
_AVERAGED = ("ema", "swa", "average", "shadow", "teacher")


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
    prefix = _best_prefix(weights, own)
    fitted = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    beside = [name for name in weights if not name.startswith(prefix)]
    missing = [name for name in _needed(own) if name not in fitted]
    unexpected = [name for name in fitted if name not in own]
    shared = [name for name in fitted if name in own]
    if (strict and (missing or unexpected)) or not shared:
        raise CheckpointError(
            f"the checkpoint is of another network: missing {shorten(missing)};"
            f" unexpected {shorten(unexpected)}",
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
    return tuple(_notes(prefix, beside, missing, unexpected))


def _notes(prefix: str, beside: list[str], missing: list[str], unexpected: list[str]) -> Iterator[str]:
    if beside:
        yield f"weights of the names under {prefix!r}; left out: {shorten(beside)}"
    elif prefix:
        yield f"prefix {prefix!r} taken off every name"
    if missing or unexpected:
        yield f"not strict: missing {shorten(missing)}; unexpected {shorten(unexpected)}"


def _needed(own: Mapping[str, Any]) -> list[str]:
    return [name for name in own if not name.endswith("num_batches_tracked")]


def _best_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """Return what stands before the network's own names: before most of them, in the shapes it has.

    Of several that are as good, one that is no averaged copy, and the shortest.
    """
    names: dict[str, int] = {}
    shapes: dict[str, int] = {}
    for name, value in weights.items():
        parts = name.split(".")
        for start in range(len(parts)):
            inner = ".".join(parts[start:])
            if inner in own:
                prefix = name[: len(name) - len(inner)]
                names[prefix] = names.get(prefix, 0) + 1
                shapes[prefix] = shapes.get(prefix, 0) + (own[inner].shape == value.shape)

    def rank(prefix: str) -> tuple[int, int, bool, int]:
        averaged = any(word in prefix.lower() for word in _AVERAGED)
        return names[prefix], shapes[prefix], not averaged, -len(prefix)

    return max(names, key=rank) if names else ""


def fits(module: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether weights hold every name of a network, in its shapes, maybe behind a prefix."""
    own = module.state_dict()
    prefix = _best_prefix(weights, own)
    found = {name: weights.get(prefix + name) for name in _needed(own)}
    return all(value is not None and value.shape == own[name].shape for name, value in found.items())


def load_checkpoint(
    module: nn.Module, path: str | Path, *, trust: bool = False, strict: bool = True
) -> tuple[str, ...]:
    """Load into a network those weights of a file that fit it.

    Args:
        module: changed in place, and only when everything fits.
        path: the file.
        trust: as in `read_checkpoint`.
        strict: as in `load_weights`.

    Returns:
        where the weights were, what was done to their names, and what else would have fitted.

    Raises:
        CheckpointError: as `read_checkpoint` and `load_weights`.
    """
    held = read_checkpoint(path, trust=trust)
    if not fits(module, held.weights):
        nest = next((nest for nest, weights in held.others.items() if fits(module, weights)), None)
        if nest is not None:
            held = dataclasses.replace(held, weights=held.others[nest], report=under(nest), others={})
    notes = load_weights(module, held.weights, where=str(path), strict=strict)
    also = [nest for nest, weights in held.others.items() if fits(module, weights)]
    copies = (f"weights that fit lie under {shorten(also)} as well",) if also else ()
    return (*held.report, *notes, *copies)


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
