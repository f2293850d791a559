"""A graph as the rules see it: data nodes in order, their resolution, and which edges count."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import and_

from torch import fx

from surgeon.tracing import Trace, image_shapes

from . import operations as ops
from .anatomy import Merge
from .axes import ABOUT, Axes, Tag, channel_axis
from .operations import carries_weights, is_any, operation, weights_made
from .tagging import infer_axes
from .weighing import drop_weighing, users_of

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class MergeSite:
    """A node where several tensors of the network meet."""

    index: int
    merge: Merge
    operands: tuple[int, ...]
    places: tuple[int, ...]


class GraphView:
    """The data flow of a trace.

    Nodes are numbered in the order of execution; sets of nodes are bit sets in integers, so that the
    ancestors of every node come from one pass over the graph.
    """

    def __init__(self, trace: Trace) -> None:
        module = trace.graph_module
        self.nodes: list[fx.Node] = list(module.graph.nodes)
        self.index = {node: i for i, node in enumerate(self.nodes)}
        self.names = [
            operation(node, module) if node.op.startswith("call") else node.op for node in self.nodes
        ]
        made = weights_made(module.graph)
        self.weights = [
            node.op.startswith("call") and node not in made and carries_weights(node, module, made)
            for node in self.nodes
        ]
        self.example_shape = image_shapes(trace.example)[0]
        self.axes: dict[fx.Node, Axes] = infer_axes(
            module, dict(zip(self.nodes, self.names, strict=True)), len(self.example_shape)
        )
        self._data = self._data_nodes()
        self.resolution = self._resolutions()
        products = [i for i, name in enumerate(self.names) if name in ops.PRODUCTS]
        flow = self._flow()
        self.sources = drop_weighing(flow, self.resolution, products)
        self.weighed = bits(i for i in products if self.sources[i] != flow[i])
        self.users = users_of(self.sources)
        self.output_reach = self._reaches_output()

    def _data_nodes(self) -> list[bool]:
        """Tell which nodes depend on an input that holds an image."""
        data = [False] * len(self.nodes)
        for i, node in enumerate(self.nodes):
            shape = node.meta.get("shape")
            if node.op == "placeholder":
                data[i] = isinstance(shape, tuple) and len(shape) == len(self.example_shape)
            elif shape is not None:
                data[i] = any(data[self.index[source]] for source in node.all_input_nodes)
        return data

    def _resolutions(self) -> list[int]:
        resolution = [1] * len(self.nodes)
        for i, node in enumerate(self.nodes):
            if not self._data[i]:
                continue
            before = max(
                (resolution[self.index[s]] for s in node.all_input_nodes if self._data[self.index[s]]),
                default=1,
            )
            axes = self.axes.get(node)
            if axes is None:
                resolution[i] = before
                continue
            space = [f.size for one in axes for f in one if f.tag is Tag.SPACE]
            resolution[i] = math.prod(space)
        return resolution

    def _flow(self) -> list[list[int]]:
        """List each node's data inputs without the edges that carry a summary instead of a picture."""
        sources: list[list[int]] = []
        for i, node in enumerate(self.nodes):
            if not self._data[i] and node.op != "output":
                sources.append([])
                continue
            inputs = self._data_inputs(node)
            if self._summarises(i, inputs):
                inputs = []
            sources.append(self._without_gates(i, inputs))
        return sources

    def _data_inputs(self, node: fx.Node) -> list[int]:
        inputs = [self.index[s] for s in node.all_input_nodes if self._data[self.index[s]]]
        # What another tensor is shaped after gives it no content.
        return inputs[:1] if self.names[self.index[node]] in ops.SHAPED_AFTER else inputs

    def _summarises(self, i: int, inputs: list[int]) -> bool:
        """Tell whether a node pools all positions to a few, or reads one token out.

        So does a product of a picture with itself that sums over all positions, as in linear attention.
        """
        name = self.names[i]
        if not inputs or self.resolution[i] >= ABOUT * self.resolution[inputs[0]]:
            return False
        if (
            is_any(name, ops.ADAPTIVE_POOLS)
            or name in ops.REDUCTIONS
            or (name == "einsum" and len(inputs) == 1)
        ):
            return True
        if self.resolution[i] > 1:
            return False
        if name in ops.MATRIX_PRODUCTS:
            return len(inputs) > 1 and bool(reduce(and_, (self._made_from[source] for source in inputs)))
        return name in ("select", "slice", "getitem", "indexselect", "narrow")

    @cached_property
    def _made_from(self) -> list[int]:
        """Of every node, the set of it and of what all of it was made from without leaving its resolution."""
        made: list[int] = []
        for i, node in enumerate(self.nodes):
            inputs = self._data_inputs(node) if self._data[i] else []
            stays = all(self.same_resolution(source, i) for source in inputs)
            common = reduce(and_, (made[source] for source in inputs)) if inputs and stays else 0
            made.append(common | (1 << i))
        return made

    def _without_gates(self, i: int, inputs: list[int]) -> list[int]:
        if self.names[i] not in ops.PRODUCTS or len(inputs) < 2:
            return inputs
        # What is spread over the channels or positions of the other factor weighs it and carries no picture.
        largest = max(math.prod(self.shape(source)) for source in inputs)
        whole = [source for source in inputs if math.prod(self.shape(source)) == largest]
        kept = [source for source in whole if not self._is_gate(source)]
        return kept or whole[:1]

    def _is_gate(self, i: int) -> bool:
        for _ in range(12):
            name = self.names[i]
            if name in ops.SIGMOIDS:
                return True
            inputs = self._data_inputs(self.nodes[i])
            if len(inputs) != 1 or not (is_any(name, ops.CARRIERS) or name in ("add", "mul", "rsub", "sub")):
                return False
            i = inputs[0]
        return False

    def _reaches_output(self) -> int:
        reach = 0
        for i in range(len(self.nodes) - 1, -1, -1):
            if self.nodes[i].op == "output" or any(reach >> user & 1 for user in self.users[i]):
                reach |= 1 << i
        return reach

    def shape(self, i: int) -> tuple[int, ...]:
        """Return the shape of a node's tensor at the example's size."""
        shape = self.nodes[i].meta.get("shape")
        return shape if isinstance(shape, tuple) else ()

    def module(self, i: int) -> str:
        """Return the qualified name of the module in whose forward a node runs."""
        return str(self.nodes[i].meta.get("module", ""))

    def modules(self, i: int) -> tuple[str, ...]:
        """Return the qualified names of all modules in whose forward a node runs, outermost first."""
        return tuple(self.nodes[i].meta.get("modules", ()))

    def site(self, i: int) -> str:
        """Return the file and line that made a node, with the class in whose forward it stands."""
        site = self.nodes[i].meta.get("site", "")
        return f"{site}|{self.nodes[i].meta.get('module_type', '')}" if site else ""

    def line(self, i: int) -> str:
        """Return the text of the line that made a node."""
        return str(self.nodes[i].meta.get("line", ""))

    def same_resolution(self, i: int, j: int) -> bool:
        """Tell whether two nodes have about the same resolution."""
        a, b = self.resolution[i], self.resolution[j]
        return min(a, b) >= ABOUT * max(a, b)

    @cached_property
    def merges(self) -> tuple[MergeSite, ...]:
        """All concatenations and additions in the order of execution, and blends in `with_blends`."""
        return tuple(site for i in range(len(self.nodes)) if (site := self._merge(i)) is not None)

    @cached_property
    def blends(self) -> tuple[MergeSite, ...]:
        """Where tensors of one shape meet in another way: products, differences, maxima, stacks."""
        return tuple(site for i in range(len(self.nodes)) if (site := self._blend(i)) is not None)

    def with_blends(self) -> GraphView:
        """Return this view with blends among its merges."""
        view = copy.copy(self)
        sites = {site.index: site for site in (*self.merges, *self.blends)}
        view.merges = tuple(sites[i] for i in sorted(sites))
        return view

    def _merge(self, i: int) -> MergeSite | None:
        node, name = self.nodes[i], self.names[i]
        if not self._data[i] or len(self.shape(i)) < 3:
            return None
        if name in (*ops.CONCATENATIONS, "stack"):
            return self._concatenation(i)
        if name in ops.ADDITIONS and len(node.args) >= 2:
            pair = [a for a in node.args[:2] if isinstance(a, fx.Node)]
            indices = tuple(self.index[a] for a in pair)
            if (
                len(indices) == 2
                and all(self._data[j] for j in indices)
                and len({self.shape(j) for j in indices}) == 1
            ):
                return MergeSite(i, Merge.ADD, indices, (0, 1))
        return None

    def _blend(self, i: int) -> MergeSite | None:
        if self.names[i] == "stack":
            stacked = self._merge(i)
            return None if stacked is None else replace(stacked, merge=Merge.OTHER)
        if self.names[i] not in ops.BLENDS or len(self.shape(i)) < 3:
            return None
        places = tuple(k for k, value in enumerate(self.nodes[i].args) if self._is_blended(i, value))
        operands = tuple(self.index[self.nodes[i].args[k]] for k in places)  # type: ignore[index]
        return MergeSite(i, Merge.OTHER, operands, places) if len(operands) > 1 else None

    def _is_blended(self, i: int, value: object) -> bool:
        """Tell whether an argument of a node carries a picture of that node's shape."""
        if not isinstance(value, fx.Node):
            return False
        dtype, operand = value.meta.get("dtype"), self.index[value]
        pictures = dtype is None or dtype.is_floating_point
        return pictures and operand in self.sources[i] and self.shape(operand) == self.shape(i)

    def _concatenation(self, i: int) -> MergeSite | None:
        node = self.nodes[i]
        tensors = node.args[0] if node.args else node.kwargs.get("tensors")
        if not isinstance(tensors, tuple | list):
            return None
        if self.names[i] != "stack" and not self._along_channels(i):
            return None
        places = tuple(
            k for k, t in enumerate(tensors) if isinstance(t, fx.Node) and self._data[self.index[t]]
        )
        operands = tuple(self.index[tensors[k]] for k in places)  # type: ignore[index]
        if len(operands) < 2:
            return None
        return MergeSite(i, Merge.CAT, operands, places)

    def _along_channels(self, i: int) -> bool:
        node = self.nodes[i]
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        if not isinstance(dim, int):
            return False
        dim %= len(self.shape(i))
        axes = self.axes.get(node)
        channel = channel_axis(axes) if axes is not None else 1
        return dim == (1 if channel is None else channel)


def enlarged_from(view: GraphView, operands: Iterable[int]) -> set[int]:
    """Return the tensors of lower resolution that operands were made from, meeting no other on the way.

    Parts of one enlarged tensor were made from one: a padded tensor in chunks, each shifted by itself.
    """
    return {found for found in (_lower(view, operand) for operand in operands) if found is not None}


def _lower(view: GraphView, i: int) -> int | None:
    resolution = view.resolution[i]
    while len(view.sources[i]) == 1:
        (source,) = view.sources[i]
        if view.resolution[source] < ABOUT * resolution:
            return source
        i = source
    return None


def bits(indices: Iterable[int]) -> int:
    """Return a bit set of indices."""
    result = 0
    for index in indices:
        result |= 1 << index
    return result


def members(found: int) -> Iterator[int]:
    """Yield the indices in a bit set, ascending."""
    while found:
        low = found & -found
        yield low.bit_length() - 1
        found ^= low
