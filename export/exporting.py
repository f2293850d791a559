"""From any network to a proved ONNX file, or to an error and nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.files import write_json
from surgeon.tracing import as_example

from .artifact import Artifact
from .flattening import leaves_of, map_tensors
from .order import Order, find_policy
from .placing import check_folder, check_name, placed_whole
from .proving import prove
from .targets import find_precision, find_target
from .triton.repository import write_repository
from .writing import write_network


def to_onnx(
    model: nn.Module,
    inputs: Tensor | tuple[Any, ...],
    out_dir: str | Path,
    target: str = "ort-cpu",
    precision: str = "fp32",
    *,
    kwargs: dict[str, Any] | None = None,
    samples: Sequence[Any] | None = None,
    name: str = "model",
    metadata: Mapping[str, Any] | None = None,
    sizes: str = "free",
    second_opinion: bool = True,
) -> Artifact:
    """Export a network to ONNX, prove that the file computes the same, and write it.

    The network may be any host, implanted or not. The proof compares the file with `model` itself on the
    example, on seeds, batches, spatial sizes and samples; if one comparison fails, nothing is left behind.

    Args:
        model: the network; it is run in evaluation mode and left as it was.
        inputs: one tensor `(N, C, *spatial)` or a tuple of positional inputs.
        out_dir: the folder to write: `model.onnx`, `export.json`, and `triton/` for that target. A former
            export in it is replaced.
        target: `ort-cpu`, `ort-cuda`, `ort-tensorrt` or `triton`.
        precision: `fp32` or `fp16` (norms and wide activations stay in float32; so do inputs and outputs).
        kwargs: keyword inputs.
        samples: real inputs for the proof, tensors `(C, *spatial)` or `(N, C, *spatial)`.
        name: of the model on a server.
        metadata: what the file shall say of itself (`classes`, `preprocessing`, `host_fingerprint`,
            `genotype`, `licence`, ...); values that are not text are written as JSON.
        sizes: `free` leaves the spatial sizes open where the network allows it, `fixed` takes the example's.
        second_opinion: whether ONNX's reference evaluator shall agree as well, where the network is small
            enough for it.

    Raises:
        InputError: an option, the example or a sample cannot be used.
        ExportError: the network cannot be written as ONNX, or the file does not compute what it computes.

    Example:
        >>> artifact = to_onnx(host, torch.rand(1, 1, 64, 64), "out")  # doctest: +SKIP
        >>> max(case.difference.relative for case in artifact.parity) < 1e-4  # doctest: +SKIP
        True
    """
    order = Order(
        model,
        map_tensors(as_example(inputs, kwargs), torch.Tensor.detach),
        tuple(samples or ()),
        check_name(name),
        find_target(target),
        find_precision(precision),
        find_policy(sizes),
        dict(metadata or {}),
        second_opinion,
    )
    folder = check_folder(Path(out_dir))
    with _evaluating(model), placed_whole(folder) as part:
        artifact = prove(order, write_network(order, part / "model.onnx"))
        if order.target.name == "triton":
            write_repository(artifact, part, leaves_of(order.example))
        write_json(part / "export.json", artifact.to_dict())
    return replace(artifact, folder=folder)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for a while, module by module, and back as it was."""
    # Not by .eval(): graphs that torch.export made refuse it, and a spliced network keeps its host's mode.
    modes = [(module, module.training) for module in model.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
