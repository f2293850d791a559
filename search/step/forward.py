"""The forward pass of training: what the frozen host computes before its implants is computed once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from surgeon.data import Batch, Batches, Loader, digest_of
from surgeon.splicing import SplicedNetwork

from .bill import Clock, Part, Watch
from .compiling import Compiler
from .features import FeatureCache, Features, together
from .halves import Halves


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch on its way through a network.

    Attributes:
        features: of its images.
        shape: of its images `(N, C, *spatial)`.
        label: `(N, *spatial)`, on the device.
    """

    features: Features
    shape: tuple[int, ...]
    label: Tensor


class Forward:
    """Runs a spliced network on batches.

    Where a case is the same image whenever it comes, the first half of the network is computed for each case
    by itself and kept, so that a kept result is equal to the bit to one computed again.

    Args:
        network: the host with its implants, on its device.
        batches: to compare the halves of the network with the whole on.
        device: of the network.
        cache: keeps features; share it among networks of one host and one cohort.
        memory: bytes that a batch may keep for the gradients; what is more is computed again.
        clock: told of what the time goes to.
        compiler: of what the host computes; None compiles nothing.

    Attributes:
        halves: of the network.
        recomputes: whether activations of the host are computed again for the gradients.
    """

    def __init__(
        self,
        network: SplicedNetwork,
        batches: Batches,
        device: torch.device,
        cache: FeatureCache,
        *,
        memory: float = math.inf,
        clock: Clock | None = None,
        compiler: Compiler | None = None,
    ) -> None:
        image = batches.batch(0, 0).image.to(device)
        self.halves = Halves(network, torch.cat((image, image))[:2])
        self.recomputes = memory < math.inf and self.halves.spare(image[:1], len(image), memory)
        if compiler is not None:
            self.halves.compile(compiler, tuple(image.shape))
        self._device, self._cache = device, cache
        self._clock = clock or Clock()
        self._watch = Watch(network, self.halves.second, self._clock)
        self._computation: str | None = None

    def draw(self, batches: Batches | Loader, epoch: int, step: int) -> Drawn:
        """Return a batch, as far as the first half of the network computes it."""
        self._clock.enter(Part.DATA)
        drawn = batches.batch(epoch, step)
        self._clock.enter(Part.HOST)
        features = self.features(drawn, batches.fixed)
        return Drawn(features, tuple(drawn.image.shape), drawn.label.to(self._device))

    def finish(self, features: Sequence[Tensor], shape: tuple[int, ...]) -> Any:
        """Return the network's output on a batch, from the features of its images and their shape."""
        with self._watch.watching():
            return self.halves.finish(features, shape)

    def features(self, drawn: Batch, fixed: bool) -> Features:
        """Return what the second half of the network needs of a batch."""
        image = drawn.image.to(self._device)
        if not fixed or not self.halves.by_case:
            return self.halves.features(image)
        digests = drawn.digests or tuple(digest_of(one.cpu()) for one in image)
        return together([self._of_case(key, one[None]) for key, one in zip(digests, image, strict=True)])

    def _of_case(self, digest: str, image: Tensor) -> Features:
        if self._computation is None:
            self._computation = self.halves.computation()
        key = f"{digest}/{self._computation}"
        found = self._cache.get(key, self._device)
        if found is None:
            found = self.halves.features(image)
            self._cache.put(key, found)
        return found
