"""A file that refuses the sizes it does not hold for, by an error of its own, wherever it runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import fx

from surgeon.errors import InputError
from surgeon.parity import compare
from surgeon.tracing import TOLERANCE, Example, Limits, grown, image_shapes, outside, run

SIZES = "sizes"  # the key of the limits among what a file says of itself
# A prime that no image has as a size: a shape that holds it fits none.
_NO_SIZE = (1 << 31) - 1


def bind(limits: Limits, host: Callable[[Example], Any], graph: fx.GraphModule, example: Example) -> bool:
    """Tell whether a graph computes something else than its network beyond the limits of its sizes.

    torch.export also takes a map of one value for a limit. So sizes just outside are tried: the limits bind
    where network and graph differ there, and where the network itself refuses them by `InputError`, as a
    traced host with limits does.
    """
    return any(_parts(host, graph, candidates) for candidates in outside(example, limits))


def _parts(host: Callable[[Example], Any], graph: fx.GraphModule, candidates: Sequence[Example]) -> bool:
    for example in candidates:
        try:
            expected = host(example)
        except InputError:
            return True
        except Exception:  # noqa: BLE001 - a size that the host refuses tells nothing of the graph
            continue
        try:
            return not compare(expected, run(graph, example)).relative <= TOLERANCE
        except Exception:  # noqa: BLE001 - the file fails there as well, or gives a map of another shape
            return False
    return False


def _equal(expected: Any, found: Any) -> bool:
    """Tell whether outputs are equal up to rounding; those of another shape are not."""
    try:
        return compare(expected, found).relative <= TOLERANCE
    except ValueError:
        return False


def stepped(
    limits: Limits, host: Callable[[Example], Any], graph: fx.GraphModule, example: Example
) -> Limits | None:
    """Return limits with the steps in which a graph holds, where it computes something else between them.

    Between steps that network and graph refuse by an error of their own there is nothing to limit. None where
    the graph goes astray and no step was found at which it does not.
    """
    astray = refused = False
    for step, candidate in grown(example):
        try:
            expected = host(candidate)
        except InputError:  # of a traced host, which knows its own steps
            refused = True
            continue
        except Exception:  # noqa: BLE001 - a size that the host refuses tells nothing of the graph
            continue
        try:
            found = run(graph, candidate)
        except Exception:  # noqa: BLE001 - the file fails there as well
            continue
        if _equal(expected, found):
            like = tuple(image_shapes(example)[0][2:])
            return replace(limits, step=step, like=like) if astray or refused else limits
        astray = True
    return None if astray else limits


def bound_sizes(model: ir.Model, limits: Limits) -> None:
    """Let a file give its images a shape that they do not fit where their sizes are outside the limits.

    onnxruntime's error names the node, and the node says which sizes the file takes.

    Args:
        model: changed in place; images are its inputs `(N, C, *spatial)` of the largest rank.
        limits: of every spatial axis.
    """
    rank = max(len(value.shape or ()) for value in model.graph.inputs)
    for image in [value for value in model.graph.inputs if len(value.shape or ()) == rank]:
        _refit(model, image, limits)
    model.metadata_props[SIZES] = json.dumps(limits.to_dict())


def _refit(model: ir.Model, image: ir.Value, limits: Limits) -> None:
    users = list(image.uses())
    name = f"{image.name}_takes_{str(limits).replace(' ', '_')}"
    nodes: list[ir.Node] = []

    def add(kind: str, inputs: Sequence[ir.Value], what: str, **attributes: int) -> ir.Value:
        nodes.append(ir.node(kind, list(inputs), attributes, name=name + what))
        nodes[-1].outputs[0].name = f"{name}{what}_value"
        return nodes[-1].outputs[0]

    spatial = add("Shape", [image], "_spatial", start=2)
    fits = add("GreaterOrEqual", [spatial, _number(model, f"{name}_least", limits.smallest)], "_large_enough")
    if limits.largest is not None:
        most = _number(model, f"{name}_most", limits.largest)
        fits = add("And", [fits, add("LessOrEqual", [spatial, most], "_small_enough")], "_fits")
    if limits.step > 1:
        step, zero = _number(model, f"{name}_step", limits.step), _number(model, f"{name}_zero", 0)
        beyond = add("Sub", [spatial, _number(model, f"{name}_like", *limits.like)], "_beyond")
        rest = add("Mod", [beyond, step], "_between")
        fits = add("And", [fits, add("Equal", [rest, zero], "_whole_steps")], "_fits_steps")
    size = add("Where", [fits, spatial, _number(model, f"{name}_never", _NO_SIZE)], "_sizes")
    shape = add("Concat", [add("Shape", [image], "_whole", end=2), size], "_shape", axis=0)
    checked = add("Reshape", [image, shape], "")
    checked.shape, checked.type = image.shape, image.type
    model.graph.insert_before(model.graph[0], nodes)
    for user, place in users:
        user.replace_input_with(place, checked)


def _number(model: ir.Model, name: str, *numbers: int) -> ir.Value:
    values = np.array(numbers, dtype=np.int64)
    value = ir.Value(
        name=name,
        shape=ir.Shape(values.shape),
        type=ir.TensorType(ir.DataType.INT64),
        const_value=ir.tensor(values, name=name),
    )
    model.graph.initializers[name] = value
    return value
