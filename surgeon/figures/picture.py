"""The U of a host as a figure: blocks for the levels, lines for the skips."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from surgeon.rendering import format_count, shorten

from .canvas import INK, KIND_COLOURS, LINE, MUTED, PAPER, SOFT, check_format, drawing, look, save_figure
from .plan import AnatomyLike, Link, Plan, plan_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _EDGE, _HEAD, _FOOT, _BLOCK, _GAP = 10.0, 0.35, 1.35, 0.55, 1.25, 0.34
_BOTTLENECK = 0.5
_ON_COLOUR = "#fffffe"  # white that stays white in a dark page, where PAPER does not


@dataclass(frozen=True, slots=True)
class _Band:
    """The place of one level: its two blocks, in inches."""

    links: tuple[Link, ...]
    left: float
    right: float
    top: float
    bottom: float

    @property
    def middle(self) -> float:
        return (self.top + self.bottom) / 2


def anatomy_figure(anatomy: AnatomyLike, path: str | Path) -> Path:
    """Draw the U of a host into an SVG or PNG file.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
        path: the file; its suffix, `.svg` or `.png`, chooses the format.

    Raises:
        InputError: another suffix, or a file that cannot be written.
    """
    target = check_format(path)
    return save_figure(u_figure(anatomy), target)


def u_figure(anatomy: AnatomyLike) -> Figure:
    """Draw the U of a host as a matplotlib figure.

    Args:
        anatomy: an `Anatomy` or its `to_dict()`.
    """
    plan = plan_of(anatomy)
    heights = [_height(len(level)) for level in plan.levels] or [0.5]
    body = sum(heights) + (_GAP * len(heights) + _BOTTLENECK if plan.levels else 0)
    height = _HEAD + body + _FOOT
    bands = _bands(plan, heights, height - _HEAD)
    with look():
        figure, axes = drawing(_WIDTH, height)
        _draw_head(axes, plan, height)
        _draw_trunk(axes, plan, bands)
        for band in bands:
            _draw_links(axes, band)
        _draw_legend(axes, plan)
    return figure


def _height(links: int) -> float:
    return max(0.62, 0.42 * links + 0.1 if links <= 6 else 0.3 * links + 0.1)


def _bands(plan: Plan, heights: list[float], top: float) -> list[_Band]:
    room = _WIDTH - 2 * _EDGE - 2 * _BLOCK - 3.0
    step = min(0.5, room / 2 / max(len(heights) - 1, 1))
    bands = []
    for depth, (links, height) in enumerate(zip(plan.levels or ((),), heights, strict=True)):
        left = _EDGE + step * depth
        bands.append(_Band(links, left, _WIDTH - left, top, top - height))
        top -= height + _GAP
    return bands


def _draw_head(axes: Axes, plan: Plan, height: float) -> None:
    axes.text(_EDGE, height - 0.38, plan.host, fontsize=15, fontweight="bold", va="center")
    count = len(plan.links)
    skips = "no skips found" if not count else f"{count} skip{'s' if count > 1 else ''}"
    facts = f"{format_count(plan.parameters)} parameters   ·   {skips}"
    axes.text(_EDGE, height - 0.68, facts, fontsize=9.5, color=MUTED, va="center")


def _draw_trunk(axes: Axes, plan: Plan, bands: list[_Band]) -> None:
    first, last = bands[0], bands[-1]
    enter, leave = first.left + _BLOCK / 2, first.right - _BLOCK / 2
    _arrow(axes, (enter, first.top + 0.3), (enter, first.top))
    _arrow(axes, (leave, first.top), (leave, first.top + 0.3))
    _caption(axes, (first.left, first.top + 0.36), _shapes("input", plan.inputs), "left")
    _caption(axes, (first.right, first.top + 0.36), _shapes("output", plan.outputs), "right")
    for upper, lower in itertools.pairwise(bands):
        _arrow(axes, (upper.left + _BLOCK / 2, upper.bottom), (lower.left + _BLOCK / 2, lower.top))
        _arrow(axes, (lower.right - _BLOCK / 2, lower.top), (upper.right - _BLOCK / 2, upper.bottom))
    if not plan.links:
        size = (first.right - first.left, first.top - first.bottom)
        _block(axes, (first.left, first.bottom), size, "no skips found")
        return
    for band in bands:
        link, size = band.links[0], (_BLOCK, band.top - band.bottom)
        note = f"stride {link.stride}" if link.stride else ""
        _block(axes, (band.left, band.bottom), size, link.source_size or link.size, note)
        _block(axes, (band.right - _BLOCK, band.bottom), size, link.size)
    floor = last.bottom - _GAP - _BOTTLENECK
    left, right = last.left + _BLOCK + 0.2, last.right - _BLOCK - 0.2
    _block(axes, (left, floor), (right - left, _BOTTLENECK), "bottleneck")
    level = floor + _BOTTLENECK / 2
    _elbow(axes, (last.left + _BLOCK / 2, last.bottom), (left, level))
    _elbow(axes, (last.right - _BLOCK / 2, last.bottom), (right, level), head_at_start=True)


def _shapes(name: str, shapes: tuple[str, ...]) -> str:
    more = f" +{len(shapes) - 1}" if len(shapes) > 1 else ""
    return f"{name}  {shapes[0]}{more}" if shapes else name


def _caption(axes: Axes, place: tuple[float, float], words: str, side: str) -> None:
    axes.text(*place, words, fontsize=8.5, color=MUTED, ha=side, va="bottom")


def _block(
    axes: Axes, corner: tuple[float, float], size: tuple[float, float], label: str, note: str = ""
) -> None:
    from matplotlib.patches import FancyBboxPatch

    (x, y), (width, height) = corner, size
    style = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, height, boxstyle=style, facecolor=SOFT, edgecolor=LINE, linewidth=1, zorder=2
        )
    )
    middle = y + height / 2
    letters = 9.5 if len(label) <= 11 else 7.5
    axes.text(
        x + width / 2,
        middle + (0.09 if note else 0),
        label,
        ha="center",
        va="center",
        fontsize=letters,
        zorder=3,
    )
    if note:
        axes.text(
            x + width / 2, middle - 0.11, note, ha="center", va="center", fontsize=7.5, color=MUTED, zorder=3
        )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {
        "arrowstyle": "-|>",
        "color": MUTED,
        "linewidth": 1.3,
        "shrinkA": 1,
        "shrinkB": 1,
        "mutation_scale": 9,
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=1)


def _elbow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], *, head_at_start: bool = False
) -> None:
    style = {
        "arrowstyle": "<|-" if head_at_start else "-|>",
        "connectionstyle": "angle,angleA=-90,angleB=0,rad=7",
        "color": MUTED,
        "linewidth": 1.3,
        "shrinkA": 1,
        "shrinkB": 1,
        "mutation_scale": 9,
    }
    axes.annotate("", xy=end, xytext=start, arrowprops=style, zorder=1)


def _draw_links(axes: Axes, band: _Band) -> None:
    rows = len(band.links)
    pitch = (band.top - band.bottom) / max(rows, 1)
    for row, link in enumerate(band.links):
        _draw_link(axes, link, band, band.top - pitch * (row + 0.5), with_modules=rows <= 6)


def _draw_link(axes: Axes, link: Link, band: _Band, y: float, *, with_modules: bool) -> None:
    colour = KIND_COLOURS.get(link.kind, INK)
    start, end = band.left + _BLOCK, band.right - _BLOCK
    line = {
        "arrowstyle": "-|>",
        "color": colour,
        "linewidth": 1.8,
        "linestyle": "-" if link.implantable else (0, (4, 3)),
        "shrinkA": 0,
        "shrinkB": 1,
        "mutation_scale": 12,
    }
    axes.annotate("", xy=(end, y), xytext=(start, y), arrowprops=line, zorder=2)
    axes.plot([start], [y], marker="o", markersize=4.5, color=colour, zorder=4)
    _pill(axes, end - 0.42, y, link.merge, colour, filled=False)
    words = f"{link.id}   {link.channels} ch" + (f"   → {link.size}" if link.source_size else "")
    words += "" if link.implantable else "   no cell"
    _pill(axes, (start + end) / 2, y, words, colour, filled=True)
    if with_modules:
        # About 15 letters of this size fill an inch; the pill in the middle takes its share.
        room = (end - start) / 2 - 0.25 - 0.04 * len(words)
        source = shorten(link.source or "(root)", int(15 * room))
        target = shorten(link.target or "(root)", int(15 * (room - 0.6)))
        axes.text(start + 0.12, y + 0.045, source, fontsize=6.8, color=MUTED, va="bottom")
        axes.text(end - 0.72, y + 0.045, target, fontsize=6.8, color=MUTED, va="bottom", ha="right")


def _pill(axes: Axes, x: float, y: float, words: str, colour: str, *, filled: bool) -> None:
    box = {
        "boxstyle": "round,pad=0.32,rounding_size=0.8",
        "facecolor": colour if filled else PAPER,
        "edgecolor": colour,
        "linewidth": 1.1,
    }
    axes.text(
        x,
        y,
        words,
        fontsize=8 if filled else 7.5,
        fontweight="bold" if filled else "normal",
        color=_ON_COLOUR if filled else INK,
        ha="center",
        va="center",
        bbox=box,
        zorder=5,
    )


def _draw_legend(axes: Axes, plan: Plan) -> None:
    kinds = [kind for kind in KIND_COLOURS if any(link.kind == kind for link in plan.links)]
    dashed = any(not link.implantable for link in plan.links)
    if len(kinds) < 2 and not dashed:
        return
    entries = [(kind, KIND_COLOURS[kind], "-") for kind in kinds]
    entries += [("takes no cell", MUTED, "--")] if dashed else []
    x = _EDGE
    for name, colour, line in entries:
        axes.plot([x, x + 0.32], [0.25, 0.25], color=colour, linestyle=line, linewidth=1.8)
        axes.text(x + 0.4, 0.25, name, fontsize=8, color=MUTED, va="center")
        x += 0.75 + len(name) * 0.075
