"""Figures without global state: matplotlib's objects, one look, written whole."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgeon.errors import InputError
from surgeon.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, LINE, SOFT, PAPER = "#1c2333", "#6b7488", "#d3d9e4", "#eef1f7", "#ffffff"
BLUE, VIOLET, ORANGE, GREEN, RED, TEAL, PINK = (
    "#2f6fed",
    "#8b5cf6",
    "#e08a1e",
    "#17915a",
    "#d0433b",
    "#0f9ba8",
    "#d6478f",
)
KIND_COLOURS: Mapping[str, str] = {"skip": BLUE, "dense": VIOLET, "lateral": ORANGE, "fusion": MUTED}

FORMATS = (".svg", ".png")
_SETTINGS: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # The same figure gives the same file.
    "svg.hashsalt": "surgeon",
}


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Draw in the look that all figures share; matplotlib's own settings come back at the end."""
    from matplotlib import rc_context

    with rc_context(dict(_SETTINGS)):
        yield


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **grid: Any
) -> tuple[Figure, Any]:
    """Make a figure and its axes on the Agg canvas, in the look all figures share.

    Args:
        width: in inches.
        height: in inches.
        rows: of axes.
        columns: of axes.
        grid: what `Figure.subplots` takes, such as `sharey`.

    Returns:
        the figure and an array of axes `(rows, columns)`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with look():
        figure = Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots(rows, columns, squeeze=False, **grid)


def drawing(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure with one bare pair of axes measured in inches, the origin at the bottom left."""
    figure, axes = new_figure(width, height)
    figure.set_layout_engine("none")
    sheet: Axes = axes[0, 0]
    sheet.set_position((0, 0, 1, 1))
    sheet.set(xlim=(0, width), ylim=(0, height))
    sheet.axis("off")
    return figure, sheet


def check_format(path: str | Path) -> Path:
    """Return the path of a figure if its suffix is one that can be written.

    Raises:
        InputError: it is not.
    """
    target = Path(path)
    if target.suffix.lower() not in FORMATS:
        found = f"{target.suffix!r}" if target.suffix else "no suffix"
        raise InputError(
            f"a figure is written as .svg or .png, the path has {found}",
            where=str(target),
            fix=f"name it {target.with_suffix('.svg').name}",
        )
    return target


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure whole, in the format that the suffix names.

    Raises:
        InputError: the suffix is neither `.svg` nor `.png`, or the file cannot be written.
    """
    target = check_format(path)
    content = render(figure, target.suffix.lower()[1:])
    try:
        with whole_file(target) as part:
            part.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"the figure cannot be written: {error.strerror or error}",
            where=str(target),
            fix="name a folder that can be written to",
        ) from error
    return target


def render(figure: Figure, format_name: str) -> bytes:
    """Return a figure as the bytes of an SVG or a PNG."""
    buffer = io.BytesIO()
    # A date would make every file different.
    metadata = {"Date": None, "Creator": None} if format_name == "svg" else {"Software": None}
    with look():
        figure.savefig(buffer, format=format_name, dpi=160, facecolor="auto", metadata=metadata)
    return buffer.getvalue()
