"""A case as a picture: the outlines of its label and of what a network saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .canvas import look, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRUTH, _SEEN = "#ffd23f", "#35c8ff"


def case_figure(
    image: NDArray[np.float32], label: NDArray[np.int64], prediction: NDArray[np.int64], title: str
) -> Figure:
    """Draw a case twice: with the outline of its label, and with that of the prediction.

    A volume is shown at the slice in which label and prediction differ most, a signal above both.

    Args:
        image: `(C, *spatial)`.
        label: `(*spatial)`.
        prediction: `(*spatial)`.
        title: says which case it is, and how it was scored.
    """
    if label.ndim == 1:
        figure = signal_figure(image, {"label": (label, _TRUTH), "prediction": (prediction, _SEEN)})
        figure.suptitle(title)
        return figure
    if label.ndim == 3:
        axis = int(np.argmin(label.shape))
        others = tuple(other for other in range(3) if other != axis)
        differ = (label != prediction).sum(axis=others)
        index = int((differ if differ.any() else (label > 0).sum(axis=others)).argmax())
        image, label, prediction = (
            np.take(image, index, axis=axis + 1),
            np.take(label, index, axis=axis),
            np.take(prediction, index, axis=axis),
        )
        title = f"{title}, slice {index} of axis {axis}"
    tall = min(max(label.shape[0] / label.shape[1], 0.35), 1.6)
    with look():
        figure, grid = new_figure(9, 4.5 * tall + 0.5, 1, 2)
        figure.suptitle(title)
        for axes, name, values, colour in (
            (grid[0][0], "label", label, _TRUTH),
            (grid[0][1], "prediction", prediction, _SEEN),
        ):
            axes.imshow(display(image), cmap="gray", interpolation="nearest", aspect="equal")
            axes.set_title(name)
            axes.axis("off")
            outline(axes, values, colour)
    return figure


def signal_figure(image: NDArray[np.float32], rows: Mapping[str, tuple[NDArray[np.int64], str]]) -> Figure:
    """Draw the first channel of a signal `(C, length)` above bars that say where its classes are.

    Args:
        image: the signal.
        rows: for each name the classes `(length,)` and a colour; each class has a bar of its own height.
    """
    highest = max(1, *(int(values.max()) for values, _ in rows.values()))
    with look():
        figure, grid = new_figure(10, 2.6, 2, 1, sharex=True, height_ratios=(2, 1))
        upper, lower = grid[:, 0]
        upper.plot(image[0], color="#6b7488", linewidth=1)
        upper.set_ylabel("signal")
        for place, (values, colour) in enumerate(rows.values()):
            heights = 0.2 + 0.5 * values / highest
            lower.fill_between(
                range(len(values)), -place - 0.35, -place - 0.35 + heights, where=values > 0, color=colour
            )
        lower.set_yticks([-place for place in range(len(rows))], list(rows))
        lower.set_ylim(-len(rows) + 0.4, 0.6)
    return figure


def display(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale `(C, rows, columns)` to 0..1 for the eye: three channels as colours, otherwise the first one."""
    chosen = np.moveaxis(image, 0, -1) if image.shape[0] == 3 else image[0]
    finite = np.nan_to_num(chosen.astype(np.float32))
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled: NDArray[np.float32] = np.clip((finite - low) / max(high - low, 1e-6), 0, 1)
    return scaled


def outline(axes: Axes, labels: NDArray[np.int64], colour: str) -> None:
    """Draw the border of every class of `labels` `(rows, columns)`."""
    style: dict[str, Any] = {"colors": colour, "linewidths": 1.3}
    for value in np.unique(labels[labels > 0]):
        # Padding closes the outline of what touches the border.
        padded = np.pad((labels == value).astype(float), 1)
        rows, columns = (np.arange(-1, size + 1) for size in labels.shape)
        axes.contour(columns, rows, padded, levels=[0.5], **style)
