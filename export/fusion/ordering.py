"""Channel shuffles, slices and selections absorbed into the weight order of their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from .calls import OPEN
from .channels import SPLITS, Order, channels_of, read_order
from .convolutions import Convolution, read_convolution, write_convolution
from .draft import Draft, arguments_of, count_nodes, shape_of
from .report import PassReport, Rejected

aten = torch.ops.aten

# Whatever channel a value is in, it is computed the same way.
_CARRIERS = {
    getattr(getattr(aten, name), form)
    for form, names in {
        "default": (
            "relu relu6 leaky_relu elu celu selu gelu silu mish hardtanh hardswish hardsigmoid sigmoid tanh "
            "softplus clamp dropout alias clone contiguous "
            "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"
        ),
        "vec": (
            "upsample_nearest1d upsample_nearest2d upsample_nearest3d "
            "upsample_linear1d upsample_bilinear2d upsample_trilinear3d"
        ),
        "Tensor": "mul div add sub",
        "Scalar": "mul div add sub",
    }.items()
    for name in names.split()
}
# A shuffle: a view, a transposition, a copy, a view.
_STEPS = 4
_JOINED = {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor}


def absorb_channel_order(source: fx.GraphModule) -> tuple[fx.GraphModule, PassReport]:
    """Let convolutions read and write channels in the order that their neighbours keep them in.

    A node that picks channels (a slice, a selection, a shuffle) is a note on its source: pools, activations,
    sums of equally ordered tensors and depthwise convolutions work on the source as it lies, with their
    constants in its order. A convolution takes the note into the columns of its weight, where no channel
    that it does not need comes in with it: `W x[order] = W' x`. Parts of what one convolution makes come
    out of convolutions of their own, by the rows of its weight. What is left is picked where it is needed.
    Permuting weights is exact to the bit; the sums of a product may be done in another order.
    """
    draft = Draft(source, "absorb_channel_order")
    work = _Work(draft)
    for node in list(draft.graph.nodes):
        work.visit(node)
    divide_producers(draft)
    fused, report = draft.finish()
    if report.changed and count_nodes(fused) >= count_nodes(source):
        output = next(iter(reversed(source.graph.nodes)))
        idle = Rejected(output.name, "the channels would have to be picked as often elsewhere")
        before = report.nodes_before
        return source, PassReport(report.name, 0, before, before, (), (*report.rejected, idle))
    return fused, report


@dataclass(frozen=True, slots=True)
class _Note:
    """A tensor that is not computed: channel `i` of it is channel `order[i]` of a node.

    Attributes:
        node: what is computed.
        order: which of its channels they are.
        width: how many channels it has.
    """

    node: fx.Node
    order: Order
    width: int

    @property
    def place(self) -> tuple[Order, int]:
        """Return what two tensors must have in common to be summed as they lie."""
        return self.order, self.width

    @property
    def is_whole(self) -> bool:
        """Say whether every channel is there once."""
        return sorted(self.order) == list(range(self.width))

    @property
    def is_plain(self) -> bool:
        """Say whether it is the node itself."""
        return self.order == tuple(range(self.width))


@dataclass
class _Work:
    """The notes on a graph's nodes, while it is rewritten from its inputs on."""

    draft: Draft
    notes: dict[fx.Node, _Note] = field(default_factory=dict)
    picked: dict[tuple[fx.Node, Order], fx.Node] = field(default_factory=dict)

    def visit(self, node: fx.Node) -> None:
        """Take down what a node picks, or let it read what its notes say."""
        found = read_order(self.draft, node)
        if found is not None:
            source, order = found
            self._pick(node, source, order)
        elif not any(each in self.notes for each in node.all_input_nodes):
            return
        elif node.target is aten.cat.default and arguments_of(node)["dim"] == 1:
            self._join(node)
        elif not (self._absorb(node) or self._carry(node)):
            self._settle(node)

    def _note(self, node: fx.Node) -> _Note:
        width = channels_of(node)
        return self.notes.get(node) or _Note(node, tuple(range(width)), width)

    def _pick(self, node: fx.Node, source: fx.Node, order: Order) -> None:
        under = self._note(source)
        self.notes[node] = _Note(under.node, tuple(under.order[i] for i in order), under.width)
        if source not in self.notes:
            self.picked.setdefault((source, order), node)

    def _join(self, node: fx.Node) -> None:
        """Concatenate what is computed; the order of the channels is taken down."""
        given: Any = node.args[0]
        parts = [self._note(part) for part in given]
        first = parts[0].node
        if not all(part.width for part in parts):
            self._settle(node)
            return
        if all(part.node is first for part in parts):
            self.notes[node] = _Note(first, sum((part.order for part in parts), ()), parts[0].width)
            return
        whole = [part.is_whole for part in parts]
        if all(part.is_plain for part, fits in zip(parts, whole, strict=True) if fits):
            self._settle(node)
            return
        read = [part.node if fits else self._at(part, node) for part, fits in zip(parts, whole, strict=True)]
        order: list[int] = []
        for part, fits in zip(parts, whole, strict=True):
            start = len(order)
            order += [start + i for i in (part.order if fits else range(len(part.order)))]
        made = self._again(node, (read, 1), {})
        self.notes[node] = _Note(made, tuple(order), len(order))

    def _absorb(self, node: fx.Node) -> bool:
        """Take the order of what a convolution reads into its weight."""
        convolution = read_convolution(self.draft, node)
        given: Any = node.args[0] if node.args else None
        under = self.notes.get(given) if isinstance(given, fx.Node) else None
        if convolution is None or under is None:
            return False
        depthwise = convolution.groups == convolution.channels_in == convolution.channels_out > 1
        if depthwise and under.is_whole:
            self._carry_depthwise(node, convolution, under)
            return True
        if convolution.groups != 1:
            self.draft.reject(node, f"it has groups: the order of {given} stays before it")
            return False
        if len(under.order) < under.width:
            self.draft.reject(node, f"it would read the other channels of {under.node.name} too")
            return False
        weight = _columns(convolution, under)
        self.draft.note(f"the order of {given} into {node.name}")
        node.args = (under.node, *node.args[1:])
        write_convolution(self.draft, node, weight, None)
        return True

    def _carry_depthwise(self, node: fx.Node, convolution: Convolution, under: _Note) -> None:
        made = self._again(node, (under.node, *node.args[1:]))
        into = torch.tensor(_inverse(under.order))
        bias = None if convolution.bias is None else convolution.bias[into]
        write_convolution(self.draft, made, convolution.weight[into], bias)
        self.notes[node] = _Note(made, under.order, under.width)

    def _carry(self, node: fx.Node) -> bool:
        """Compute a node that does not care for the order of channels on what is computed."""
        if node.target not in _CARRIERS:
            return False
        noted = [each for each in node.all_input_nodes if each in self.notes]
        under = self.notes[noted[0]]
        joins = node.target in _JOINED and shape_of(node) != shape_of(noted[0])
        if joins or not under.is_whole or any(each not in node.args for each in noted):
            return False
        read = [self._partner(node, argument, under) for argument in node.args]
        if any(each is None for each in read):
            return False
        self.notes[node] = _Note(self._again(node, tuple(each[0] for each in read if each)), *under.place)
        return True

    def _partner(self, node: fx.Node, argument: Any, under: _Note) -> tuple[Any] | None:
        """Return an argument for channels as they lie; None where it has another order."""
        if not isinstance(argument, fx.Node) or isinstance(argument.meta.get("val"), torch.SymInt):
            return (argument,)
        if argument in self.notes:
            other = self.notes[argument]
            return (other.node,) if other.place == under.place else None
        constant = self.draft.constant(argument)
        turned = None if constant is None else _turned(constant, under, len(shape_of(node) or ()))
        if turned is None:
            return None
        return (
            argument if turned is constant else self.draft.add_constant(f"{node.name}_order", turned, node),
        )

    def _settle(self, node: fx.Node) -> None:
        """Let a node read the channels in the order that it needs them in."""
        for each in node.all_input_nodes:
            if each in self.notes:
                node.replace_input_with(each, self._at(self.notes[each], node))

    def _at(self, note: _Note, node: fx.Node) -> fx.Node:
        """Return a node with the channels in order, inserted before `node` unless there is one."""
        if note.is_plain:
            return note.node
        key = (note.node, note.order)
        if key not in self.picked:
            self.picked[key] = _insert(self.draft, note, node)
        return self.picked[key]

    def _again(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> fx.Node:
        """Insert a node once more, with other arguments."""
        named = dict(node.kwargs) if kwargs is None else kwargs
        with self.draft.graph.inserting_before(node):
            made = self.draft.graph.call_function(node.target, args, named)  # type: ignore[arg-type]
        made.meta = dict(node.meta)
        return made


def _insert(draft: Draft, note: _Note, node: fx.Node) -> fx.Node:
    first, last = note.order[0], note.order[-1]
    value = note.node.meta.get("val")
    if note.order == tuple(range(first, last + 1)):
        end = OPEN if last + 1 == note.width else last + 1
        with draft.graph.inserting_before(node):
            made = draft.graph.call_function(aten.slice.Tensor, (note.node, 1, first, end))
    else:
        index = draft.add_constant(f"{node.name}_order", torch.tensor(note.order), node)
        with draft.graph.inserting_before(node):
            made = draft.graph.call_function(aten.index_select.default, (note.node, 1, index))
    if isinstance(value, Tensor):
        made.meta["val"] = value.new_empty((value.shape[0], len(note.order), *value.shape[2:]))
    return made


def _inverse(order: Order) -> list[int]:
    """Return where each channel of the source is among the picked ones."""
    return sorted(range(len(order)), key=lambda i: order[i])


def _columns(convolution: Convolution, under: _Note) -> Tensor:
    """Return the weight for the channels as they lie; one that is read twice gets the sum of both."""
    axis = 0 if convolution.transposed else 1
    shape = list(convolution.weight.shape)
    shape[axis] = under.width
    empty = convolution.weight.double().new_zeros(shape)
    return empty.index_add(axis, torch.tensor(under.order), convolution.weight.double())


def _turned(constant: Tensor, under: _Note, rank: int) -> Tensor | None:
    """Return a constant in the order that its partner's channels lie in; None where that is not possible."""
    shape = (1,) * (rank - constant.ndim) + tuple(constant.shape)
    if constant.numel() == 1 or (len(shape) == rank and shape[1] == 1):
        return constant
    if len(shape) != rank or shape[1] != under.width:
        return None
    return constant.reshape(shape).index_select(1, torch.tensor(_inverse(under.order)))


def divide_producers(draft: Draft) -> None:
    """Give every node that picks channels of a convolution the rows of its weight that make them.

    Where nobody reads the convolution but such nodes, and no channel is read by two of them. Measured with
    onnxruntime on one core: two convolutions of an image take as long as one and two slices or less, of a
    volume a third longer.
    """
    draft.graph.eliminate_dead_code()
    for node in list(draft.graph.nodes):
        convolution = read_convolution(draft, node)
        if convolution is None or convolution.groups != 1:
            continue
        readers = _pickers(draft, node)
        orders = [read_order(draft, reader) for reader in readers]
        picked = [channel for found in orders if found is not None for channel in found[1]]
        if not picked or None in orders or len(set(picked)) < len(picked):
            continue
        if len(readers) > 1 and len(convolution.kernel) > 2:
            draft.reject(node, "convolutions of volumes for its parts would take longer than the slices")
            continue
        for reader, found in zip(readers, orders, strict=True):
            assert found is not None
            _divide(draft, node, convolution, reader, found[1])
        draft.note(f"{', '.join(reader.name for reader in readers)} into {node.name}")


def _pickers(draft: Draft, node: fx.Node) -> list[fx.Node]:
    """List the nodes that read a node: of a split its parts, of a shuffle its last view."""
    found: list[fx.Node] = []
    for reader in node.users:
        found += list(reader.users) if reader.target in SPLITS else [_last_view(draft, node, reader)]
    return found


def _last_view(draft: Draft, node: fx.Node, reader: fx.Node) -> fx.Node:
    """Return the end of a shuffle of `node` that begins with `reader`; where there is none, the reader."""
    last = reader
    for _ in range(_STEPS):
        picked = read_order(draft, last)
        if picked is not None and picked[0] is node:
            return last
        if len(last.users) != 1:
            break
        last = next(iter(last.users))
    return reader


def _divide(draft: Draft, node: fx.Node, convolution: Convolution, reader: fx.Node, order: Order) -> None:
    with draft.graph.inserting_before(reader):
        made = draft.graph.call_function(node.target, node.args, dict(node.kwargs))  # type: ignore[arg-type]
    made.meta = dict(reader.meta)
    rows = torch.tensor(order)
    bias = None if convolution.bias is None else convolution.bias[rows]
    weight = convolution.weight.index_select(1 if convolution.transposed else 0, rows)
    write_convolution(draft, made, weight, bias)
    draft.replace(reader, made)
