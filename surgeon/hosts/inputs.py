"""Inputs that a host takes: guessed from its first convolution, tried once."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from surgeon.blame import asks_for_a_gpu, line_of
from surgeon.checkpoints import script_constants
from surgeon.errors import InputError
from surgeon.parity import tensors_in
from surgeon.statistics import kept_statistics

from .programs import first_weight

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_SUCH_A_SIDE = 64  # in the shape that an error proposes
# The smallest first; deep networks, and those trained at one size, need the larger ones.
_SIDES = {1: (128, 512), 2: (64, 128, 256, 224, 512), 3: (32, 64, 96, 128)}


def guess_inputs(module: nn.Module) -> tuple[Tensor, ...]:
    """Return an input that the network takes, by the channels and rank of its first convolution.

    Args:
        module: run once for each size that is tried, without gradients.

    Returns:
        one tensor `(1, C, *spatial)` of fixed noise between 0 and 1.

    Raises:
        InputError: there is no convolution, or none of the sizes runs.
    """
    layout = first_layout(module)
    if layout is None:
        raise InputError(
            "the input cannot be guessed: the network has no convolution",
            where=type(module).__name__,
            fix="give its shape with --input N,C,H,W",
        )
    failure: InputError | None = None
    for inputs in _guesses(module, layout):
        try:
            try_inputs(module, inputs)
        except InputError as error:
            failure = error
        else:
            return inputs
    raise InputError(
        f"no guessed input runs: {failure.what if failure else ''}",
        where=failure.where if failure else "",
        fix=failure.fix if failure else "give the shapes of all inputs with --input N,C,H,W",
    ) from failure


def _guesses(module: nn.Module, layout: tuple[int, int]) -> Iterator[tuple[Tensor, ...]]:
    """Yield inputs of growing sizes; of another layout where the convolution that is called first says so.

    Modules need not be called in the order in which they were made.
    """
    channels, dims = layout
    for side in _SIDES[dims]:
        yield _noise(channels, side, dims)
        called = _first_called(module, _noise(channels, side, dims))
        if called is not None and called.refuses(channels):
            yield from (_noise(called.takes, larger, called.dims) for larger in _SIDES[called.dims])
            return


def _noise(channels: int, side: int, dims: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return (torch.rand((1, channels, *[side] * dims), generator=generator),)


@dataclass(frozen=True, slots=True)
class _Called:
    """The convolution that a network calls first.

    Attributes:
        takes: its channels.
        dims: its spatial axes.
        given: the shape of what it was called with.
    """

    takes: int
    dims: int
    given: tuple[int, ...]

    def refuses(self, channels: int) -> bool:
        """Whether it was handed a network's input of so many channels as it is, and wants another number."""
        return self.given[1:2] == (channels,) != (self.takes,)


def _first_called(module: nn.Module, inputs: tuple[Any, ...]) -> _Called | None:
    """Run a network once more, which may fail, and return the convolution that it calls first."""
    called: list[_Called] = []

    def note(part: Any, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            called.append(_Called(part.in_channels, part.weight.ndim - 2, tuple(given[0].shape)))

    parts = (part for part in module.modules() if isinstance(part, _CONVOLUTIONS))
    hooks = [part.register_forward_pre_hook(note) for part in parts]
    try:
        with contextlib.suppress(Exception), torch.no_grad(), kept_statistics(module):
            module(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return called[0] if called else None


def try_inputs(module: nn.Module, inputs: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None) -> Any:
    """Run the network once and return its output.

    Args:
        module: stays in the mode it is in.
        inputs: positional inputs.
        kwargs: keyword inputs.

    Raises:
        InputError: the network does not take these inputs.
    """
    try:
        with torch.no_grad(), kept_statistics(module):
            return module(*inputs, **dict(kwargs or {}))
    except Exception as error:
        raise _explained(module, inputs, error) from error


def _explained(module: nn.Module, inputs: tuple[Any, ...], error: Exception) -> InputError:
    shapes = ", ".join(str(tuple(x.shape)) for x in inputs if isinstance(x, Tensor))
    needed = _required(module)
    if len(needed) > len(inputs) and isinstance(error, TypeError):
        return InputError(
            f"the network takes {len(needed)} inputs, and was given {len(inputs)}",
            where=f"{type(module).__name__}.forward({', '.join(needed)})",
            fix="give --input once for each tensor, in this order, and --forward NAME=VALUE for what is none",
        )
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if asks_for_a_gpu(error):
        return InputError(
            f"the network asks for a GPU, and there is none: {first}",
            where=line_of(error) or type(module).__name__,
            fix="let it work on the device of its input (x.device), or run this where there is a GPU",
        )
    if isinstance(error, NameError | AttributeError | ImportError):
        return InputError(
            f"the network's own code fails: {type(error).__name__}: {first}",
            where=line_of(error) or type(module).__name__,
            fix="mend it there, install what it asks for, or give the inputs that it works with",
        )
    misfit, fix = _misfit(module, inputs)
    return InputError(f"the network does not take an input of shape {shapes}", where=misfit or first, fix=fix)


def _misfit(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[str, str]:
    """Say what of an input's axes or channels does not fit, nothing where they do; and a way to mend it."""
    fix = "give another shape with --input N,C,H,W: one that the network was built for"
    layout = first_layout(module)
    if layout is None or not inputs or not isinstance(inputs[0], Tensor):
        return "", fix
    given = tuple(inputs[0].shape)
    called = _first_called(module, inputs)
    channels, dims = layout if called is None else (called.takes, called.dims)
    if len(given) != dims + 2:
        words = f"it has {len(given)} axes, the network takes {dims + 2}: N, C and {dims} spatial"
        return words, _such_as(channels, dims)
    # What the first convolution got may be made of the input; where none is called, its order is a guess.
    in_order = first_weight(module) is not None or isinstance(module, torch.jit.ScriptModule)
    is_refused = called.refuses(given[1]) if called else in_order and channels != given[1]
    if is_refused:
        return f"it has {given[1]} channels, the network takes {channels}", _such_as(channels, dims)
    if called is not None and min(given[2:]) < _SUCH_A_SIDE:
        return "", _such_as(given[1], dims)
    return "", fix


def _such_as(channels: int, dims: int) -> str:
    return f"give a shape such as --input {','.join(map(str, (1, channels, *[_SUCH_A_SIDE] * dims)))}"


def _required(module: nn.Module) -> tuple[str, ...]:
    """Name what forward cannot do without; nothing where its signature is not known."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return ()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(one.name for one in parameters if one.kind in kinds and one.default is one.empty)


def first_layout(module: nn.Module) -> tuple[int, int] | None:
    """Return channels and spatial axes of what the first convolution takes."""
    weight = first_weight(module)
    if weight is not None:
        return int(weight.shape[1]), weight.ndim - 2
    return next(_layouts(module), None)


def _layouts(module: nn.Module) -> Iterator[tuple[int, int]]:
    for part in module.modules():
        if isinstance(part, _CONVOLUTIONS):
            yield part.in_channels, part.weight.ndim - 2
    if isinstance(module, torch.jit.ScriptModule):
        # The modules of TorchScript have no classes of their own, and frozen ones no weights.
        weights = (*module.parameters(), *reversed(script_constants(module)))
        yield from ((weight.shape[1], weight.ndim - 2) for weight in weights if weight.ndim > 2)


def spatial_axes(module: nn.Module) -> int | None:
    """Return how many spatial axes a network's input has; None where its convolutions differ in that."""
    axes = {dims for _, dims in _layouts(module)}
    return axes.pop() if len(axes) == 1 else None


def smallest_multiple(module: nn.Module, layout: tuple[int, int]) -> int:
    """Return the smallest power of two, up to 32, of which sides must be multiples for the network to run.

    Args:
        module: in eval mode; run for each size that is tried.
        layout: channels and spatial axes of its input.
    """
    channels, dims = layout
    for step in (1, 2, 4, 8, 16):
        # An odd multiple, on which smaller steps do not fit; more than one position is left at the bottom.
        sides = (32 + step,) * dims
        inputs = torch.rand((1, channels, *sides), generator=torch.Generator().manual_seed(0))
        try:
            output = try_inputs(module, (inputs,))
        except InputError:
            continue
        if any(tuple(x.shape[2:]) == sides for x in tensors_in(output)):
            return step
    return 32
