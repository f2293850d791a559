"""Hosts given as code: `package.module:factory` and `file.py:factory`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from surgeon.blame import asks_for_a_gpu, line_of
from surgeon.errors import HostError
from surgeon.repository import import_file, local_file, running


def build_host(spec: str, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Import a factory and call it. Both run its author's code.

    Args:
        spec: `package.module:factory` or `path/to/file.py:factory`; the factory is a class or a function, or
            a network itself.
        arguments: keyword arguments for the factory.

    Raises:
        HostError: the module or the factory is missing or raises, or what it returns is no network.
    """
    place, _, name = spec.rpartition(":")
    factory = module = _import_module(place, spec)
    for part in name.split("."):
        if not hasattr(factory, part):
            raise HostError(
                f"{place} has no {name!r}",
                where=spec,
                fix=f"it defines {_public_names(factory) or 'no name'}",
            )
        factory = getattr(factory, part)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise HostError(f"{name!r} cannot be called", where=spec, fix="name a class or a function")
    with running(module):
        network = _call(factory, dict(arguments or {}), spec)
    if not isinstance(network, nn.Module):
        raise HostError(
            f"the factory returned a {type(network).__name__}, no torch.nn.Module",
            where=spec,
            fix="name a factory that returns the network",
        )
    return network


def _import_module(place: str, spec: str) -> Any:
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise HostError("no such file", where=place, fix="give an existing file as path/to/file.py:factory")
    try:
        file = Path(place) if is_file else local_file(place)
        return importlib.import_module(place) if file is None else import_file(file)
    except ModuleNotFoundError as error:
        missing = error.name or place
        wanted = not is_file and (missing == place or place.startswith(f"{missing}."))
        raise HostError(
            f"no module named {missing!r}" + ("" if wanted else ", which the host's code imports"),
            where=spec,
            fix="install the package it comes from"
            + ("" if is_file else ", or give the file as path/to/file.py:factory"),
        ) from error
    except (Exception, SystemExit) as error:
        raise HostError(
            f"importing the host's code failed: {_first_line(error)}",
            where=_place_of(error, spec),
            fix="mend it there, or import it in Python first: what fails is the same",
        ) from error


def _call(factory: Any, arguments: dict[str, Any], spec: str) -> Any:
    try:
        bound = inspect.signature(factory)
    except (TypeError, ValueError):
        bound = None
    if bound is not None:
        try:
            bound.bind(**arguments)
        except TypeError as error:
            raise HostError(
                f"the factory does not take these arguments: {error}",
                where=spec,
                fix=f"give --arg K=V for {bound}"[:300],
            ) from error
    try:
        return factory(**arguments)
    except Exception as error:
        raise HostError(
            f"the factory failed: {_first_line(error)}", where=_place_of(error, spec), fix=_mend(error)
        ) from error


def _place_of(error: BaseException, spec: str) -> str:
    """Name the factory, and the line that raised an error."""
    line = line_of(error)
    return f"{spec}, at {line}" if line else spec


def _mend(error: Exception) -> str:
    """Say how to mend what a factory stumbles over."""
    if isinstance(error, ImportError):
        return "install what it imports into this Python environment"
    if isinstance(error, OSError):  # no such file, or no network to download it from
        return "put the file there, or let the factory load none: --checkpoint gives the weights"
    if asks_for_a_gpu(error):
        return "let it load with map_location='cpu' and call no .cuda(), or run it where there is a GPU"
    return "check its arguments (--arg K=V), or mend that line"


def _public_names(module: Any) -> str:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    home = module.__name__ if isinstance(module, ModuleType) else None
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == home]
    return ", ".join(sorted(own)[:6])


def _first_line(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
