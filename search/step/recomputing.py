"""Trading time for memory: what the host computes between its implants is computed again for the gradients.

A frozen host still keeps the inputs of its operations for the gradients of the implants below them. Here its
part of a graph is cut into stretches; of each only what goes in is kept, and the stretch is run once more
when its gradients are due (arXiv 1604.06174). Implants are never run again: their norms would count a batch
twice. Outputs and gradients are equal to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.checkpoint import checkpoint

_LENGTH = 8
"""Nodes of a stretch at least: in shorter ones as much would be kept as without them."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Nodes of a graph that follow each other: an implant, or a part of the host.

    Attributes:
        module: of the nodes.
        given: names of the values that go in.
        returned: names of the values that come out.
        again: whether it is run again for its gradients.
        last: names of the values that nobody needs after it.
    """

    module: fx.GraphModule
    given: tuple[str, ...]
    returned: tuple[str, ...]
    again: bool
    last: tuple[str, ...]


class Recomputed:
    """Computes what a graph computes, and keeps less of it for the gradients.

    Args:
        whole: the graph; its modules and parameters are shared.
        example: inputs of the graph, to find the stretches that overwrite what goes into them: those are
            run once, as they were.
    """

    def __init__(self, whole: fx.GraphModule, example: Sequence[Tensor]) -> None:
        self._inputs = tuple(node.name for node in whole.graph.nodes if node.op == "placeholder")
        self._output = next(node for node in whole.graph.nodes if node.op == "output")
        self._stretches = cut(whole)
        self._once = self._overwriting(example)

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the output of the graph."""
        given = dict(zip(self._inputs, inputs, strict=True))
        return run_stretches(self._stretches, given, self._output, self._run)

    def _run(self, stretch: Stretch, given: Sequence[Any]) -> Any:
        if stretch.again and stretch not in self._once and torch.is_grad_enabled():
            return checkpoint(stretch.module, *given, use_reentrant=False)
        return stretch.module(*given)

    @torch.no_grad()
    def _overwriting(self, example: Sequence[Tensor]) -> frozenset[Stretch]:
        """List the stretches whose inputs are not at the end what they were when they went in."""
        values: dict[str, Any] = dict(zip(self._inputs, (x.clone() for x in example), strict=True))
        seen: list[tuple[Stretch, Tensor, int]] = []
        for stretch in self._stretches:
            given = [values[name] for name in stretch.given]
            seen.extend((stretch, one, one._version) for one in given if isinstance(one, Tensor))
            values.update(zip(stretch.returned, stretch.module(*given), strict=True))
        return frozenset(stretch for stretch, tensor, version in seen if tensor._version != version)


def bytes_kept(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Return the bytes that a forward pass keeps for the gradients, parameters and buffers left out.

    Args:
        module: in the mode in which it is to be measured.
        inputs: of the module.
    """
    known = {x.untyped_storage().data_ptr() for x in (*module.parameters(), *module.buffers(), *inputs)}
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return x  # which holds it, so that no other tensor comes to lie in its place

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        output = module(*inputs)
    del output
    return sum(kept.values())


def run_stretches(
    stretches: Sequence[Stretch],
    inputs: Mapping[str, Any],
    output: fx.Node,
    run: Callable[[Stretch, Sequence[Any]], Any],
) -> Any:
    """Run stretches one after the other, and let go of every value as soon as nobody needs it.

    Args:
        stretches: of a graph.
        inputs: of the graph, by name.
        output: the output node of the graph.
        run: runs a stretch on what goes into it.
    """
    values = dict(inputs)
    for stretch in stretches:
        found = run(stretch, [values[name] for name in stretch.given])
        values.update(zip(stretch.returned, found, strict=True))
        for name in stretch.last:
            del values[name]
    return fx.node.map_arg(output.args[0], lambda node: values[node.name])


def cut(whole: fx.GraphModule, length: int | None = _LENGTH) -> tuple[Stretch, ...]:
    """Cut a graph before and after each implant, and between them where a single value is passed on.

    Args:
        whole: the graph.
        length: nodes of a stretch at least; None cuts at the implants alone.
    """
    nodes = [node for node in whole.graph.nodes if node.op not in {"placeholder", "get_attr", "output"}]
    place = {node: number for number, node in enumerate(nodes)}
    ends = {node: max((place.get(user, len(nodes)) for user in node.users), default=-1) for node in nodes}
    groups: list[list[fx.Node]] = []
    for number, node in enumerate(nodes):
        if not groups or _is_implant(node) or _is_full(groups[-1], ends, number, length):
            groups.append([])
        groups[-1].append(node)
    return tuple(_stretch(whole, group, groups[number + 1 :]) for number, group in enumerate(groups))


def _is_implant(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith("implants.")


def _is_full(group: Sequence[fx.Node], ends: dict[fx.Node, int], place: int, length: int | None) -> bool:
    """Tell whether a group is an implant, or long enough with one value alone to pass on from a place on."""
    if _is_implant(group[-1]):
        return True
    return length is not None and len(group) >= length and sum(ends[node] >= place for node in group) == 1


def _stretch(whole: fx.GraphModule, group: list[fx.Node], later: Sequence[list[fx.Node]]) -> Stretch:
    inside = set(group)
    after = {node for others in later for node in others} | {
        node for node in whole.graph.nodes if node.op == "output"
    }
    used = dict.fromkeys(source for node in group for source in node.all_input_nodes if source not in inside)
    given = [node for node in used if node.op != "get_attr"]
    returned = [node for node in group if after & set(node.users)]
    graph, copies = fx.Graph(), {}
    for node in given:
        copies[node] = graph.placeholder(node.name)
    for node in used:
        if node.op == "get_attr":
            copies[node] = graph.node_copy(node)
    for node in group:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in returned))
    return Stretch(
        module=fx.GraphModule(whole, graph),
        given=tuple(node.name for node in given),
        returned=tuple(node.name for node in returned),
        again=not any(map(_is_implant, group)),
        last=tuple(node.name for node in given if not after & set(node.users)),
    )
