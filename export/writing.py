"""From a network to an ONNX file that is not proved yet."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import onnx_ir as ir
from torch import Tensor, nn
from torch.export import ExportedProgram

from surgeon.copying import copied
from surgeon.errors import ExportError
from surgeon.tracing import Example, Limits, map_tensors, private_copy, size_limits

from .bounding import bind, bound_sizes, stepped
from .cases import real_cases, step_of_depth, step_of_sizes
from .doubling import example_sizes, merge_upsampling_by_size
from .flattening import (
    Flat,
    Freedom,
    Refusal,
    export_program,
    first_line,
    flatten,
    larger_examples,
    leaves_of,
)
from .fusion import (
    ALL_NORMS,
    ATTENTION_OPSET,
    LARGE_NORMS,
    PASSES,
    Fused,
    Pass,
    PassReport,
    cpu_passes,
    fuse,
    has_single,
    needs_attention,
    reads_sizes,
)
from .naming import input_names, output_names
from .onnx import UntranslatableError, build_model, write_model
from .order import Order, SizePolicy
from .precision import halve
from .quantised import quantise
from .targets import Precision, Target

_DEFORMABLE_OPSET = 19  # the first with deformable convolution


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is written and not yet proved.

    Attributes:
        path: of the file.
        model: its content.
        flat: the network as a traced graph.
        program: the fused graph that was translated.
        plain: the translation in float32.
        fused: that graph, and what each pass changed.
        names: of inputs and of outputs.
        kept_in_fp32: nodes that another precision left alone, with the reason.
        limits: the spatial sizes beyond which the file refuses; None where it takes all.
        translated: what passes over the translation changed.
    """

    path: Path
    model: ir.Model
    flat: Flat
    program: ExportedProgram
    plain: ir.Model
    fused: Fused
    names: tuple[tuple[str, ...], tuple[str, ...]]
    kept_in_fp32: dict[str, str]
    limits: Limits | None = None
    translated: tuple[PassReport, ...] = ()

    @property
    def passes(self) -> tuple[PassReport, ...]:
        """Return the reports of all passes, in the order they ran."""
        return (*self.fused.passes, *self.translated)


def write_network(order: Order, path: Path) -> Written:
    """Flatten, fuse and write the network, unproved.

    Some operations can be written for one batch alone: a filter for each image is a convolution in as many
    groups as there are images. And some that reckon with sizes, for one size alone.

    Raises:
        ExportError: it cannot be written.
    """
    try:
        return _write(order, path, tuple(Freedom))
    except UntranslatableError as error:
        refused = error
    ladders = [(Freedom.SIZES, Freedom.NOTHING)]
    if refused.reckons:
        ladders.append((Freedom.BATCH, Freedom.NOTHING))
    for ladder in ladders:
        with contextlib.suppress(ExportError):
            written = _write(order, path, ladder)
            refusals = (Refusal(Freedom.BATCH_AND_SIZES, refused.what), *written.flat.refusals)
            return replace(written, flat=replace(written.flat, refusals=refusals))
    raise refused


def _write(order: Order, path: Path, ladder: tuple[Freedom, ...]) -> Written:
    output = order.host(order.example)
    model, example = _on_cpu(order)
    step = step_of_sizes(order.host, order.example) if order.sizes is SizePolicy.FREE else 0
    flat, limits = _limited(order, model, example, step, ladder)
    passes = _passes(order, max(step, limits.step))
    fused = fuse(flat.graph_module, example.args, example.kwargs, passes=passes, keep_stages=order.profile)
    program, flat = _program_of(fused, flat)
    names = (input_names(example, program.graph_signature.user_inputs), output_names(output))
    metadata = {"name": order.name, **order.metadata}
    opset = opset_of(program, order.target)
    written = build_model(program, opset, *names, metadata)
    binding = flat.freedom.sizes and (limits.step > 1 or bind(limits, order.host, flat.graph_module, example))
    if binding:
        bound_sizes(written, limits)
    plain = written.clone()
    kept: dict[str, str] = {}
    translated: tuple[PassReport, ...] = ()
    if order.precision is Precision.FP16:
        written, kept = halve(written, [leaves_of(example), *_real_inputs(order, flat.freedom)])
    elif _is_cpu(order.target):
        written, report = merge_upsampling_by_size(written, example_sizes(program.graph), fused.flops)
        translated = (report,)
    write_model(written, path)
    bounds = limits if binding else None
    return Written(path, written, flat, program, plain, fused, names, kept, bounds, translated)


def _passes(order: Order, step: int) -> tuple[tuple[str, Pass], ...]:
    """Return the passes for a target, and for the sizes that the network takes."""
    if not _is_cpu(order.target):
        return (*PASSES, *ALL_NORMS) if order.steady else PASSES
    # Sizes that grow together by single steps leave nothing to be known of one of them.
    depth_step = step_of_depth(order.host, order.example) if step > 1 else 1
    return cpu_passes(max(step, 1), depth_step, ALL_NORMS if order.steady else LARGE_NORMS)


def opset_of(program: ExportedProgram, target: Target) -> int:
    """Return the operator set: the target's, or the first that has what a graph needs.

    That is deformable convolution, and attention where a CPU gains by it.
    """
    if _is_cpu(target) and needs_attention(program.graph):
        return max(target.opset, ATTENTION_OPSET)
    if any("deform_conv2d" in str(node.target) for node in program.graph.nodes):
        return max(target.opset, _DEFORMABLE_OPSET)
    return target.opset


def _is_cpu(target: Target) -> bool:
    return target.provider == "CPUExecutionProvider"


def _program_of(fused: Fused, flat: Flat) -> tuple[ExportedProgram, Flat]:
    """Trace a fused graph: passes work on one with its weights inside, the exporter wants a program again.

    A size of 1 is a constant to torch.export, by an error or without a word: where a level has one, the graph
    is traced at larger sizes. One that holds for none of them is traced as it is, and the gate finds out for
    which sizes that holds; or with less freedom, which is noted.
    """
    error: Exception | None = None
    for example, freedom in _ways_to_trace(fused, flat):
        try:
            program = export_program(fused.graph_module, example, freedom)
        except Exception as raised:  # noqa: BLE001 - torch.export raises whatever its solvers raise
            error = error or raised
            continue
        if freedom is flat.freedom or error is None:
            return program, flat
        refusals = (*flat.refusals, Refusal(flat.freedom, first_line(error)))
        return program, replace(flat, freedom=freedom, refusals=refusals)
    reason = first_line(error) if error else ""
    raise ExportError(
        f"torch.export cannot trace the fused graph: {reason}",
        where=f"{len(list(fused.graph_module.graph.nodes))} nodes",
        fix="report the network; nothing was written",
    ) from error


def _ways_to_trace(fused: Fused, flat: Flat) -> Iterator[tuple[Example, Freedom]]:
    """Yield examples and freedoms to trace a fused graph with, what leaves most open first."""
    if flat.freedom.sizes and reads_sizes(flat.graph_module.graph):
        yield flat.example, flat.freedom
    elif flat.freedom.sizes:
        given, larger = [flat.example], larger_examples(flat.example)
        first = fused.graph_module is not flat.graph_module and has_single(flat.graph_module.graph)
        examples = chain(larger, given) if first else chain(given, larger)
        yield from ((example, flat.freedom) for example in examples)
    yield flat.example, Freedom.BATCH if flat.freedom.batch else Freedom.NOTHING
    yield flat.example, Freedom.NOTHING


def write_quantised(order: Order, plain: Written, path: Path) -> Written:
    """Write a proved network once more, in int8.

    Args:
        order: with the samples to calibrate on.
        plain: the network in float32.
        path: of the new file.
    """
    model, kept = quantise(plain.plain, _real_inputs(order, plain.flat.freedom), order.target)
    model.metadata_props.update(plain.model.metadata_props)
    write_model(model, path)
    return replace(plain, path=path, model=model, kept_in_fp32=kept)


def _real_inputs(order: Order, freedom: Freedom) -> list[list[Tensor]]:
    """Return the inputs of every sample, on the CPU."""
    cases = real_cases(order.example, freedom, order.samples)
    return [[leaf.cpu() for leaf in leaves_of(case.example)] for case in cases]


def _limited(
    order: Order, model: nn.Module, example: Example, step: int, ladder: tuple[Freedom, ...]
) -> tuple[Flat, Limits]:
    """Make a graph with the most freedom, and say for which sizes it holds.

    A network that asks whether a size fits its windows goes one way for the example. Where no larger size was
    found that goes the same way, the graph is made for the example's.
    """
    flat = _flatten(order, model, example, step, ladder)
    if not flat.freedom.sizes:
        return flat, Limits()
    limits = stepped(size_limits(flat.program), order.host, flat.graph_module, example)
    if limits is not None:
        return flat, limits
    fixed = flatten(model, example, _with_fixed_sizes(ladder))
    reason = "at all larger sizes that were tried its graph computes something else"
    return replace(fixed, refusals=(*flat.refusals, Refusal(flat.freedom, reason), *fixed.refusals)), Limits()


def _flatten(
    order: Order, model: nn.Module, example: Example, step: int, ladder: tuple[Freedom, ...]
) -> Flat:
    """Make a graph with the most freedom that the order wants and the network allows."""
    fixed = _with_fixed_sizes(ladder)
    if order.sizes is SizePolicy.FIXED:
        return flatten(model, example, fixed)
    if step:
        return flatten(model, example, ladder)
    flat = flatten(model, example, fixed)
    refusal = Refusal(Freedom.BATCH_AND_SIZES, "the network takes no larger size than the example's")
    return replace(flat, refusals=(refusal, *flat.refusals))


def _with_fixed_sizes(ladder: tuple[Freedom, ...]) -> tuple[Freedom, ...]:
    return tuple(freedom for freedom in ladder if not freedom.sizes)


def _on_cpu(order: Order) -> tuple[nn.Module, Example]:
    """Return a copy of the network that the tracer may mark, and the example, both on the CPU."""
    tensors = [*order.model.parameters(), *order.model.buffers(), *leaves_of(order.example)]
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return private_copy(order.model), order.example
    return copied(order.model).cpu(), map_tensors(order.example, Tensor.cpu)
