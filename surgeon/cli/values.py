"""From what was typed to values."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from typing import Any

from surgeon.errors import InputError


def parse_arguments(pairs: Iterable[str], *, option: str = "--arg") -> dict[str, Any]:
    """Read `K=V` pairs; a value that is no Python or JSON literal is a string.

    Args:
        pairs: the texts, `"in_channels=1"`.
        option: the option they came from, for the error.

    Returns:
        the keyword arguments.

    Raises:
        InputError: a text without a name before `=`, or the same name twice.

    Examples:
        >>> parse_arguments(["in_channels=1", "strides=2,2", "norm=batch", "use_attention=true"])
        {'in_channels': 1, 'strides': (2, 2), 'norm': 'batch', 'use_attention': True}
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(
                f"{pair!r} is not K=V",
                where=option,
                fix=f"give a name and a value, as in {option} depth=1",
            )
        if name in arguments:
            raise InputError(f"the argument {name!r} is given twice", where=option, fix="give it once")
        arguments[name] = parse_literal(text)
    return arguments


def parse_literal(text: str) -> Any:
    """Read a JSON or Python literal, or else take the text as it is.

    Examples:
        >>> parse_literal("null"), parse_literal("(1, 2)"), parse_literal("resnet18"), parse_literal("1e-3")
        (None, (1, 2), 'resnet18', 0.001)
    """
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text


def parse_shape(text: str, *, option: str = "--input") -> tuple[int, ...]:
    """Read a shape written with commas.

    Args:
        text: the shape, `"1,1,64,64"`.
        option: the option it came from, for the error.

    Returns:
        the sizes.

    Raises:
        InputError: something else than whole numbers above zero.

    Examples:
        >>> parse_shape("1,1,64,64")
        (1, 1, 64, 64)
    """
    sizes = [size.strip() for size in text.strip("()[] ").split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise InputError(
            f"{text!r} is not a shape",
            where=option,
            fix=f"give whole numbers with commas between them, batch first, as in {option} 1,1,64,64",
        )
    return tuple(int(size) for size in sizes)


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Read names written with commas; None stays None.

    Examples:
        >>> parse_names("s0, s1")
        ('s0', 's1')
    """
    if text is None:
        return None
    return tuple(name.strip() for name in text.split(",") if name.strip())
