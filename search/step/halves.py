"""A spliced network in two halves: what no implant can influence, and the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from surgeon.checkpoints import fingerprint
from surgeon.parity import compare
from surgeon.splicing import SplicedNetwork

from .compiling import CompiledHalves, Compiler
from .recomputing import Recomputed, bytes_kept
from .thrift import influenced, thrifty, trained_in

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-12}
"""Largest difference, over the largest value, that counts as rounding."""


class Halves:
    """Computes a spliced network in two steps, equal to it up to rounding.

    The first half is a function of the image and of frozen parameters alone: it needs no gradients, and what
    it gives may be kept. Both are computed with fewer operations (`thrift`) if that gives the same up to
    rounding. Where the halves do not give what the whole network gives (a host that overwrites its tensors,
    say), the first half is empty.

    Args:
        network: the host with its implants; the halves share its modules and parameters.
        example: images `(2, C, *spatial)` on the network's device, to compare the halves with the whole.

    Attributes:
        names: of the nodes whose tensors the first half gives; empty where there is no first half.
        by_case: whether the features of a batch are those of its images, one after the other.
        layout: channels last in memory where the network takes that.
    """

    def __init__(self, network: SplicedNetwork, example: Tensor) -> None:
        self.network = network
        self.names: tuple[str, ...] = ()
        self.by_case = False
        self.layout = torch.contiguous_format
        self._again: Recomputed | None = None
        self._compiled: CompiledHalves | None = None
        mode = network.training
        network.eval()
        try:
            with torch.no_grad():
                self._settle(example)
        finally:
            network.train(mode)

    @property
    def second(self) -> fx.GraphModule | None:
        """What `finish` runs; None where that is the whole network, or a part is computed again."""
        return self._second if self.names and self._again is None and self._compiled is None else None

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return what the second half needs of an image `(N, C, *spatial)`."""
        image = image.clone(memory_format=self.layout)  # one channel alone is laid out both ways at once
        if not self.names:
            return (image,)
        with torch.no_grad():
            compiled = self._compiled
            first = compiled.first if compiled is not None and compiled.takes(image) else None
            found: tuple[Tensor, ...] = (self._first if first is None else first)(image)
            return found

    def finish(self, features: Sequence[Tensor], shape: tuple[int, ...] = ()) -> Any:
        """Return the network's output from the features of images of a shape."""
        if self._compiled is not None and self._compiled.shape == shape:
            return self.network.graph.process_outputs(self._compiled.second(features))
        if self._again is not None:
            return self.network.graph.process_outputs(self._again(*features))
        if not self.names:
            return self.network(*features)
        return self.network.graph.process_outputs(self._second(*features))

    def spare(self, example: Tensor, batch: int, memory: float) -> bool:
        """Keep less for the gradients, and compute it again, where a batch would keep too much.

        Args:
            example: images `(N, C, *spatial)` on the network's device, to measure it on.
            batch: images in a batch.
            memory: most bytes that a batch may keep.
        """
        mode = self.network.training
        self.network.eval()
        try:
            second = self._second if self.names else fx.GraphModule(self.network, self.network.graph)
            given = self.features(example)
            if bytes_kept(second, given) / len(example) * batch > memory:
                self._again = Recomputed(second, given)
        finally:
            self.network.train(mode)
        return self._again is not None

    def compile(self, compiler: Compiler, shape: tuple[int, ...]) -> None:
        """Have what the host computes compiled, for images of one shape; not where it is computed again.

        Args:
            compiler: that compiles, and keeps.
            shape: of a batch `(N, C, *spatial)`.
        """
        if self._again is not None:
            return
        second = self._second if self.names else fx.GraphModule(self.network, self.network.graph)
        self._compiled = CompiledHalves(compiler, self._first if self.names else None, second, shape)

    def computation(self) -> str:
        """Return a digest of what features depend on beside the image: graph, weights, precision."""
        if not self.names:
            return ""
        kind = next(iter(self.network.parameters())).device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        shape = str(self._compiled.shape) if self._compiled is not None else ""
        parts = (str(self.layout), str(half), shape, *self.names, self._first.code)
        return f"{fingerprint(self._first)}/{hashlib.sha256(' '.join(parts).encode()).hexdigest()}"

    def _settle(self, example: Tensor) -> None:
        """Take the layout that the network takes, and the halves that equal the whole in it."""
        last = _LAST.get(example.ndim)
        if last is not None and self._takes(example.clone(memory_format=last)):
            self.layout = last
        whole = self.network(example.clone(memory_format=self.layout))
        rounding = _ROUNDING.get(example.dtype, 0.0)
        for module, allowed in ((thrifty(self.network, self.network.graph), rounding), (self.network, 0.0)):
            parts = _divide(self.network, module)
            if parts is None:
                return
            self.names, self._first, self._second = parts
            _copy_overwritten(self._second, self.features(example))
            if self._equal(whole, example, allowed):
                return
        self.names = ()

    def _equal(self, whole: Any, example: Tensor, allowed: float) -> bool:
        """Tell whether the halves give what the whole gives."""
        features = self.features(example.clone(memory_format=self.layout))
        difference = compare(whole, self.finish(features))
        equal = difference.equal or difference.relative <= allowed
        self.by_case = equal and all(f.ndim > 0 and len(f) == len(example) for f in features)
        return equal

    def _takes(self, image: Tensor) -> bool:
        try:
            self.network(image)
        except RuntimeError:  # a view that needs the channels first
            return False
        return True


def _divide(
    network: SplicedNetwork, module: fx.GraphModule
) -> tuple[tuple[str, ...], fx.GraphModule, fx.GraphModule] | None:
    """Divide a graph of a network; None where nothing but the image is free of the implants."""
    nodes = list(module.graph.nodes)
    images = [node for node in nodes if node.op == "placeholder"]
    moved = influenced(nodes, trained_in(network))
    passed, repeated = _border(nodes, moved)
    if len(images) != 1 or not set(passed) - set(images):
        return None
    first = _part(module, [node for node in nodes if node not in moved], (), passed)
    rest = [node for node in nodes if node in moved or node in repeated]
    return tuple(node.name for node in passed), first, _part(module, rest, passed, None)


def _copy_overwritten(second: fx.GraphModule, features: Sequence[Tensor]) -> None:
    """Have a second half, changed in place, copy what it overwrites of its inputs (`up += skip`).

    Args:
        second: its inputs may be kept, and are to stay as they are.
        features: for a trial, which leaves them overwritten.
    """
    features = [feature.clone() for feature in features]  # some may share their memory
    versions = [feature._version for feature in features]
    second(*features)
    inputs = [node for node in second.graph.nodes if node.op == "placeholder"]
    for node, feature, version in zip(inputs, features, versions, strict=True):
        if feature._version == version:
            continue
        with second.graph.inserting_after(node):
            copied = second.graph.call_function(torch.ops.aten.clone.default, (node,))
        node.replace_all_uses_with(copied, lambda user, made=copied: user is not made)
    second.recompile()


def _border(nodes: Sequence[fx.Node], influenced: set[fx.Node]) -> tuple[list[fx.Node], set[fx.Node]]:
    """Return the free tensors that the second half takes, and the free nodes that it repeats.

    It repeats what is no tensor (sizes, say) or a parameter.
    """
    passed, repeated = set(), set()
    waiting = [node for node in nodes if node in influenced or node.op == "output"]
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node in influenced or node in passed or node in repeated:
                continue
            if isinstance(node.meta.get("shape"), tuple) and node.op != "get_attr":
                passed.add(node)
            else:
                repeated.add(node)
                waiting.append(node)
    return [node for node in nodes if node in passed], repeated


def _part(
    module: fx.GraphModule,
    nodes: Sequence[fx.Node],
    given: Sequence[fx.Node],
    returned: Sequence[fx.Node] | None,
) -> fx.GraphModule:
    """Make a module of some of a graph's nodes; without `returned` it gives the graph's output."""
    graph, copies = fx.Graph(), {}
    for node in given:
        copies[node] = graph.placeholder(node.name)
    for node in nodes:
        if node.op != "output":
            copies[node] = graph.node_copy(node, copies.__getitem__)
    if returned is None:
        output = next(node for node in module.graph.nodes if node.op == "output")
        graph.output(fx.node.map_arg(output.args[0], copies.__getitem__))
    else:
        graph.output(tuple(copies[node] for node in returned))
    return fx.GraphModule(module, graph)
