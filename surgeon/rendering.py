"""Numbers, shapes and errors in words that a person reads; every console is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from surgeon.errors import GateError, Stopped, SurgeonError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_UNITS = ("", " k", " M", " G", " T", " P")
_LABELS: tuple[tuple[type[SurgeonError], str, str], ...] = (
    (Stopped, "stopped", "bold yellow"),
    (GateError, "refused", "bold red"),
    (SurgeonError, "error", "bold red"),
)


def format_count(value: float) -> str:
    """Write a count with three digits and a unit.

    >>> format_count(467331), format_count(1_510_000), format_count(12)
    ('467 k', '1.51 M', '12')
    """
    for unit in _UNITS[:-1]:
        # 999.5 and more would print as 1e+03: it belongs to the next unit.
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:.3g}{_UNITS[-1]}"


def format_seconds(seconds: float) -> str:
    """Write a duration with the units a person would use.

    >>> format_seconds(0.0123), format_seconds(3.21), format_seconds(75), format_seconds(3720)
    ('12.3 ms', '3.2 s', '1 min 15 s', '1 h 2 min')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def format_shape(shape: Iterable[int]) -> str:
    """Write a shape.

    >>> format_shape((1, 3, 64, 64))
    '1×3×64×64'
    """
    return "×".join(str(size) for size in shape)


def format_stride(stride: Sequence[int]) -> str:
    """Write a stride as one number where it is the same in all dimensions.

    >>> format_stride((2, 2)), format_stride((1, 2, 2))
    ('2', '1×2×2')
    """
    return str(stride[0]) if len(set(stride)) == 1 else format_shape(stride)


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that is too long, for the ends of a qualified name tell most.

    >>> shorten("encoder.layer4.2.conv2", 13)
    'encode….conv2'
    """
    if len(text) <= width:
        return text
    if width < 3:
        return text[:width]
    head = width // 2
    return f"{text[:head]}…{text[len(text) - (width - head - 1) :]}"


def print_error(error: SurgeonError, console: Console) -> None:
    """Print what went wrong, where, and how to mend it.

    On a terminal the lines are coloured (unless `NO_COLOR` is set) and wrapped under a hanging indent;
    elsewhere each line stays whole, so that it can be searched for.

    Args:
        error: what to print.
        console: where to, usually `rich.console.Console(stderr=True)`.
    """
    label, style = next((label, style) for kind, label, style in _LABELS if isinstance(error, kind))
    rows = [(label, style, error.what), ("where", "dim", error.where), ("fix", "green", error.fix)]
    rows = [row for row in rows if row[2]]
    if console.is_terminal:
        console.print(_hanging(rows))
        return
    for index, (name, _, text) in enumerate(rows):
        console.print(Text(f"{name}: {text}" if index == 0 else f"  {name}: {text}"), soft_wrap=True)


def _hanging(rows: list[tuple[str, str, str]]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(overflow="fold")
    for name, style, text in rows:
        grid.add_row(Text(name, style=style), Text(text, style="bold" if name == rows[0][0] else ""))
    return grid
