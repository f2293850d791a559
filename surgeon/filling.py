"""Inputs of a forward that data do not give one by one: values filled in, images joined."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn

from surgeon.errors import InputError

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (*_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)


def fill_inputs(network: nn.Module, values: Mapping[str, Any]) -> None:
    """Give inputs of a network's forward the values that they have from then on when they are left out.

    The network gets a class of its own, called like its class, whose forward is the same code with other
    defaults: so whatever traces, copies or calls it sees no wrapper, and other networks of that class are as
    they were.

    Args:
        network: changed in place.
        values: by the names in its forward's signature.

    Raises:
        InputError: its forward is no Python function, has no such inputs, or has a later one without a value.
    """
    kind = type(network)
    forward = inspect.getattr_static(kind, "forward", None)  # of TorchScript's it cannot be asked
    place = f"{kind.__name__}.forward"
    if not isinstance(forward, FunctionType):
        raise InputError(
            "the inputs of this network cannot be filled in: its forward is no Python function",
            where=place,
            fix="leave --forward out",
        )
    parameters = list(inspect.signature(forward, follow_wrapped=False).parameters.values())[1:]
    named = [p for p in parameters if p.kind in _NAMED]
    unknown = [name for name in values if name not in {p.name for p in named}]
    if unknown:
        raise InputError(
            f"the network's forward has no input {unknown[0]!r}",
            where=f"{place}({', '.join(map(str, parameters))})",
            fix="give --forward the name of one that it has",
        )
    filled = [p.replace(default=values[p.name]) if p.name in values else p for p in named]
    positional = [p for p in filled if p.kind in _POSITIONAL]
    same = FunctionType(
        forward.__code__,
        forward.__globals__,
        forward.__name__,
        _defaults(positional, place),
        forward.__closure__,
    )
    by_name = [p for p in filled if p.kind is p.KEYWORD_ONLY and p.default is not p.empty]
    same.__kwdefaults__ = {p.name: p.default for p in by_name}
    same.__dict__.update(forward.__dict__)
    same.__annotations__ = forward.__annotations__
    _give_forward(network, same)


def split_image(network: nn.Module, channels: Sequence[int]) -> None:
    """Make a network of several images take one image and split its channels among them.

    Two dates of a place, colour and depth, an image and a trimap: data are images of all their channels, and
    each input gets its share. As in `fill_inputs` the network gets a class of its own.

    Args:
        network: changed in place.
        channels: of each input `(N, channels, *spatial)`, in the order of its forward.

    Raises:
        InputError: its forward is no Python function, or is written anew when it is copied, as a graph's is.
    """
    kind, shares = type(network), list(channels)
    forward = inspect.getattr_static(kind, "forward", None)
    if not isinstance(forward, FunctionType) or isinstance(network, fx.GraphModule):
        raise InputError(
            f"the network takes {len(shares)} images, and is a program that cannot split one among them",
            where=kind.__name__,
            fix="export or script it inside a module that takes one image and parts its channels",
        )

    def joined(self: nn.Module, image: Tensor) -> Any:
        return forward(self, *parts_of(image, shares))

    joined.__name__ = forward.__name__
    _give_forward(network, joined)


def parts_of(image: Tensor, channels: Sequence[int]) -> tuple[Tensor, ...]:
    """Split an image `(N, C, *spatial)` among inputs of so many channels each.

    Raises:
        InputError: it has more channels than they have together, or fewer.
    """
    if image.shape[1] != sum(channels):
        raise InputError(
            f"expected images to have {sum(channels)} channels, but got {image.shape[1]} channels",
            where=f"an image that {len(channels)} inputs share",
            fix="give the channels of all inputs, in their order",
        )
    return torch.split(image, list(channels), 1)


def _give_forward(network: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one network another forward, and other networks of its class none."""
    kind = type(network)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    network.__class__ = type(kind.__name__, (kind,), {"forward": forward, **named})


def _defaults(positional: list[inspect.Parameter], place: str) -> tuple[Any, ...]:
    """Return what Python keeps as a function's defaults: those of its last parameters, without a gap."""
    has = [p.default is not p.empty for p in positional]
    first = has.index(True) if True in has else len(has)
    if not all(has[first:]):
        bare = positional[first:][has[first:].index(False)].name
        raise InputError(
            f"the input {positional[first].name!r} cannot be left out: no value is left for {bare!r}",
            where=place,
            fix=f"fill in {bare!r} as well, or hand in a factory whose network fills it in",
        )
    return tuple(p.default for p in positional[first:])
