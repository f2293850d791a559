"""Cells spliced into the skips of a host: a new network, the host untouched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgeon.errors import SpliceError
from surgeon.parity import compare
from surgeon.skips import Anatomy, Layout, Skip, locate
from surgeon.tracing import Trace, adopt_state, first_line, run, trace


@dataclass(frozen=True, slots=True)
class Rewiring:
    """One edge that was changed: `operand` now enters `merge` through the implant of `skip`."""

    skip: str
    operand: str
    merge: str
    place: int


@dataclass(frozen=True, slots=True)
class SpliceReport:
    """What a splice did.

    Attributes:
        rewired: the changed edges.
        bit_equal: whether the graph, identities in place of the implants, gives the host's outputs to
            the bit.
    """

    rewired: tuple[Rewiring, ...]
    bit_equal: bool


class SplicedNetwork(fx.GraphModule):
    """A host with implants in its skips.

    The host's part is frozen: its parameters need no gradient, and it stays in eval mode whatever
    `train()` says. `implants` holds the spliced modules by skip id. Parameters and buffers keep the host's
    names; those of the implants begin with `implants.<id>.`.
    """

    @property
    def anatomy(self) -> Anatomy:
        """The anatomy of the host."""
        found: Anatomy = self.meta["anatomy"]
        return found

    @property
    def report(self) -> SpliceReport:
        """What the splice changed."""
        found: SpliceReport = self.meta["report"]
        return found

    def train(self, mode: bool = True) -> SplicedNetwork:
        """Set the mode of the implants alone."""
        super().train(False)
        self.training = mode
        for implant in self.get_submodule("implants").children():
            implant.train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SplicedNetwork:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        tensor = next(iter((*self.parameters(), *self.buffers())), None)
        if tensor is not None and _rebase_devices(self.graph, tensor.device):
            self.recompile()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = super().__reduce__()[:2]
        return _revive, (rebuild, arguments, dict(self.meta), self.training)


def _revive(
    rebuild: Callable[..., fx.GraphModule], arguments: tuple[Any, ...], meta: dict[str, Any], mode: bool
) -> SplicedNetwork:
    plain = rebuild(*arguments)
    return _assemble(plain, dict(plain.get_submodule("implants").named_children()), meta).train(mode)


def splice(
    host: nn.Module, inputs: Any, implants: Mapping[str, nn.Module], kwargs: dict[str, Any] | None = None
) -> SplicedNetwork:
    """Splice modules into the skips of a host.

    Args:
        host: any network; it is left as it is, and the result has its own copy of the parameters.
        inputs: one example tensor `(N, C, *spatial)`, or a tuple of positional inputs.
        implants: a module for each skip id. It is called with the skip tensor `(N, C, *spatial)` as it
            enters the merge, and with the tensor it meets there when its attribute `needs_decoder` is
            true; what it returns, of the same shape, takes the skip's place.
        kwargs: keyword inputs.

    Raises:
        InputError: the host fails on the example inputs.
        TraceError: no graph of the host could be proved equal to it.
        SpliceError: an id is unknown, a skip is not implantable, or a module returns another shape.

    Example:
        >>> import torch, monai, surgeon
        >>> host = monai.networks.nets.BasicUNet(2, 1, 2, features=(8, 8, 16, 32, 64, 8)).eval()
        >>> x = torch.rand(1, 1, 64, 64)
        >>> spliced = surgeon.splice(host, x, {"s0": torch.nn.Identity()})
        >>> bool((spliced(x) == host(x)).all())
        True
    """
    return splice_trace(trace(host, inputs, kwargs), implants)


def splice_trace(traced: Trace, implants: Mapping[str, nn.Module]) -> SplicedNetwork:
    """Splice modules into a network that is traced already; see `splice`."""
    anatomy = locate(traced)
    if "implants" in traced.graph_module._modules:
        raise SpliceError(
            "the network has implants already",
            where=traced.host_name,
            fix="splice all cells into the original host at once",
        )
    skips = [_checked(anatomy, skip_id, module) for skip_id, module in implants.items()]
    ordered = sorted(skips, key=anatomy.skips.index)
    plain = copy.deepcopy(traced.graph_module)
    rewired = _rewire(plain.graph, ordered, implants)
    identities = {skip.id: _Identity() for skip in ordered}
    equal = _proved_equal(_assemble(plain, identities, {}), traced)
    meta = {"anatomy": anatomy, "report": SpliceReport(rewired, equal)}
    return _assemble(plain, {skip.id: implants[skip.id] for skip in ordered}, meta)


class _Identity(nn.Module):
    def forward(self, skip: Tensor, *decoder: Tensor) -> Tensor:
        del decoder
        return skip


def _checked(anatomy: Anatomy, skip_id: str, module: nn.Module) -> Skip:
    """Return the skip of an id after checking that `module` can be spliced into it."""
    known = [skip.id for skip in anatomy.skips]
    if skip_id not in known:
        raise SpliceError(
            f"there is no skip {skip_id!r}",
            where=anatomy.host,
            fix=f"choose among {', '.join(known)}"
            if known
            else "this network has no skips: see `surgeon inspect --why`",
        )
    skip = anatomy[skip_id]
    where = f"skip {skip_id} ({skip.source_module or 'input'} -> {skip.merge_module or 'root'})"
    if not skip.implantable:
        raise SpliceError(
            f"no cell can be spliced here: {skip.reason}", where=where, fix="leave this skip out"
        )
    expected = first_form(skip.merge_shape, skip.layout, grid_of(anatomy, skip))
    try:
        found = tuple(
            _try_out(
                module, expected, first_form(skip.decoder_shape, skip.layout, grid_of(anatomy, skip))
            ).shape
        )
    except (RuntimeError, TypeError, ValueError) as problem:
        raise SpliceError(
            f"the cell fails on a tensor of shape {expected}: {first_line(problem)}",
            where=where,
            fix=f"build it with channels={expected[1]} for {len(expected) - 2} spatial dimensions",
        ) from problem
    if found != expected:
        raise SpliceError(
            f"the cell returns {found}, the skip has {expected}",
            where=where,
            fix=f"build it with channels={expected[1]} and keep the spatial size",
        )
    return skip


def _try_out(module: nn.Module, shape: tuple[int, ...], decoder: tuple[int, ...]) -> Tensor:
    like = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    modes = [(part, part.training) for part in module.modules()]
    tensors = [torch.zeros(shape, dtype=dtype, device=like.device)]
    if getattr(module, "needs_decoder", False):
        tensors.append(torch.zeros(decoder, dtype=dtype, device=like.device))
    try:
        module.eval()
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            result: Tensor = module(*tensors)
            return result
    finally:
        for part, mode in modes:
            part.training = mode


def grid_of(anatomy: Anatomy, skip: Skip) -> tuple[int, ...]:
    """Return the spatial size at the merge, also where the tensor is a row of tokens."""
    if skip.layout is not Layout.TOKENS:
        return skip.spatial
    return tuple(
        -(-size // step) for size, step in zip(anatomy.input_shapes[0][2:], skip.stride, strict=True)
    )


def first_form(shape: tuple[int, ...], layout: Layout, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape `(N, C, *spatial)` of a tensor of another layout."""
    if layout is Layout.CHANNELS_FIRST:
        return shape
    return (shape[0], shape[-1], *grid)


def to_channels_first(tensor: Tensor, image: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Turn `(N, L, C)` or `(N, *spatial, C)` into `(N, C, *spatial)`.

    Args:
        tensor: tokens, or a map with the channels last.
        image: the network's input `(N, C, *spatial)`, whose size gives the grid of tokens.
        stride: input size over grid size, per spatial dimension; empty for a map.
    """
    tensor = tensor.movedim(-1, 1)
    if not stride:
        return tensor
    sizes = [-(-image.shape[axis + 2] // step) for axis, step in enumerate(stride)]
    return tensor.reshape(tensor.shape[0], tensor.shape[1], *sizes)  # (N, C, *spatial)


def from_channels_first(tensor: Tensor, tokens: bool) -> Tensor:
    """Turn `(N, C, *spatial)` back into `(N, L, C)` or `(N, *spatial, C)`."""
    return (tensor.flatten(2) if tokens else tensor).movedim(1, -1)


def _rewire(graph: fx.Graph, skips: list[Skip], implants: Mapping[str, nn.Module]) -> tuple[Rewiring, ...]:
    """Send each skip operand through its implant, right before the merge."""
    nodes = {node.name: node for node in graph.nodes}
    image = _image(graph)
    rewired = []
    for skip in skips:
        merge = nodes[skip.merge_node]
        operand, decoder = _operand(merge, skip.operand_index), nodes[skip.decoder_node]
        with graph.inserting_before(merge):
            arguments = [_enter(graph, operand, image, skip)]
            if getattr(implants[skip.id], "needs_decoder", False):
                met = graph.call_function(torch.clone, (decoder,)) if _writes(merge) else decoder
                arguments.append(_enter(graph, met, image, skip))
            result = graph.create_node(
                "call_module", f"implants.{skip.id}", tuple(arguments), {}, name=f"implant_{skip.id}"
            )
            result.meta = {"shape": skip.merge_shape, "module": f"implants.{skip.id}"}
            if skip.layout is not Layout.CHANNELS_FIRST:
                result = graph.call_function(from_channels_first, (result, skip.layout is Layout.TOKENS))
        _replace_operand(merge, skip.operand_index, result)
        rewired.append(Rewiring(skip.id, operand.name, merge.name, skip.operand_index))
    return tuple(rewired)


def _writes(merge: fx.Node) -> bool:
    """Tell whether a merge is written in place: what an implant keeps for its gradients must not change."""
    name = getattr(merge.target, "__name__", str(merge.target))
    return name.split(".")[0].endswith("_") or name == "iadd"


def _image(graph: fx.Graph) -> fx.Node:
    """Return the input that holds the image: the first of the largest rank."""
    inputs: list[fx.Node] = [node for node in graph.nodes if node.op == "placeholder"]
    return max(inputs, key=lambda node: len(node.meta.get("shape") or ()))


def _enter(graph: fx.Graph, node: fx.Node, image: fx.Node, skip: Skip) -> fx.Node:
    if skip.layout is Layout.CHANNELS_FIRST:
        return node
    stride = skip.stride if skip.layout is Layout.TOKENS else ()
    return graph.call_function(to_channels_first, (node, image, stride))


def _operand(merge: fx.Node, place: int) -> fx.Node:
    holder = _tensors(merge)
    found = holder[place] if holder is not None else merge.args[place]
    assert isinstance(found, fx.Node)
    return found


def _replace_operand(merge: fx.Node, place: int, new: fx.Node) -> None:
    holder = _tensors(merge)
    if holder is None:
        merge.update_arg(place, new)
        return
    changed = [new if k == place else tensor for k, tensor in enumerate(holder)]
    if merge.args:
        merge.update_arg(0, changed)
    else:
        merge.update_kwarg("tensors", changed)


def _tensors(merge: fx.Node) -> list[Any] | None:
    """Return the list of tensors of a concatenation; None for an addition."""
    first = merge.args[0] if merge.args else merge.kwargs.get("tensors")
    return list(first) if isinstance(first, tuple | list) else None


def _assemble(
    plain: fx.GraphModule, implants: Mapping[str, nn.Module], meta: dict[str, Any]
) -> SplicedNetwork:
    """Make the network from its graph, the host's state and the implants."""
    holder = nn.ModuleDict(dict(implants))
    plain.add_module("implants", holder)
    network = SplicedNetwork(plain, plain.graph, class_name="SplicedNetwork")
    del plain._modules["implants"]
    network._modules.pop("implants", None)
    adopt_state(network, plain)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    network.add_module("implants", holder)
    network.graph.lint()
    network.meta.update(meta)
    network.train(False)
    return network


def _proved_equal(network: SplicedNetwork, traced: Trace) -> bool:
    """Check that the graph with identities for implants computes what the trace computed, to the bit."""
    difference = compare(run(traced.graph_module, traced.example), run(network, traced.example))
    if not difference.equal:
        raise SpliceError(
            f"the rewired graph differs from the host by {difference.largest:.3g} before any training",
            where=traced.host_name,
            fix="report this network: its graph cannot be rewired safely",
        )
    return bool(traced.summary.replays[0].difference and traced.summary.replays[0].difference.equal)


def _rebase_devices(graph: fx.Graph, device: torch.device) -> bool:
    """Point the devices that a trace has baked into a graph at another one; tell whether any changed."""
    changed = False

    def move(value: Any) -> Any:
        nonlocal changed
        if isinstance(value, torch.device) and value != device:
            changed = True
            return device
        return value

    for node in graph.nodes:
        node.args = fx.node.map_aggregate(node.args, move)
        node.kwargs = fx.node.map_aggregate(node.kwargs, move)
    return changed
