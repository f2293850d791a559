"""Batches made ready in the background, so that a device does not wait for them."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch

from .batches import Batch, Batches


class Loader:
    """Gives batches in their order, the next ones being made by a thread meanwhile.

    What a batch holds depends on its epoch and step alone (`Batches`): making it early changes nothing.

    Args:
        batches: to give.
        steps: that are made in an epoch.
        device: they go to; for a GPU they are made in pinned memory, and copied while it computes.
        ahead: batches that are made early; 0 makes each when it is asked for.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(self, batches: Batches, steps: int, device: torch.device, ahead: int = 2) -> None:
        self.batches, self.steps = batches, steps
        self.waited = 0.0
        self._device, self._ahead = device, ahead
        self._workers = ThreadPoolExecutor(1, "surgeon-loader") if ahead else None
        self._coming: dict[tuple[int, int], Future[Batch]] = {}

    @property
    def fixed(self) -> bool:
        """Whether a case is the same image whenever it comes."""
        return self.batches.fixed

    def batch(self, epoch: int, step: int) -> Batch:
        """Return a batch on the device.

        Raises:
            DataError: a case cannot be read.
        """
        start = time.perf_counter()
        if self._workers is None:
            drawn = self._make(epoch, step)
        else:
            wanted = [self._after(epoch, step, k) for k in range(self._ahead + 1)]
            self._coming = {place: self._coming.get(place) or self._send(place) for place in wanted}
            drawn = self._coming.pop((epoch, step)).result()
        self.waited += time.perf_counter() - start
        return replace(drawn, image=self._moved(drawn.image), label=self._moved(drawn.label))

    def _send(self, place: tuple[int, int]) -> Future[Batch]:
        assert self._workers is not None
        return self._workers.submit(self._make, *place)

    def _after(self, epoch: int, step: int, count: int) -> tuple[int, int]:
        epochs, step = divmod(step + count, self.steps)
        return epoch + epochs, step

    def _make(self, epoch: int, step: int) -> Batch:
        drawn = self.batches.batch(epoch, step)
        if self._device.type != "cuda":
            return drawn
        return replace(drawn, image=drawn.image.pin_memory(), label=drawn.label.pin_memory())

    def _moved(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self._device, non_blocking=True)
