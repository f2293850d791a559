"""Sizes in fewer words while a network is traced: torch.export reasons about each of them again and again.

Networks that pad to whole windows write the padding as `(7 - h % 7) % 7` and divide by the window again.
torch.export knows no rule for that, so that each level's sizes hold those of the levels before twice over,
and a trace takes minutes. With the rules below, which hold for all whole numbers, the padded size is
`7 * ((h + 6) // 7)`, and the division comes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils._sympy.functions import CeilToInt, FloorDiv, IntTrueDiv, Mod, PythonMod

_Rule = Callable[..., Any]


@contextlib.contextmanager
def folded_sizes() -> Iterator[None]:
    """Let the sizes of a trace be folded as they are made."""
    import torch._dynamo.config  # it takes a second, and torch.export needs it in any case

    originals = [(kind, vars(kind)["eval"]) for kind, _ in _RULES]
    for kind, rule in _RULES:
        kind.eval = _with_rule(rule, kind.eval)
    answers: Any = torch._dynamo.config
    try:
        # To find the answer that fits, torch compares all sizes of an operation: longer than to work it out.
        with answers.patch(fake_tensor_cache_enabled=False):
            yield
    finally:
        for kind, original in originals:
            kind.eval = original


def _with_rule(rule: _Rule, otherwise: _Rule) -> Any:
    def evaluate(cls: Any, *args: Any) -> Any:
        del cls
        folded = rule(*args)
        return otherwise(*args) if folded is None else folded

    return classmethod(evaluate)


def _padding(number: Any, window: Any) -> Any:
    """Fold `(window - size % window) % window`, what is missing to whole windows."""
    if not (window.is_Integer and number.is_Add):
        return None
    rest = window - number
    if isinstance(rest, Mod | PythonMod) and rest.args[1] == window:
        size = rest.args[0]
        return window * FloorDiv(size + window - 1, window) - size
    return None


def _nested(base: Any, divisor: Any) -> Any:
    """Fold `(size // a + b) // c` to `(size + a * b) // (a * c)`, as a chain of halvings makes it."""
    if not (divisor.is_Integer and divisor > 1 and base.is_Add and len(base.args) == 2):
        return None
    more, inner = base.args  # sympy has numbers first
    if not (more.is_Integer and isinstance(inner, FloorDiv) and inner.args[1].is_Integer):
        return None
    size, first = inner.args
    return FloorDiv(size + first * more, first * divisor) if first > 0 else None


def _rounded_up(number: Any) -> Any:
    """Fold `ceil(size / window)`."""
    if not isinstance(number, IntTrueDiv):
        return None
    size, window = number.args
    if window.is_Integer and window > 0:
        return FloorDiv(size + window - 1, window)
    return window / window if size == window else None


_RULES: tuple[tuple[Any, _Rule], ...] = (
    (Mod, _padding),
    (PythonMod, _padding),
    (FloorDiv, _nested),
    (CeilToInt, _rounded_up),
)
