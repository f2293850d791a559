"""`int()`, `float()` and roots of a free size, and `len()` of a tensor, as networks take them: free."""

from __future__ import annotations

import ast
import contextlib
import linecache
import math
import operator
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Node

from .freeing import FreeForms


def _standing_in(native: type, keep: Callable[[Any], Any]) -> type:
    """Return a type that is called as one of Python's numbers, and gives a free size back as a free one.

    It answers as that type does when it is asked about types.
    """

    class Kind(type):
        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, native)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, native)

        def __eq__(cls, other: object) -> bool:
            return other is cls or other is native

        def __hash__(cls) -> int:
            return hash(native)

    class StandIn(native, metaclass=Kind):  # type: ignore[misc, valid-type]
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            if args and isinstance(args[0], torch.SymInt | torch.SymFloat):
                return keep(args[0])
            return native(*args, **kwargs)

    return StandIn


def _length(collection: Any) -> Any:
    """Is called as `len`, and gives a tensor's first size, free or not."""
    return collection.shape[0] if isinstance(collection, Tensor) else len(collection)


@contextlib.contextmanager
def sizes_kept_free(host: nn.Module, *, marked: bool = False) -> Iterator[None]:
    """Let `int()`, `float()`, `len()` and what `freeing` knows in a host's code keep free sizes free.

    Python's own give numbers, which fix the size: `B = int(windows.shape[0] / (H * W / 49))`, the batch in
    every network that was made after Swin's published code.
    """
    places = [
        (space, name)
        for space in _namespaces(host)
        for name in _STAND_INS.keys() - _given_as_dtype(space)
        if name not in space
    ]
    for space, name in places:
        space[name] = _STAND_INS[name]
    try:
        with FreeForms(marked=marked), _numbers_kept_free():
            yield
    finally:
        for space, name in places:
            del space[name]


@contextlib.contextmanager
def _numbers_kept_free() -> Iterator[None]:
    """Let roots and digits of a size be free, by `math` and by numpy, and its distance from another.

    numpy asks an object that it does not know for a method of the function's name; of a free number that is
    no whole one, as `np.ceil(h / 2)` has it, it takes the value before that.
    """
    functions = {"sqrt": _of_free_numbers(_root, math.sqrt), "fabs": _of_free_numbers(abs, math.fabs)}
    with contextlib.ExitStack() as kept:
        for place, ways in ((math, functions), (torch.SymInt, _METHODS)):
            for name, way in ways.items():
                kept.enter_context(_replaced(place, name, way))
        yield


@contextlib.contextmanager
def _replaced(place: Any, name: str, value: Any) -> Iterator[None]:
    """Put something else under a name, and what was there back at the end."""
    native = vars(place).get(name)
    setattr(place, name, value)
    try:
        yield
    finally:
        if native is None:
            delattr(place, name)
        else:
            setattr(place, name, native)


def _root(number: Any) -> Any:
    return number**0.5


def _itself(size: Any) -> Any:
    return size  # a whole number


def _of_free_numbers(function: Callable[[Any], Any], native: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def either(number: Any, /) -> Any:
        return (function if isinstance(number, torch.SymInt | torch.SymFloat) else native)(number)

    return either


def _divided(size: Any, by: Any) -> tuple[Any, Any]:
    return size // by, size % by


def _masked(size: Any, mask: Any) -> Any:
    """Return the binary digits of a size that a mask leaves: its last few, or all but these."""
    step = -mask if isinstance(mask, int) and mask < 0 else mask + 1
    if not isinstance(step, int) or step < 1 or step & (step - 1):
        return _AND(size, mask)
    return size % step if mask >= 0 else size // step * step


_AND: Any = torch.SymInt.__and__
_METHODS: dict[str, Callable[..., Any]] = {
    "sqrt": _root,
    "ceil": _itself,
    "floor": _itself,
    # Shifts and masks as the whole numbers that they stand for: ONNX shifts no sizes.
    "__divmod__": _divided,
    "__and__": _masked,
    "__rand__": _masked,
    "__lshift__": lambda size, count: size * (1 << count),
    "__rshift__": lambda size, count: size // (1 << count),
}
_STAND_INS: dict[str, Any] = {
    "int": _standing_in(int, torch.sym_int),
    "float": _standing_in(float, torch.sym_float),
    "len": _length,
}


def _given_as_dtype(space: dict[str, Any]) -> set[str]:
    """Return the names that a module's code gives torch for a dtype, which takes no stand-in."""
    source = "".join(linecache.getlines(str(space.get("__file__") or ""), space))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = [value for call in calls for value in _dtypes(call)]
    return {value.id for value in given if isinstance(value, ast.Name)}


def _dtypes(call: ast.Call) -> list[ast.expr]:
    """Return what a call of torch may take for a dtype; numpy knows a type by what it is a subclass of."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return []
    if isinstance(function.value, ast.Name) and function.value.id in ("np", "numpy"):
        return []
    named = [keyword.value for keyword in call.keywords if keyword.arg == "dtype"]
    return named + (call.args if function.attr in ("to", "type") else [])


def _namespaces(host: nn.Module) -> list[dict[str, Any]]:
    """List the globals of a host's classes and of the functions that these use, each once."""
    names = {kind.__module__ for module in host.modules() for kind in type(module).__mro__}
    found: dict[int, dict[str, Any]] = {}
    for name in names:
        space = vars(sys.modules[name]) if name in sys.modules else {}
        used = [value.__globals__ for value in list(space.values()) if isinstance(value, FunctionType)]
        found.update(
            {id(one): one for one in (space, *used) if _is_theirs(str(one.get("__name__", "torch")))}
        )
    return list(found.values())


def _is_theirs(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] not in {"torch", "numpy", *sys.stdlib_module_names}


def divide_whole(graph: fx.Graph) -> None:
    """Write `trunc(size / 49.0)` as `size // 49`, which needs no rounding and which ONNX has for sizes."""
    for node in list(graph.nodes):
        quotient = node.args[0] if node.target is math.trunc else None
        if not isinstance(quotient, Node) or quotient.target is not operator.truediv:
            continue
        size, divisor = quotient.args
        if isinstance(size, Node) and size.target is torch.sym_float:
            size = size.args[0]
        whole = _whole(divisor)
        if _is_size(size) and whole:
            with graph.inserting_before(node):
                floor = graph.call_function(operator.floordiv, (size, whole))
            floor.meta = dict(node.meta)
            node.replace_all_uses_with(floor)


def _is_size(value: Any) -> bool:
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.SymInt)


def _whole(value: Any) -> int:
    """Return a positive whole number, of whichever type; 0 for anything else."""
    if not isinstance(value, int | float) or value < 1 or value != int(value):
        return 0
    return int(value)
