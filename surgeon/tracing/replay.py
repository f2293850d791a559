"""A graph run beside the host on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgeon.parity import Difference, compare
from surgeon.statistics import kept_statistics

from .inputs import image_shapes
from .trace import Example, Replay

# Host and graph run the same operations on the same parameters; only the order of a sum may differ.
TOLERANCE = 1e-4


def run(network: Callable[..., Any], example: Example) -> Any:
    """Run a network on an example without gradients, with the random generator always at the same place."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), kept_statistics(network):
        torch.manual_seed(0)
        # In-place operations of a network may reach its inputs.
        args, kwargs = _clone((example.args, example.kwargs))
        return network(*args, **kwargs)


def _clone(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Tensor, torch.clone, value)


def replay(what: str, expected: Any, network: nn.Module, example: Example) -> Replay:
    """Compare what a graph computes with what the host computed on the same inputs.

    Args:
        what: which variant of the inputs it is.
        expected: the host's outputs.
        network: the graph.
        example: the inputs.
    """
    shapes = tuple(image_shapes(example))
    try:
        difference = compare(expected, run(_guarded(network), example))
    except Exception as problem:  # noqa: BLE001 - any failure of the graph where the host works is a difference
        infinite = Difference(float("inf"), float("inf"), 0.0, 0.0, False)
        return Replay(what, shapes, infinite, f"the graph fails: {first_line(problem)}")
    return Replay(what, shapes, difference)


def _guarded(network: nn.Module) -> Callable[..., Any]:
    """Return what runs a graph without letting its recurrent layers write beyond their state."""
    if not isinstance(network, fx.GraphModule):
        return network
    recurrent = [node for node in network.graph.nodes if node.target in _RECURRENT]
    if not recurrent:
        return network
    return lambda *args, **kwargs: _Guarded(network).run(*_flat_arguments(network, args, kwargs))


class _Guarded(fx.Interpreter):
    """Runs a graph and checks what `torch.nn` checks before the operator: that states fit the batch.

    The operator itself reads and writes beyond a state that was made for fewer images.
    """

    def run_node(self, n: fx.Node) -> Any:
        if n.target in _RECURRENT:
            (images, states, *rest), _ = self.fetch_args_kwargs_from_env(n)
            state = states[0] if isinstance(states, list | tuple) else states
            batch = images.shape[0 if rest[-1] else 1]
            if state.shape[1] != batch:
                raise RuntimeError(f"{n.name} has a state for {state.shape[1]} sequences and gets {batch}")
        return super().run_node(n)


_RECURRENT = tuple(getattr(torch.ops.aten, name).input for name in ("lstm", "gru", "rnn_tanh", "rnn_relu"))


def holds(outcome: Replay) -> bool:
    """Tell whether a replay shows host and graph equal up to the rounding of a sum."""
    return outcome.difference is None or outcome.difference.equal or outcome.difference.relative <= TOLERANCE


def first_line(problem: BaseException) -> str:
    """Return the first line of an exception's text, shortened."""
    text = str(problem).strip().splitlines()
    return f"{type(problem).__name__}: {text[0][:200]}" if text else type(problem).__name__


class _Shapes(fx.Interpreter):
    """Runs a graph and writes the shape of every tensor to its node."""

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        n.meta["shape"] = _shape(result)
        n.meta["dtype"] = result.dtype if isinstance(result, Tensor) else None
        return result


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(int(size) for size in value.shape)
    if isinstance(value, tuple | list) and any(isinstance(item, Tensor) for item in value):
        return [_shape(item) for item in value]
    return None


def annotate_shapes(module: fx.GraphModule, example: Example) -> None:
    """Write `meta["shape"]` (and `meta["dtype"]`) of every node at the size of the example."""
    args, kwargs = _clone((example.args, example.kwargs))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _Shapes(module).run(*_flat_arguments(module, args, kwargs))


def _flat_arguments(module: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    # A graph of torch.export flattens its arguments in its code generator; symbolic ones take them by name.
    if isinstance(module.graph._codegen, fx.graph._PyTreeCodeGen):
        if kwargs:
            flat: list[Any] = torch.utils._pytree.tree_leaves((args, kwargs))
            return flat
        return list(args)
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    given = dict(zip(names, args, strict=False)) | kwargs
    return [given[name] for name in names if name in given]
