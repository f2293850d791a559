"""Volumes larger than a network's window, put together from overlapping windows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from surgeon.errors import InputError

from .runner import Runner


def predict_volume(
    runner: Runner,
    volume: Tensor,
    window: Sequence[int],
    *,
    batch: int = 4,
    overlap: float = 0.5,
    output: int | None = None,
) -> Tensor:
    """Run an export over a large image in batches of windows and blend them with Gaussian weights.

    Windows, weights and blending are those of MONAI's `sliding_window_inference`, on the runner's device.

    Args:
        runner: of one input; with fixed shapes its batch counts, and the last batch is filled up with zeros.
        volume: `(N, C, *spatial)`.
        window: spatial size of a window.
        batch: windows that run together.
        overlap: share of the window by which neighbours overlap, at least 0 and below 1.
        output: which output of the file to blend; it has the size of the window. None takes the answer.

    Returns:
        the blended output `(N, K, *spatial)`.

    Raises:
        InputError: window or overlap cannot be used, or the runner has fixed other sizes.
    """
    if len(window) != volume.ndim - 2 or not 0 <= overlap < 1:
        raise InputError(
            f"a window of {tuple(window)} with an overlap of {overlap} does not suit a volume "
            f"{tuple(volume.shape)}",
            where="predict_volume",
            fix="give one size for each spatial axis, and an overlap of at least 0 and below 1",
        )
    if runner.shapes is not None and tuple(runner.shapes[0][2:]) != tuple(window):
        raise InputError(
            f"the runner is fixed to {tuple(runner.shapes[0][2:])}, the window is {tuple(window)}",
            where="predict_volume",
            fix="open it with the shape of the window",
        )
    from monai.inferers import sliding_window_inference

    place = runner.answer if output is None else output
    fixed = None if runner.shapes is None else runner.shapes[0][0]

    def predict(windows: Tensor) -> Tensor:
        count = windows.shape[0]
        if fixed is not None and count < fixed:
            filling = windows.new_zeros((fixed - count, *windows.shape[1:]))
            windows = torch.cat([windows, filling])
        return runner(windows)[place][:count]

    blended: Tensor = sliding_window_inference(
        volume.to(runner.device),
        tuple(window),
        fixed or batch,
        predict,
        overlap=overlap,
        mode="gaussian",
    )
    return blended
