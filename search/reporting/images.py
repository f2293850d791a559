"""Test images with the outlines of the truth and of both networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surgeon.figures.canvas import look, new_figure
from surgeon.figures.cases import display, outline, signal_figure

from .reading import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRUTH, HOST, IMPLANTED = "#ffd23f", "#ff5a7a", "#35c8ff"
_TITLES = (("image", None), ("host", HOST), ("implanted", IMPLANTED))

_TITLE: dict[str, Any] = {
    "color": "#ffffff",
    "fontweight": "bold",
    "bbox": {"boxstyle": "round,pad=0.3", "facecolor": "#11151fcc", "edgecolor": "none"},
}


def picture_figure(picture: Picture) -> Figure:
    """Draw a case three times: bare, with the host's outline, with the implanted network's.

    Three-dimensional cases are shown at the slice with most foreground, one-dimensional ones as signals.
    """
    if picture.label.ndim == 1:
        rows = {"label": TRUTH, "host": HOST, "implanted": IMPLANTED}
        return signal_figure(
            picture.image, {name: (getattr(picture, name), colour) for name, colour in rows.items()}
        )
    flat = flatten(picture)
    rows, columns = flat.label.shape
    tall = min(max(rows / columns, 0.35), 1.6)
    shown = display(flat.image)
    with look():
        figure, grid = new_figure(10, 10 / 3 * tall, 1, 3)
        figure.set_facecolor("none")
        figure.set_layout_engine("constrained", w_pad=0, h_pad=0, wspace=0.015)
        for axes, (title, colour) in zip(grid[0], _TITLES, strict=True):
            axes.imshow(shown, cmap="gray", interpolation="nearest", aspect="equal")
            axes.text(0.02, 0.98, title, transform=axes.transAxes, va="top", **_TITLE)
            axes.axis("off")
            if colour:
                outline(axes, flat.label, TRUTH)
                outline(axes, flat.host if title == "host" else flat.implanted, colour)
    return figure


def flatten(picture: Picture) -> Picture:
    """Return the slice of a three-dimensional case that holds most foreground; others as they are."""
    if picture.label.ndim == 2:
        return picture
    # The axis with the fewest slices is the one across which a scan is read.
    axis = int(np.argmin(picture.label.shape))
    others = tuple(i for i in range(picture.label.ndim) if i != axis)
    foreground = (picture.label > 0).sum(axis=others)
    index = int(foreground.argmax()) if foreground.any() else picture.label.shape[axis] // 2
    label, host, implanted = (
        np.take(one, [index], axis=axis).squeeze(axis)
        for one in (picture.label, picture.host, picture.implanted)
    )
    image = np.take(picture.image, [index], axis=axis + 1).squeeze(axis + 1)
    return Picture(picture.case_id, image, label, host, implanted)
