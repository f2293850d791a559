"""A cell drawn as a graph: states on a line, operations as arcs between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from surgeon.figures.canvas import BLUE, INK, LINE, MUTED, PAPER, SOFT, drawing, look

from .charts import colour_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PITCH, _RADIUS, _RISE = 1.65, 0.3, 0.52
_OUTPUT = "output"


def cell_figure(cell: Mapping[str, Any], *, inputs: int, states: int) -> Figure:
    """Draw one cell of a genotype.

    Args:
        cell: `{"width", "edges": [{"from", "to", "operation"}]}`.
        inputs: number of inputs of a cell.
        states: number of states; the output joins them all.
    """
    names = [*(f"input{i}" for i in range(inputs)), *(f"state{i}" for i in range(states)), _OUTPUT]
    edges = [(edge["from"], edge["to"], edge["operation"]) for edge in cell["edges"]]
    names += [name for edge in edges for name in edge[:2] if name not in names]
    places = {name: _PITCH * (index + 0.5) for index, name in enumerate(dict.fromkeys(names))}
    arcs = _stack(edges, places)
    up = max((height for *_, height in arcs if height > 0), default=0.6)
    down = max((-height for *_, height in arcs if height < 0), default=0.3)
    floor = down + (0.75 if states else 0.4)
    with look():
        figure, axes = drawing(_PITCH * len(places), up + floor + 0.45)
        _draw_joins(axes, [places[f"state{i}"] for i in range(states)], places[_OUTPUT], floor)
        for source, target, operation, height in arcs:
            _arc(axes, (places[source], places[target]), floor, height, operation)
        for name, x in places.items():
            _node(axes, name, x, floor)
    return figure


def _stack(
    edges: Sequence[tuple[str, str, str]], places: Mapping[str, float]
) -> list[tuple[str, str, str, float]]:
    """Give each arc a height: long ones go over short ones, and every second one of a target goes below."""
    arcs = []
    taken: dict[str, int] = {}
    for source, target, operation in sorted(edges, key=lambda edge: places[edge[1]] - places[edge[0]]):
        span = round((places[target] - places[source]) / _PITCH)
        turn = taken.get(target, 0)
        taken[target] = turn + 1
        height = 0.0 if span == 1 and not turn else _RISE * max(span - 0.4, 1) * (-1 if turn % 2 == 0 else 1)
        arcs.append((source, target, operation, height))
    return arcs


def _arc(axes: Axes, ends: tuple[float, float], floor: float, height: float, operation: str) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    start, end = ends
    lean = _RADIUS * (0.75 if height else 1.0)
    side = 0 if not height else _RADIUS * 0.7 * (1 if height > 0 else -1)
    first, last = (start + lean, floor + side), (end - lean - 0.04, floor + side)
    # The curve reaches three quarters of the way to its control points.
    control = floor + height * 4 / 3 - side / 3
    bend = (end - start) * 0.22
    points = [first, (first[0] + bend, control), (last[0] - bend, control), last]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    colour = colour_of(operation)
    arrow = FancyArrowPatch(
        path=path, arrowstyle="-|>", mutation_scale=11, color=colour, linewidth=2, zorder=2
    )
    arrow.set_fill(False)
    axes.add_patch(arrow)
    box = {
        "boxstyle": "round,pad=0.28,rounding_size=0.7",
        "facecolor": colour,
        "edgecolor": PAPER,
        "linewidth": 1.2,
    }
    axes.text(
        (start + end) / 2, floor + height, operation, fontsize=8, fontweight="bold", color="#fffffe",
        ha="center", va="center", bbox=box, zorder=5,
    )  # fmt: skip


def _draw_joins(axes: Axes, states: Sequence[float], output: float, floor: float) -> None:
    """Draw the concatenation of all states as a rail under the states."""
    if not states:
        return
    rail = 0.28
    for x in states:
        axes.plot([x, x], [floor - _RADIUS, rail], color=LINE, linewidth=1.4, zorder=0)
    axes.plot([min(states), output], [rail, rail], color=LINE, linewidth=1.4, zorder=0)
    style = {"arrowstyle": "-|>", "color": MUTED, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(output, floor - _RADIUS), xytext=(output, rail), arrowprops=style, zorder=1)
    axes.text(output - 0.1, rail - 0.05, "all states, joined", fontsize=7, color=MUTED, ha="right", va="top")


def _node(axes: Axes, name: str, x: float, floor: float) -> None:
    from matplotlib.patches import Circle

    inner = name.startswith("state")
    colour = SOFT if inner else PAPER
    axes.add_patch(
        Circle(
            (x, floor), _RADIUS, facecolor=colour, edgecolor=MUTED if inner else BLUE, linewidth=1.5, zorder=3
        )
    )
    words = name.replace("input", "in ").replace("state", "").replace(_OUTPUT, "out")
    axes.text(x, floor, words, fontsize=9, color=INK, ha="center", va="center", zorder=4)
