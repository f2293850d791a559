"""From any network to a proved ONNX file, or to an error and nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgeon.data import LabelRegions, Preparation
from surgeon.errors import ExportError, InputError
from surgeon.files import write_json
from surgeon.tracing import as_example, map_tensors

from .artifact import Artifact
from .conforming import conform, to_float32
from .flattening import leaves_of
from .fusion import has_norms
from .included import Include, find_answer, parse_includes
from .included import include as include_steps
from .order import Order, find_policy
from .placing import check_folder, check_name, placed_whole
from .profiling import profile_stages
from .proving import prove, prove_quantised
from .targets import Precision, find_precision, find_target
from .triton.repository import write_repository
from .writing import Written, write_network, write_quantised


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
    include: Sequence[str] = (),
    preparation: Preparation | None = None,
    regions: LabelRegions | None = None,
    answer: int | None = None,
    profile_passes: bool = False,
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
        precision: `fp32`, `fp16` (norms and wide activations stay in float32; so do inputs and outputs), or
            `int8` (convolutions and products, calibrated on the samples; held against the network on those).
        kwargs: keyword inputs.
        samples: real inputs for the proof, tensors `(C, *spatial)` or `(N, C, *spatial)`.
        name: of the model on a server.
        metadata: what the file shall say of itself (`classes`, `preprocessing`, `host_fingerprint`,
            `genotype`, `licence`, ...); values that are not text are written as JSON.
        sizes: `free` leaves the spatial sizes open where the network allows it, `fixed` takes the example's.
        second_opinion: whether ONNX's reference evaluator shall agree as well, where the network is small
            enough for it.
        include: steps for the file to do besides the network: `normalise` (the intensities, by the
            preparation), `flips` (the mean over flips of all spatial axes), `activation` (softmax, or sigmoid
            for one channel and for classes that overlap), `argmax` (labels, uint8 `(N, *spatial)`). The
            last three keep the answer alone. The example and the samples stay inputs of the network.
        preparation: what `normalise` goes by.
        regions: the label values of each channel, where its classes overlap: `argmax` then paints one over
            the other in their order.
        answer: the place of the segmentation among the network's outputs, negative from the end; None for the
            first of the largest.
        profile_passes: whether the graph after each fusion pass is timed as well, in float32; each is
            translated anew for that.

    Raises:
        InputError: an option, the example or a sample cannot be used.
        ExportError: the network cannot be written as ONNX, or the file does not compute what it computes.

    Example:
        >>> artifact = to_onnx(host, torch.rand(1, 1, 64, 64), "out")  # doctest: +SKIP
        >>> max(case.difference.relative for case in artifact.parity) < 1e-4  # doctest: +SKIP
        True
    """
    steps = parse_includes(include)
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
        profile_passes,
    )
    if order.precision is Precision.INT8 and not order.samples:
        raise InputError(
            "int8 is calibrated on real inputs, and none were given",
            where="precision int8",
            fix="give samples (--data DIR), some dozen that show what the network will meet",
        )
    folder = check_folder(Path(out_dir))
    with _evaluating(model), placed_whole(folder) as part:
        order = _conformed(order)
        place = None if answer is None else find_answer(order.model, order.example, answer)
        artifact = _export(order, _Steps(steps, preparation, regions, place), part)
        if order.target.name == "triton":
            write_repository(artifact, part, leaves_of(order.example))
        write_json(part / "export.json", artifact.to_dict())
    return replace(artifact, folder=folder)


def _conformed(order: Order) -> Order:
    """Bring network, example and samples into the form that the exporter takes."""
    model, example = conform(order.model, order.example)
    samples = order.samples
    if example is not order.example:
        samples = tuple(pytree.tree_map(to_float32, sample) for sample in samples)
    return replace(order, model=model, example=example, samples=samples)


@dataclass(frozen=True, slots=True)
class _Steps:
    """What to put around a network, and what that goes by."""

    names: tuple[Include, ...]
    preparation: Preparation | None
    regions: LabelRegions | None
    answer: int | None


def _export(order: Order, steps: _Steps, part: Path) -> Artifact:
    """Write and prove a network with the steps that are included."""
    if Include.ARGMAX not in steps.names:
        return _proved(_with_steps(order, steps), part / "model.onnx")
    # Labels hide differences: what they are taken from is proved first.
    scores = replace(steps, names=tuple(step for step in steps.names if step is not Include.ARGMAX))
    exact = replace(order, profile=False)
    if order.precision is Precision.INT8:
        exact = replace(exact, precision=Precision.FP32)
    before = _proved(_with_steps(exact, scores), part / "scores.onnx")
    before.model.unlink()
    artifact = _proved(_with_steps(order, steps), part / "model.onnx")
    parity = tuple(replace(case, what=f"{case.what}, before argmax") for case in before.parity)
    return replace(artifact, parity=(*parity, *artifact.parity))


def _proved(order: Order, path: Path) -> Artifact:
    if order.precision is not Precision.INT8:
        written, proved = _written(order, path)
        return _profiled(order, written, proved)
    # The translation is proved in float32; int8 then answers for rounding alone.
    plain, exact = _written(replace(order, precision=Precision.FP32), path.with_name("fp32.onnx"))
    proved = _profiled(order, plain, exact)
    artifact = prove_quantised(order, plain, proved, write_quantised(order, plain, path))
    plain.path.unlink()
    return artifact


def _written(order: Order, path: Path) -> tuple[Written, Artifact]:
    """Write and prove a network; where it is refused and has norms, once more with all of them in steps.

    It is proved on a CPU, whose kernel may sum too carelessly for the gate, whatever it is written for.
    """
    written = write_network(order, path)
    try:
        return written, prove(order, written)
    except ExportError as error:
        if not has_norms(written.fused.graph_module.graph):
            raise
        refused = error
    try:
        steady = replace(order, steady=True)
        written = write_network(steady, path)
        return written, prove(steady, written)
    except ExportError:
        raise refused from None


def _profiled(order: Order, written: Written, artifact: Artifact) -> Artifact:
    """Say of each pass how long a run took before and after it, where that is wanted."""
    return replace(artifact, fusion=profile_stages(order, written)) if order.profile else artifact


def _with_steps(order: Order, steps: _Steps) -> Order:
    """Put steps around the network of an order."""
    known = {} if steps.answer is None else {"answer": steps.answer}
    if not steps.names:
        return replace(order, metadata={**order.metadata, **known})
    module, example = include_steps(
        order.model,
        order.example,
        steps.names,
        steps.preparation,
        regions=steps.regions,
        answer=steps.answer,
    )
    samples = tuple(module.to_raw(sample) for sample in order.samples)
    metadata = {"included": [step.value for step in steps.names], **order.metadata}
    # With a tail, the answer is all that the file gives.
    metadata |= known if module.tail is None else {"channels": module.tail.channels}
    return replace(order, model=module, example=example, samples=samples, metadata=metadata)


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
