"""The exports that ours is held against: by torch alone, and that through what optimises ONNX files."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from surgeon.parity import compare

# Of the range of an output: far more than rounding, far less than what a wrong mask does.
_RIGHT = 1e-3


def others(network: nn.Module, x: Tensor, place: Path, stem: str) -> dict[str, Path]:
    """Export by torch alone, and put that through the optimizers that are installed."""
    files = {"plain": plain(network, x, place / f"{stem}.onnx")}
    model = onnx.load(files["plain"])
    for name, optimise in (("onnxslim", slimmed), ("onnxsim", simplified)):
        try:
            made = optimise(copy.deepcopy(model))
        except Exception as problem:  # noqa: BLE001 - a path that fails is left out, and said
            print(f"{name} fails: {problem}"[:200], file=sys.stderr)
            continue
        files[name] = place / f"{stem}_{name}.onnx"
        onnx.save(made, files[name])
    return files


def plain(network: nn.Module, x: Tensor, path: Path) -> Path:
    """Export with torch.onnx.export as its documentation says, free batch and sizes where it can."""
    free = {0: torch.export.Dim.DYNAMIC, **dict.fromkeys(range(2, x.ndim), torch.export.Dim.DYNAMIC)}
    for shapes in ((free,), None):
        try:
            made = torch.onnx.export(
                copy.deepcopy(network), (x,), dynamo=True, dynamic_shapes=shapes, verbose=False
            )
        except Exception:  # noqa: BLE001 - then with fixed sizes
            continue
        assert made is not None
        made.save(path)
        return path
    raise RuntimeError("torch.onnx.export fails")


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a model through onnxslim."""
    import onnxslim

    made: onnx.ModelProto = onnxslim.slim(model)
    return made


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Put a model through onnxsim."""
    import onnxsim

    made, right = onnxsim.simplify(model)
    if not right:
        raise RuntimeError("its own check fails")
    smaller: onnx.ModelProto = made
    return smaller


def sizes_held(call: Callable[[Tensor], Any], network: nn.Module, shapes: Iterable[tuple[int, ...]]) -> int:
    """Count the shapes at which an export gives what its network gives.

    A file that says its sizes are free may hold what is right at one of them alone.
    """
    return sum(_holds(call, network, shape) for shape in shapes)


def _holds(call: Callable[[Tensor], Any], network: nn.Module, shape: tuple[int, ...]) -> bool:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x)
    try:
        return compare(expected, call(x)).relative < _RIGHT
    except Exception:  # noqa: BLE001 - it fails at this size, however it does
        return False
