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


def front_figure(rows: Sequence[Mapping[str, Any]], host: float) -> Figure | None:
    """Draw the validation gain of the short list against the FLOPs it adds, with the Pareto front as a line.

    Args:
        rows: of the finalists in `report.json`.
        host: validation Dice of the host.

    Returns:
        the figure; None where no finalist was scored.
    """
    scored = [row for row in rows if row["gain"]]
    if not scored:
        return None
    front = sorted((row["flops"], row["validation_dice"]) for row in scored if row["pareto"])
    with look():
        figure, grid = new_figure(6, 4.0, 1, 1)
        axes = grid[0, 0]
        axes.axhline(host, color=MUTED, linewidth=1, linestyle=":")
        axes.plot(*zip(*front, strict=True), color=BLUE, linewidth=1, drawstyle="steps-post")
        for row in scored:
            colour = BLUE if row["pareto"] else MUTED
            axes.plot(row["flops"], row["validation_dice"], "o", color=colour, markersize=5, alpha=0.8)
            _name(axes, row["name"], (row["flops"], row["validation_dice"]))
        axes.set_xlabel("FLOPs that are added")
        axes.set_ylabel("Dice on the validation subjects")
    return figure


_COSTS = {"flops": "FLOPs of a forward pass", "trainable": "parameters that were trained"}


def _mark(axes: Axes, row: Mapping[str, Any], key: str) -> None:
    """Draw one row with the interval of its gain."""
    gain, place = row["gain"], (row[key], row["dice"])
    reach = [[max(0.0, gain["dice_mean"] - gain["low"])], [max(0.0, gain["high"] - gain["dice_mean"])]]
    colour = _colour(row)
    axes.errorbar(*place, yerr=reach, fmt="o", color=colour, markersize=5, linewidth=1, alpha=0.8)
    if not row["name"].startswith("random"):
        _name(axes, row["name"], place)


def _name(axes: Axes, name: str, place: tuple[float, float]) -> None:
    offset: dict[str, Any] = {"xytext": (5, 3), "textcoords": "offset points"}
    axes.annotate(name, place, fontsize=7, color=INK, **offset)


def _colour(row: Mapping[str, Any]) -> str:
    if row["name"] == "implanted":
        return BLUE
    if row["name"].startswith("random"):
        return MUTED
    return TEAL if row["frozen"] else ORANGE
