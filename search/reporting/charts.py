"""The curves of a report: Dice by case, training, architecture weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgeon.figures.canvas import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    PINK,
    RED,
    TEAL,
    VIOLET,
    look,
    new_figure,
)
from surgeon.rendering import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED_CASES = 36  # with more than that, names would not be legible
OPERATION_COLOURS: Mapping[str, str] = {
    "sep3": BLUE,
    "sep5": "#7aa7ff",
    "dil3": TEAL,
    "dil5": "#5fc9c2",
    "max3": ORANGE,
    "avg3": "#f0b963",
    "pointwise": VIOLET,
    "identity": GREEN,
    "none": "#a3abba",
}


def colour_of(operation: str) -> str:
    """Return the colour of an operation; pink for one that is not in the published set."""
    return OPERATION_COLOURS.get(operation, PINK)


def cases_figure(host: Mapping[str, float], implanted: Mapping[str, float]) -> Figure:
    """Draw Dice of each case before and after, sorted by the host's.

    Args:
        host: mean Dice by case id.
        implanted: the same with implants; cases in only one of the two are left out.
    """
    names = sorted((name for name in host if name in implanted), key=lambda name: host[name])
    with look():
        figure, grid = new_figure(10, 3.9 if len(names) <= _NAMED_CASES else 3.3)
        axes: Axes = grid[0, 0]
        axes.grid(axis="x", visible=False)
        for place, name in enumerate(names):
            gained = implanted[name] >= host[name]
            colour = GREEN if gained else RED
            axes.plot([place, place], [host[name], implanted[name]], color=colour, linewidth=1.6, alpha=0.7)
        size = 5.5 if len(names) <= 60 else 3.5
        marks: dict[str, Any] = {"linestyle": "none", "markersize": size, "zorder": 3}
        before, after = [host[name] for name in names], [implanted[name] for name in names]
        axes.plot(before, marker="o", markerfacecolor=PAPER, markeredgecolor=MUTED, label="host", **marks)
        axes.plot(after, marker="o", color=BLUE, label="implanted", **marks)
        axes.set(ylabel="Dice", xlim=(-0.7, len(names) - 0.3))
        if len(names) <= _NAMED_CASES:
            turned = 0 if len(names) * max(map(len, names), default=0) < 60 else 60
            labels = [shorten(name, 20) for name in names]
            axes.set_xticks(range(len(names)), labels, rotation=turned, ha="right" if turned else "center")
        else:
            axes.set_xticks([])
            axes.set_xlabel(f"{len(names)} cases, worst for the host first")
        axes.legend(loc="lower right", ncols=2)
    return figure


def training_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw losses and validation Dice over the epochs of each phase.

    Args:
        history: lines of `history.jsonl`.
    """
    phases = list(dict.fromkeys(row["phase"] for row in history))
    with look():
        figure, grid = new_figure(10, 4.2, 2, len(phases), sharex="col", sharey="row")
        for column, phase in enumerate(phases):
            rows = [row for row in history if row["phase"] == phase]
            upper, lower = grid[0, column], grid[1, column]
            upper.set_title(phase, loc="left", fontweight="bold")
            _line(upper, rows, "train_loss", "training", MUTED)
            _line(upper, rows, "validation_loss", "validation", ORANGE)
            _line(lower, rows, "validation_dice", "", BLUE)
            lower.set_xlabel("epoch")
            lower.xaxis.set_major_locator(_whole_epochs(8))
        grid[0, 0].set_ylabel("loss")
        grid[1, 0].set_ylabel("validation Dice")
        handles, _ = grid[0, -1].get_legend_handles_labels()
        if handles:
            grid[0, -1].legend(loc="upper right")
    return figure


def _line(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(row["epoch"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    if not points:
        return
    marker = "o" if len(points) <= 30 else ""
    axes.plot(
        *zip(*points, strict=True), color=colour, label=label, linewidth=1.7, marker=marker, markersize=3
    )


def weights_figure(history: Sequence[Mapping[str, Any]], cell: str) -> Figure | None:
    """Draw how the weights of the operations moved, one small panel an edge.

    Args:
        history: lines of `history.jsonl`.
        cell: `shared` or a skip id.

    Returns:
        the figure, or None when nothing was recorded of that cell.
    """
    rows = [row for row in history if (row.get("alphas") or {}).get(cell)]
    if not rows:
        return None
    edges = list(rows[-1]["alphas"][cell])
    columns = min(5, len(edges))
    count = math.ceil(len(edges) / columns)
    with look():
        figure, grid = new_figure(10, 1.55 * count + 0.65, count, columns, sharex=True, sharey=True)
        for place, axes in enumerate(grid.flat):
            if place < len(edges):
                _edge_panel(axes, rows, cell, edges[place])
            else:
                axes.axis("off")
        names = list(rows[-1]["alphas"][cell][edges[0]])
        handles = [axes_line(name) for name in names]
        figure.legend(handles, names, loc="outside upper center", ncols=min(9, len(names)))
        figure.supxlabel("epoch", color=MUTED, fontsize=8)
    return figure


def axes_line(operation: str) -> Any:
    """Return the sample line of an operation for a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour_of(operation), linewidth=2.2)


def _edge_panel(axes: Axes, rows: Sequence[Mapping[str, Any]], cell: str, edge: str) -> None:
    final = rows[-1]["alphas"][cell][edge]
    best = max((name for name in final if name != "none"), key=final.__getitem__, default="none")
    epochs = [row["epoch"] for row in rows]
    for name in final:
        values = [(row["alphas"][cell].get(edge) or {}).get(name, math.nan) for row in rows]
        strong = name == best
        line: dict[str, Any] = {
            "color": colour_of(name),
            "linewidth": 2.2 if strong else 1.0,
            "alpha": 1 if strong else 0.65,
        }
        axes.plot(epochs, values, marker="o" if len(epochs) == 1 else "", zorder=3 if strong else 2, **line)
    beta = ((rows[-1].get("betas") or {}).get(cell) or {}).get(edge)
    share = f"  β {beta:.2f}" if isinstance(beta, int | float) else ""
    axes.set_title(f"{edge_words(edge)}{share}", loc="left", fontsize=7.5, color=INK)
    axes.tick_params(labelsize=7)
    axes.xaxis.set_major_locator(_whole_epochs(3))
    axes.annotate(
        best, (0.04, 0.95), xycoords="axes fraction", ha="left", va="top", fontsize=7, color=colour_of(best)
    )


def _whole_epochs(ticks: int) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=ticks, integer=True)


def edge_words(edge: str) -> str:
    """Write an edge with an arrow, in whichever way it was written.

    >>> edge_words("input0->state1")
    'input0 → state1'
    """
    return edge.replace("->", " → ").replace("  ", " ")
