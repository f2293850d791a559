"""Dice against cost: what was compared, drawn so that the cheapest that is good enough is seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgeon.figures.canvas import BLUE, INK, MUTED, ORANGE, TEAL, look, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def trade_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the test Dice of every row against its FLOPs and against the parameters that were trained.

    Args:
        rows: of the comparison in `report.json`.
    """
    host = next((row["dice"] for row in rows if row["name"] == "host"), None)
    with look():
        figure, grid = new_figure(10, 4.0, 1, 2, sharey=True)
        for axes, (key, label) in zip(grid[0], _COSTS.items(), strict=True):
            if host is not None:
                axes.axhline(host, color=MUTED, linewidth=1, linestyle=":")
            for row in rows:
                _mark(axes, row, key)
            axes.set_xlabel(label)
        grid[0, 1].set_xscale("symlog")
        grid[0, 0].set_ylabel("Dice on the test subjects")
    return figure


_COSTS = {"flops": "FLOPs of a forward pass", "trainable": "parameters that were trained"}


def _mark(axes: Axes, row: Mapping[str, Any], key: str) -> None:
    """Draw one row with the interval of its gain."""
    gain, place = row["gain"], (row[key], row["dice"])
    reach = [[max(0.0, gain["dice_mean"] - gain["low"])], [max(0.0, gain["high"] - gain["dice_mean"])]]
    colour = _colour(row)
    axes.errorbar(*place, yerr=reach, fmt="o", color=colour, markersize=5, linewidth=1, alpha=0.8)
    if not row["name"].startswith("random"):
        offset: dict[str, Any] = {"xytext": (5, 3), "textcoords": "offset points"}
        axes.annotate(row["name"], place, fontsize=7, color=INK, **offset)


def _colour(row: Mapping[str, Any]) -> str:
    if row["name"] == "implanted":
        return BLUE
    if row["name"].startswith("random"):
        return MUTED
    return TEAL if row["frozen"] else ORANGE
