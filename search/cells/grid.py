"""Where the rows of a matrix lie in feature maps, and how depthwise kernels see them.

A row is a position of an image, its columns are channels. torch's depthwise kernels work on blocks of 16
channels and fill them up: four channels take four times as long as they need. So, on a CPU, several images
stand side by side as channels of one, and their positions follow one another in the rows. No product, norm
or sum over positions sees a difference but that of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Grid:
    """The positions of a batch of feature maps `(N, C, *spatial)`, and the order that rows have them in.

    Attributes:
        images: N.
        spatial: sizes.
        abreast: images that stand side by side; it divides N.
    """

    images: int
    spatial: tuple[int, ...]
    abreast: int = 1

    @classmethod
    def of(cls, maps: Tensor, channels: int) -> Grid:
        """Return the grid of maps `(N, C, *spatial)`, in the order that suits kernels of so many channels."""
        images, spatial = maps.shape[0], tuple(maps.shape[2:])
        most = max(1, _BLOCK // channels) if maps.device.type == "cpu" else 1
        return cls(images, spatial, max(n for n in range(1, most + 1) if images % n == 0))

    def rows(self, maps: Tensor) -> Tensor:
        """Turn `(N, C, *spatial)` into `(P, C)`; no copy where channels are last, one image abreast."""
        last = maps.movedim(1, -1)
        if self.abreast > 1:
            last = last.reshape(-1, self.abreast, *last.shape[1:]).movedim(1, -2)
        return last.reshape(-1, maps.shape[1])

    def maps(self, rows: Tensor) -> Tensor:
        """Turn `(P, C)` into `(N, C, *spatial)`, channels last in memory."""
        last = rows.view(-1, *self.spatial, self.abreast, rows.shape[1]).movedim(-2, 1)
        return last.reshape(self.images, *self.spatial, rows.shape[1]).movedim(-1, 1)

    def wide(self, rows: Tensor) -> Tensor:
        """Turn `(P, C)` into `(N / abreast, abreast * C, *spatial)`, channels last, without a copy."""
        return rows.view(-1, *self.spatial, self.abreast * rows.shape[1]).movedim(-1, 1)

    def narrow(self, wide: Tensor) -> Tensor:
        """Undo `wide`."""
        return wide.movedim(1, -1).reshape(-1, wide.shape[1] // self.abreast)

    def repeat(self, kernel: Tensor) -> Tensor:
        """Repeat a depthwise kernel `(C, 1, ...)` for all images that stand side by side."""
        return kernel.repeat(self.abreast, *(1,) * (kernel.ndim - 1)) if self.abreast > 1 else kernel
