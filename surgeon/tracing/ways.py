"""The ways to make a graph of a host.

Each returns a plain `fx.GraphModule`, or raises whatever its tracer raises.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.fx.node import Node
from torch.utils import _pytree as pytree

from surgeon.copying import copied

from .bounds import size_limits
from .easing import eased
from .guiding import check_reads, real_values
from .inputs import image_shapes, is_image
from .pooling import restore_pools
from .quieting import quiet
from .regions import inline_regions
from .reviving import Reviver
from .trace import Example
from .wholes import divide_whole
from .writes import writes_to_values


def private_copy(host: nn.Module) -> nn.Module:
    """Copy the structure of a host in eval mode, sharing its parameters and buffers.

    Tracers leave marks on the modules they run; the copy takes them instead of the host.

    Raises:
        HostError: a module of the host cannot be copied.
    """
    twin = copied(host, (*host.parameters(), *host.buffers()))
    with contextlib.suppress(NotImplementedError):  # torch.export's own modules refuse to change mode
        twin.eval()
    return twin


def export_graph(
    host: nn.Module, example: Example, *, batch: bool, sizes: bool, guided: bool = False
) -> fx.GraphModule:
    """Trace with `torch.export`, with batch and spatial sizes free on request.

    Args:
        host: the network, in eval mode.
        example: inputs to trace with; free dimensions should be larger than 1.
        batch: leave dimension 0 of every input that shares the batch free.
        sizes: leave the spatial dimensions of the images free.
        guided: compute real values beside the symbolic ones, for networks that put sizes into tensors and
            read them back.

    Returns:
        the graph; its `meta["limits"]` are the sizes that torch.export vouches for.

    Raises:
        ValueError: guided, and values of the inputs themselves are read back: a branch may hang on them.
    """
    free = _as_declared(host, free_dimensions(example, batch=batch, sizes=sizes), len(example.args))
    seeing = real_values() if guided else contextlib.nullcontext()
    with quiet(), eased(host, free=free is not None, marked=True), seeing:
        program = torch.export.export(
            host,
            example.args,
            example.kwargs,
            dynamic_shapes=free,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        module = program.module(check_guards=False)
    if guided:
        check_reads(module.graph)
    plain = plain_graph_module(module, host)
    plain.meta["limits"] = size_limits(program)
    return plain


def free_dimensions(example: Example, *, batch: bool, sizes: bool) -> Any:
    """Say for each input which dimensions are free, in the form `torch.export` takes (None: none)."""
    if not (batch or sizes):
        return None
    shape = image_shapes(example)[0]

    def dims(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return None
        free: dict[int, Any] = {}
        if batch and leaf.ndim and leaf.shape[0] == shape[0]:
            free[0] = Dim.DYNAMIC
        if sizes and is_image(leaf) and tuple(leaf.shape[2:]) == shape[2:]:
            free.update(dict.fromkeys(range(2, leaf.ndim), Dim.DYNAMIC))
        return free or None

    args = tuple(pytree.tree_map(dims, arg) for arg in example.args)
    return (*args, *(pytree.tree_map(dims, value) for value in example.kwargs.values()))


def _as_declared(host: nn.Module, free: Any, positional: int) -> Any:
    """Put what a forward collects in `*args` into one tuple, as `torch.export` sees it."""
    kinds = [parameter.kind for parameter in inspect.signature(host.forward).parameters.values()]
    if free is None or inspect.Parameter.VAR_POSITIONAL not in kinds:
        return free
    first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    if first >= positional:
        return free
    return (*free[:first], free[first:positional], *free[positional:])


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del module_qualified_name
        return type(m).__module__.startswith("torch.nn") and not isinstance(
            m, nn.Sequential | nn.ModuleList | nn.ModuleDict
        )

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Trace through modules that a forward makes on the fly: they have no name to be called by."""
        try:
            self.path_of_module(m)
        except NameError:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def symbolic_graph(host: nn.Module, example: Example) -> fx.GraphModule:
    """Trace with `torch.fx`, `torch.nn` modules as leaves; inputs that are not given keep their defaults."""
    names = _argument_names(host, example)
    given = set(names[: len(example.args)]) | set(example.kwargs)
    concrete = {name: default for name, default in _defaults(host).items() if name not in given}
    tracer = _Tracer()
    with quiet():
        graph = tracer.trace(host, concrete_args=concrete or None)
    module = fx.GraphModule(tracer.root, graph)
    return plain_graph_module(module, host)


def _argument_names(host: nn.Module, example: Example) -> list[str]:
    names = list(inspect.signature(host.forward).parameters)
    return names[: max(len(names), len(example.args))]


def _defaults(host: nn.Module) -> dict[str, Any]:
    parameters = inspect.signature(host.forward).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def plain_graph_module(module: fx.GraphModule, host: nn.Module) -> fx.GraphModule:
    """Rebuild a graph module without the guards and the mode lock of `torch.export`.

    It holds every parameter and buffer of the host under the host's names, also those that the graph
    does not use, and the constants of the trace as buffers that no state dict carries.
    """
    inline_regions(module)
    writes_to_values(module.graph)
    _loosen_views(module.graph)
    restore_pools(module.graph)
    _name_concatenations(module.graph)
    _name_additions(module.graph)
    divide_whole(module.graph)
    _drop_checks(module.graph)
    _forget_statistics(module.graph)
    # Unpickling a graph module runs its tracer again; torch.export's takes arguments that are gone.
    module.graph._tracer_cls = Reviver
    module.graph._tracer_extras = None
    plain = fx.GraphModule(module, module.graph)
    adopt_state(plain, host)
    plain.eval()
    return plain


def _loosen_views(graph: fx.Graph) -> None:
    """Let every view copy where the strides at hand do not allow a view.

    A tracer leaves out the `contiguous()` of a tensor that was contiguous on its example, and at another
    batch or size the view after it fails. Where a view is possible, `reshape` is that view.
    """
    for node in graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default


def _forget_statistics(graph: fx.Graph) -> None:
    """Let norms that train in any mode leave their running statistics alone: nothing reads them."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.batch_norm.default and node.args[5]:
            node.args = (*node.args[:3], None, None, *node.args[5:])


def _name_concatenations(graph: fx.Graph) -> None:
    """Write `hstack` of images as the concatenation of channels that it is."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.target is torch.ops.aten.hstack.default and isinstance(value, Tensor) and value.ndim > 1:
            node.target = torch.ops.aten.cat.default
            node.args = (node.args[0], 1)


def _name_additions(graph: fx.Graph) -> None:
    """Write the sum of a stack of two tensors, along the axis that they are stacked on, as their addition."""
    for node in list(graph.nodes):
        stack, axis = _summed(node)
        if not isinstance(stack, Node) or stack.target not in _STACKS or _is_whole(node):
            continue
        given = dict(zip(("tensors", "dim"), stack.args, strict=False)) | stack.kwargs
        tensors = given.get("tensors")
        if axis != given.get("dim", 0) or not isinstance(tensors, list | tuple) or len(tensors) != 2:
            continue
        node.op, node.target = "call_function", torch.ops.aten.add.Tensor
        node.args, node.kwargs = tuple(tensors), {}
        if not stack.users:
            graph.erase_node(stack)


def _is_whole(node: Node) -> bool:
    """Tell whether a node's values are whole numbers, of which a sum has another type than an addition."""
    value = node.meta.get("val")
    return isinstance(value, Tensor) and not value.is_floating_point()


_STACKS = (torch.stack, torch.ops.aten.stack.default)


def _summed(node: Node) -> tuple[Any, Any]:
    """Return what a node sums and along which single axis, which it drops; None twice for others."""
    is_sum = node.target in (torch.sum, torch.ops.aten.sum.dim_IntList)
    if not is_sum and (node.op, node.target) != ("call_method", "sum"):
        return None, None
    names = dict(zip(("input", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
    axes = names.get("dim", names.get("axis"))
    axes = axes if isinstance(axes, list | tuple) else [axes]
    if len(axes) != 1 or names.get("keepdim") or names.get("dtype") is not None:
        return None, None
    return names.get("input"), axes[0]


def _drop_checks(graph: fx.Graph) -> None:
    """Remove the tracer's own checks on sizes: a size that the host refuses fails in its operations."""
    for node in reversed(list(graph.nodes)):
        if _is_check(node) and not node.users:
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _is_check(node: Node) -> bool:
    if node.op == "call_module":
        return str(node.target) == "_guards_fn"
    return node.op == "call_function" and any(
        word in str(node.target) for word in ("_assert", "sym_constrain")
    )


def adopt_state(module: nn.Module, host: nn.Module) -> None:
    """Give `module` the host's parameters and buffers by name, and no other persistent ones."""
    names = set()
    # Lists: a symbolic graph shares its leaf modules with the host.
    for name, parameter in list(host.named_parameters(remove_duplicate=False)):
        # TorchScript gives its parameters as plain tensors.
        is_plain = not isinstance(parameter, nn.Parameter)
        held = nn.Parameter(parameter.detach(), parameter.requires_grad) if is_plain else parameter
        place(module, name, held, persistent=True)
        names.add(name)
    persistent = set(host.state_dict(keep_vars=True))
    for name, buffer in list(host.named_buffers(remove_duplicate=False)):
        place(module, name, buffer, persistent=name in persistent)
        names.add(name)
    for name, constant in list(module.named_buffers(remove_duplicate=False)):
        if name not in names:
            place(module, name, constant, persistent=False)


def place(module: nn.Module, name: str, tensor: Tensor, *, persistent: bool) -> None:
    """Register a parameter or a buffer under its qualified name, in place of whatever stands there."""
    *path, leaf = name.split(".")
    owner = module
    for part in path:
        child = owner._modules.get(part)
        if child is None:
            child = nn.Module()
            owner.add_module(part, child)
        owner = child
    for shelf in (owner._parameters, owner._buffers, owner.__dict__):
        shelf.pop(leaf, None)
    if isinstance(tensor, nn.Parameter):
        owner.register_parameter(leaf, tensor)
    else:
        owner.register_buffer(leaf, tensor, persistent=persistent)
