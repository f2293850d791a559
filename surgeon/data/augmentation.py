"""Training samples varied: flips, turns, brightness and contrast."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def augment_sample(image: Tensor, label: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Vary a sample; image and label keep their shapes.

    Args:
        image: `(C, *spatial)`.
        label: `(*spatial)`.
        generator: draws what happens.
    """
    axes = [axis for axis in range(label.ndim) if generator.random() < 0.5]
    if axes:
        image, label = image.flip([axis + 1 for axis in axes]), label.flip(axes)
    # A turn by a right angle keeps the shape where the last two axes are of one length.
    if label.ndim >= 2 and label.shape[-1] == label.shape[-2] and generator.random() < 0.5:
        image, label = image.transpose(-1, -2), label.transpose(-1, -2)
    contrast = float(generator.uniform(0.85, 1.15))
    brightness = float(generator.uniform(-0.1, 0.1)) * image.std()
    mean = image.mean()
    return ((image - mean) * contrast + mean + brightness).contiguous(), label.contiguous()
