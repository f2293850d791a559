"""A network as one functional ATen graph, with as many free sizes as it allows."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx.experimental.symbolic_shapes import DimConstraints
from torch.utils import _pytree as pytree
from torch.utils._sympy.functions import FloorDiv

from surgeon.errors import ExportError
from surgeon.parity import compare
from surgeon.tracing import (
    TOLERANCE,
    Example,
    TookTooLong,
    check_reads,
    divide_whole,
    eased,
    image_shapes,
    map_tensors,
    real_values,
    run,
    run_elsewhere,
    size_limits,
    time_limit,
    with_sizes,
)
from surgeon.tracing import quiet as quiet_loggers

from .adaptive import with_free_bins
from .bounding import bind
from .functional import without_mutation
from .spelling import spelled_out

TIME_LIMIT = 120.0
"""Seconds of the processor for a graph of free sizes, six times what SwinUNETR 3-D takes."""
_MOST_TRACED = 1 << 22  # pixels or voxels of an example that is larger than the one that was given
_CHECKS = {torch.ops.aten._assert_scalar.default, torch.ops.aten._assert_tensor_metadata.default}
_EXPORTERS = ("torch.export", "torch.onnx", "torch._export", "onnxscript", "onnx_ir")


class Freedom(Enum):
    """Which sizes of the inputs a graph leaves open."""

    BATCH_AND_SIZES = "batch and sizes"
    BATCH = "batch"
    SIZES = "sizes"
    NOTHING = "nothing"

    @property
    def batch(self) -> bool:
        """Say whether the batch is open."""
        return self in (Freedom.BATCH_AND_SIZES, Freedom.BATCH)

    @property
    def sizes(self) -> bool:
        """Say whether the spatial sizes are open."""
        return self in (Freedom.BATCH_AND_SIZES, Freedom.SIZES)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A freedom that the network did not allow, and why."""

    freedom: Freedom
    reason: str


@dataclass(frozen=True, slots=True)
class Flat:
    """A network as a functional ATen graph.

    Attributes:
        program: what torch.export made of it.
        graph_module: its graph with the weights inside and every operation out of place.
        freedom: the sizes it leaves open.
        refusals: what was tried before with more freedom.
        example: the inputs it was traced with.
    """

    program: ExportedProgram
    graph_module: fx.GraphModule
    freedom: Freedom
    refusals: tuple[Refusal, ...]
    example: Example


def flatten(model: nn.Module, example: Example, ladder: Sequence[Freedom] = tuple(Freedom)) -> Flat:
    """Export a network to ATen with the first freedom of the ladder that it allows.

    Args:
        model: any network in evaluation mode, a graph with implanted modules included.
        example: inputs `(N, C, *spatial)`.
        ladder: the freedoms to try, most first.

    Raises:
        ExportError: torch.export cannot make a graph of it in any of these ways.
    """
    refusals: list[Refusal] = []
    for freedom in ladder:
        known = tuple(refusals)
        try:
            return _flat(model, example, freedom, known)
        except Exception as error:  # noqa: BLE001 - torch.export raises whatever the network raises
            refusals.append(Refusal(freedom, first_line(error)))
        # What a network made for the example's size fixes the graph to it.
        with contextlib.suppress(Exception):
            elsewhere = run_elsewhere(model, example) if freedom.sizes else None
            if elsewhere is not None:
                return _flat(elsewhere, example, freedom, known)
    raise ExportError(
        f"torch.export cannot make a graph of it: {refusals[-1].reason}",
        where=type(model).__name__,
        fix="remove what depends on the values of tensors from its forward, or export the part before it",
    )


def _flat(model: nn.Module, example: Example, freedom: Freedom, refusals: tuple[Refusal, ...]) -> Flat:
    program, traced = _widest_program(model, example, freedom)
    return Flat(program, _functional_graph(program), freedom, refusals, traced)


def _widest_program(model: nn.Module, example: Example, freedom: Freedom) -> tuple[ExportedProgram, Example]:
    """Export a network, at twice the example's size where that one bounds the sizes; say what was traced.

    A network that goes another way for larger images is bounded in earnest, and traced as it is.

    Raises:
        ValueError: it takes other sizes, and a graph holds only for as many positions as the example has.
    """
    program = export_program(model, example, freedom)
    limits = size_limits(program)
    if not freedom.sizes or not _is_bounded(program):
        return program, example
    if limits.largest and bind(limits, partial(run, model), _functional_graph(program), example):
        return program, example
    # A map of one value, at the end of the levels, is a constant to torch.export: it bounds the image's size.
    for larger in larger_examples(example):
        with contextlib.suppress(Exception):
            wider = export_program(model, larger, freedom)
            found = run(_functional_graph(wider), example)
            if not _is_bounded(wider) and compare(run(model, example), found).relative < TOLERANCE:
                return wider, larger
    if limits.largest is None and _goes_astray(program, model, example):
        raise ValueError("it goes through the positions of a map one by one")
    return program, example


def _goes_astray(program: ExportedProgram, model: nn.Module, example: Example) -> bool:
    """Tell whether a graph is wrong, or fails, at the first larger size that its network takes."""
    graph = _functional_graph(program)
    for larger in larger_examples(example):
        try:
            expected = run(model, larger)
        except Exception:  # noqa: BLE001 - a size that the network refuses tells nothing of the graph
            continue
        try:
            return not compare(expected, run(graph, larger)).relative <= TOLERANCE
        except Exception:  # noqa: BLE001 - it fails, or gives a map of another shape
            return True
    return False


def _is_bounded(program: ExportedProgram) -> bool:
    """Tell whether a program holds up to some size, or while a number of windows is what it was."""
    if size_limits(program).largest is not None:
        return True
    for node in program.graph.nodes:
        if node.target is torch.ops.aten._assert_scalar.default and isinstance(node.args[0], fx.Node):
            said: Any = getattr(getattr(node.args[0].meta.get("val"), "node", None), "expr", None)
            is_equation = getattr(said, "rel_op", "") == "=="
            if is_equation and isinstance(said.lhs, FloorDiv) and said.rhs.is_Integer:
                return True
    return False


def larger_examples(example: Example) -> Iterator[Example]:
    """Yield an example at twice the spatial sizes, at some that are alike, and at many times the sizes.

    Those that are alike are larger by a power of two: halved again and again they stay odd or even as the
    sizes do, which some networks ask for. Pools over a large part of the lowest level (DDRNet) leave maps of
    one value at twice the sizes as well.
    """
    sizes = image_shapes(example)[0][2:]
    twice = tuple(2 * size for size in sizes)
    alike = tuple(size + 2 ** (size - 1).bit_length() for size in sizes)
    room = _MOST_TRACED / math.prod(sizes)
    times = next((n for n in (16, 8, 4) if n ** len(sizes) <= room), 2)
    far = tuple(times * size for size in sizes)
    yield from (with_sizes(example, found) for found in dict.fromkeys((twice, alike, far)))


def first_line(error: BaseException) -> str:
    """Return the first line with content of an error's text, at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def quiet() -> AbstractContextManager[None]:
    """Keep the warnings and log lines of torch's exporters from the user's terminal."""
    return quiet_loggers(_EXPORTERS, logging.ERROR)


def batch_size(example: Example) -> int:
    """Return the size of dimension 0 of the first tensor of an example."""
    return int(leaves_of(example)[0].shape[0])


def leaves_of(example: Example) -> list[Tensor]:
    """List the tensors of an example in the order the graph takes them."""
    return [leaf for leaf in pytree.tree_leaves((example.args, example.kwargs)) if isinstance(leaf, Tensor)]


def export_program(model: nn.Module, example: Example, freedom: Freedom) -> ExportedProgram:
    """Export a network with that freedom, or raise what torch.export raises.

    Raises:
        TimeoutError: torch.export reasons about free sizes without end, as about roots of them.
    """
    try:
        with time_limit(TIME_LIMIT if freedom.sizes else math.inf):
            return _program(model, example, freedom)
    except TookTooLong as problem:
        raise TimeoutError(f"torch.export took longer than {TIME_LIMIT:.0f} seconds") from problem


def _program(model: nn.Module, example: Example, freedom: Freedom) -> ExportedProgram:
    # A dimension of size 1 is taken for a constant: the batch is traced with two.
    if freedom.batch and batch_size(example) == 1:
        example = map_tensors(example, lambda x: torch.cat([x, x]) if x.ndim and x.shape[0] == 1 else x)
    # Each tensor a tensor of its own, since the free sizes are filed under the tensor.
    example = map_tensors(example, lambda x: x.detach().clone())
    batch, shapes = batch_size(example), ShapesCollection()  # type: ignore[no-untyped-call]
    rank = len(image_shapes(example)[0])
    for tensor in leaves_of(example):
        free = _free_dimensions(tensor, batch, rank, freedom)
        if free:
            shapes[tensor] = free
    dynamic = shapes if freedom is not Freedom.NOTHING else None

    def export() -> ExportedProgram:
        return torch.export.export(
            model,
            example.args,
            example.kwargs,
            dynamic_shapes=dynamic,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )

    with quiet(), eased(model, free=dynamic is not None), _unsolved_sizes(), torch.no_grad():
        try:
            return export()
        except Exception as error:
            if "data-dependent" not in str(error):
                raise
            with real_values():
                program = export()
            check_reads(program.module(check_guards=False).graph)
            # What asked for types of those tensors is of no use now, and no decomposition knows it.
            program.graph.eliminate_dead_code()
            return program


@contextlib.contextmanager
def _unsolved_sizes() -> Iterator[None]:
    """Let torch.export go on where it cannot solve what a network's sizes have to fulfil.

    That `size / 8` is `(size / 4) // 2` holds for multiples of eight; sympy cannot say so, and torch.export
    then gives up. The graph is right all the same, and the gate finds out for which sizes.
    """
    solve = DimConstraints.solve

    def lenient(constraints: DimConstraints) -> None:
        with contextlib.suppress(NotImplementedError):
            solve(constraints)

    DimConstraints.solve = lenient  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        DimConstraints.solve = solve  # type: ignore[method-assign]


def _functional_graph(program: ExportedProgram) -> fx.GraphModule:
    """Return the graph of a program with its weights inside and every operation out of place."""
    quick = without_mutation(program.module(check_guards=False))
    if quick is not None:
        return spelled_out(with_free_bins(_without_views(_without_assertions(quick))))
    with quiet(), torch.no_grad():
        # The empty table keeps convolutions whole.
        functional = program.run_decompositions({})
    if functional.graph_signature.user_inputs_to_mutate:
        raise ValueError("it writes into its own inputs; let it work on a copy")
    module: fx.GraphModule = functional.module(check_guards=False)
    return spelled_out(with_free_bins(_without_views(_without_assertions(module))))


def _without_views(module: fx.GraphModule) -> fx.GraphModule:
    """Write views of another shape as reshapes, which do not ask for a layout in memory.

    A trace leaves out copies by how it thinks that results are laid out, and kernels lay them out otherwise.
    """
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    module.recompile()
    return module


def _without_assertions(module: fx.GraphModule) -> fx.GraphModule:
    """Take out what only checks sizes and types while running: ONNX has no word for it; the gate tries them.

    The check of a type reads a tensor besides those that compute with it, and passes count its readers. The
    check before the graph would hide what the file, which has none, does with sizes outside the limits.
    """
    module._forward_pre_hooks.clear()
    module._forward_pre_hooks_with_kwargs.clear()
    for node in list(module.graph.nodes):
        if node.target in _CHECKS:
            module.graph.erase_node(node)
    divide_whole(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _free_dimensions(tensor: Tensor, batch: int, rank: int, freedom: Freedom) -> dict[int, Any]:
    """Name the free dimensions of an input; one of another rank than the image may be a text."""
    free: dict[int, Any] = {}
    if freedom.batch and tensor.ndim and tensor.shape[0] == batch:
        free[0] = Dim.DYNAMIC
    if freedom.sizes and tensor.ndim == rank:
        free |= dict.fromkeys(range(2, tensor.ndim), Dim.DYNAMIC)
    return free
