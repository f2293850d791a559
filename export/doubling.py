"""Upsamplings to the size of something else: a file that looks whether they double, and then computes less.

`merge_upsampling` needs to know of an upsampling that it doubles the size. A network that takes odd sizes
upsamples to the size of its skip, which is twice as large only where that is even. An fx graph holds one
way; an ONNX file can hold both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import fx

from .fusion import PassReport, Rejected
from .fusion.upsampling import FACTOR, FEWEST_OUT, doubled_weight

NAME = "merge_upsampling_by_size"
_NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def merge_upsampling_by_size(
    model: ir.Model, sizes: Mapping[str, Sequence[int]], flops: int | None = None
) -> tuple[ir.Model, PassReport]:
    """Write `conv(cat(resize(x), y))` as `conv_y(y)` and, of the resized part, a choice by its size.

    Where the size is doubled, the choice is one transposed convolution as in `merge_upsampling`; else it is
    the resizing and the convolution as they were. Exact at every size.

    Args:
        model: in float32, not changed.
        sizes: the example's shape of the values by their names, to count with.
        flops: of the model with the example.

    Returns:
        a new model, or the very one that came in where nothing was rewritten, and the report.
    """
    made = model.clone()
    before = count_nodes(made)
    rejected, details, spared = [], [], 0
    for node in list(made.graph):
        site = _read(node)
        if isinstance(site, Rejected):
            rejected.append(site)
        elif site is not None:
            spared += sum(_spared(site, part, sizes) for part in site.doubled)
            _rewrite(made.graph, site)
            details.append(f"{', '.join(str(part.name) for part in site.doubled)} into {site.name}")
    after = None if flops is None else flops - spared
    report = PassReport(
        NAME, len(details), before, count_nodes(made), tuple(details), tuple(rejected), flops, after
    )
    return (made if details else model), report


def count_nodes(model: ir.Model) -> int:
    """Count the nodes of a model, those in the branches of a choice too."""
    return sum(1 for _ in model.graph.all_nodes())


def example_sizes(graph: fx.Graph) -> dict[str, tuple[int, ...]]:
    """Return the shape that each tensor of a traced graph had on the example."""
    values = {node.name: node.meta.get("val") for node in graph.nodes}
    return {
        name: tuple(int(size.node.hint or 0) if isinstance(size, torch.SymInt) else size for size in x.shape)
        for name, x in values.items()
        if isinstance(x, torch.Tensor)
    }


@dataclass(frozen=True, slots=True)
class _Site:
    """A convolution and what it reads, one or more of it resized to the size of something else.

    Attributes:
        convolution: its node.
        parts: the values it reads, in the order of their channels.
        weight: `(O, C, k...)`.
        bias: `(O,)`, if there is one.
    """

    convolution: ir.Node
    parts: tuple[ir.Value, ...]
    weight: torch.Tensor
    bias: torch.Tensor | None

    @property
    def name(self) -> str:
        return str(self.convolution.outputs[0].name)

    @property
    def doubled(self) -> tuple[ir.Value, ...]:
        return tuple(part for part in self.parts if _is_resized(part))

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])


# --- what is there


def _read(node: ir.Node) -> _Site | Rejected | None:
    """Return the site of a convolution, why it stays as it is, or nothing where nothing is resized."""
    if node.op_type != "Conv" or node.inputs[0] is None:
        return None
    parts = _parts(node.inputs[0])
    if not any(_is_resized(part) for part in parts):
        return None
    name = str(node.outputs[0].name)
    weight, *bias = [_constant(value) for value in node.inputs[1:]]
    if weight is None or None in bias:
        return Rejected(name, "its weights are not constant")
    site = _Site(node, parts, weight, bias[0] if bias else None)
    reason = _refusal(site)
    return Rejected(name, reason) if reason else site


def _parts(read: ir.Value) -> tuple[ir.Value, ...]:
    """List what a convolution reads: the parts of a concatenation of channels, or the one value."""
    joined = read.producer()
    if joined is None or joined.op_type != "Concat" or joined.attributes.get_int("axis") != 1:
        return (read,)
    return tuple(value for value in joined.inputs if value is not None)


def _is_resized(value: ir.Value) -> bool:
    """Say whether a value is upsampled to nearest neighbours, to a size that is computed."""
    node = value.producer()
    if node is None or node.op_type != "Resize" or len(node.inputs) < 4:
        return False
    size = node.inputs[3]
    known = all(node.attributes.get_string(name, "") == wanted for name, wanted in _NEAREST.items())
    return (
        known
        and size is not None
        and size.const_value is None
        and not node.attributes.get_int("antialias", 0)
    )


def _refusal(site: _Site) -> str:
    """Return why a site stays as it is; empty when it can be rewritten."""
    attributes = site.convolution.attributes
    rank = len(site.kernel)
    sides = [size // 2 for size in site.kernel]
    ones = {*attributes.get_ints("strides", [1]), *attributes.get_ints("dilations", [1])}
    if (
        ones != {1}
        or attributes.get_int("group", 1) != 1
        or attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    ):
        return "it is strided, dilated or has groups"
    if list(attributes.get_ints("pads", [0] * 2 * rank)) != sides * 2 or any(
        size % 2 == 0 for size in site.kernel
    ):
        return "it is padded unevenly, or makes another size than it reads"
    if max(site.kernel) < 3:
        return "it has one tap"
    if site.weight.shape[0] < FEWEST_OUT:
        return f"it makes fewer than {FEWEST_OUT} channels: no faster so"
    if sum(_channels(part) for part in site.parts) != site.weight.shape[1]:
        return "the channels of what it reads are not known"
    own = {site.convolution, site.convolution.inputs[0].producer()}  # type: ignore[union-attr]
    if any(user not in own or part.is_graph_output() for part in site.doubled for user in part.consumers()):
        return "what is upsampled before it is read by others as well"
    return ""


def _channels(value: ir.Value) -> int:
    size = value.shape[1] if value.shape is not None and len(value.shape) > 1 else None
    return size if isinstance(size, int) else 0


def _constant(value: ir.Value | None) -> torch.Tensor | None:
    if value is None or value.const_value is None:
        return None
    return torch.from_numpy(value.const_value.numpy().copy())


def _spared(site: _Site, part: ir.Value, sizes: Mapping[str, Sequence[int]]) -> int:
    """Return the operations that the example spares, counted as the fusion passes count theirs."""
    batch, channels, *large = sizes.get(str(part.name), (0, 0))
    taps: int = prod(site.kernel) - prod(size + 1 for size in site.kernel) // FACTOR ** len(site.kernel)
    values = batch * int(site.weight.shape[0]) * prod(large)
    return values * (2 * channels * taps - (len(site.parts) > 1))


# --- what is put in its place


def _rewrite(graph: ir.Graph, site: _Site) -> None:
    """Put the sum of a choice for each resized part and a convolution of the rest in a site's place."""
    build = _Builder(graph, site)
    columns = torch.split(site.weight, [_channels(part) for part in site.parts], dim=1)
    kept = [(p, w) for p, w in zip(site.parts, columns, strict=True) if not _is_resized(p)]
    bias = site.bias
    terms = []
    if kept:
        terms.append(build.kept([part for part, _ in kept], torch.cat([w for _, w in kept], 1), bias))
        bias = None
    for part, weight in zip(site.parts, columns, strict=True):
        if _is_resized(part):
            terms.append(build.choice(part, weight, bias))
            bias = None
    total = terms[0]
    for term in terms[1:]:
        total = build.add("Add", [total, term])
    node = site.convolution
    read = node.inputs[0]
    resized = [part.producer() for part in site.doubled]
    ir.convenience.replace_nodes_and_values(graph, node, [node], build.nodes, node.outputs, [total])
    if read is not None and read not in site.parts and not read.uses():
        graph.remove(read.producer(), safe=True)  # type: ignore[arg-type]
    graph.remove([one for one in resized if one is not None], safe=True)


class _Builder:
    """Makes the nodes that take a site's place.

    Args:
        graph: to hold their weights.
        site: what they replace.
    """

    def __init__(self, graph: ir.Graph, site: _Site) -> None:
        self.graph, self.site = graph, site
        self.nodes: list[ir.Node] = []
        self.numbers = count()
        sides = [size // 2 for size in site.kernel]
        self.form: dict[str, Any] = {"kernel_shape": site.kernel, "pads": sides * 2}
        rank = len(site.kernel)
        self.transposed: dict[str, Any] = {
            "kernel_shape": [size + 1 for size in site.kernel],
            "strides": [FACTOR] * rank,
            "pads": [size - 1 - side for size, side in zip(site.kernel, sides, strict=True)] * 2,
        }

    def add(
        self,
        kind: str,
        inputs: Sequence[ir.Value | None],
        within: list[ir.Node] | None = None,
        **attributes: Any,
    ) -> ir.Value:
        """Append a node to the graph, or to the nodes of a branch, and return its value."""
        nodes = self.nodes if within is None else within
        name = self._free(kind.lower())
        made = ir.node(kind, list(inputs), attributes, name=name)
        made.metadata_props.update(self.site.convolution.metadata_props)
        made.outputs[0].name = f"{name}_value"
        nodes.append(made)
        return made.outputs[0]

    def kept(self, parts: Sequence[ir.Value], weight: torch.Tensor, bias: torch.Tensor | None) -> ir.Value:
        """Convolve what is not resized."""
        read = parts[0] if len(parts) == 1 else self.add("Concat", parts, axis=1)
        constants = [self._weight(value) for value in (weight, bias) if value is not None]
        self.graph.initializers.update({str(value.name): value for value in constants})
        return self.add("Conv", [read, *constants], **self.form)

    def choice(self, part: ir.Value, weight: torch.Tensor, bias: torch.Tensor | None) -> ir.Value:
        """Convolve a resized part, by a transposed convolution where its size is doubled."""
        resize = part.producer()
        assert resize is not None
        small, size = resize.inputs[0], resize.inputs[3]
        short = self._branch("ConvTranspose", [], small, doubled_weight(weight.double()).to(weight), bias)
        resized: list[ir.Node] = []
        self.add("Resize", resize.inputs, resized, **resize.attributes)
        long = self._branch("Conv", resized, resized[0].outputs[0], weight, bias)
        chosen = self.add("If", [self._doubles(small, size)], then_branch=short, else_branch=long)
        chosen.type, chosen.shape = (
            self.site.convolution.outputs[0].type,
            self.site.convolution.outputs[0].shape,
        )
        return chosen

    def _branch(
        self,
        kind: str,
        before: list[ir.Node],
        read: ir.Value | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> ir.Graph:
        """Make a branch, with its weights in it: onnxruntime prepares those of the graph it is at work on."""
        constants = [self._weight(value) for value in (weight, bias) if value is not None]
        form = self.form if kind == "Conv" else self.transposed
        output = self.add(kind, [read, *constants], before, **form)
        result = self.site.convolution.outputs[0]
        output.type, output.shape = result.type, result.shape
        return ir.Graph([], [output], nodes=before, initializers=constants, name=self._free("branch"))

    def _doubles(self, small: ir.Value | None, size: ir.Value | None) -> ir.Value:
        """Compare a size with what it was before."""
        factors = ir.tensor(np.array([1, 1, *[FACTOR] * len(self.site.kernel)]), name=self._free("factors"))
        factor = _initializer(factors)
        self.graph.initializers[str(factor.name)] = factor
        doubled = self.add("Mul", [self.add("Shape", [small]), factor])
        equal = self.add("Cast", [self.add("Equal", [doubled, size])], to=int(ir.DataType.INT32))
        least = self.add("ReduceMin", [equal], keepdims=0)
        return self.add("Cast", [least], to=int(ir.DataType.BOOL))

    def _weight(self, value: torch.Tensor) -> ir.Value:
        return _initializer(ir.tensor(value.contiguous().numpy(), name=self._free("weight")))

    def _free(self, name: str) -> str:
        return f"{self.site.name}_{name}_{next(self.numbers)}"


def _initializer(tensor: ir.TensorProtocol) -> ir.Value:
    return ir.Value(
        name=tensor.name,
        shape=ir.Shape(tensor.numpy().shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
