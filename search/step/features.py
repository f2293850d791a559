"""What the frozen host computes before its first implant, kept for the cases that come again unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from surgeon.errors import RunError
from surgeon.files import whole_file

Features = tuple[Tensor, ...]
GIB = 2**30


@dataclass(slots=True)
class FeatureCache:
    """Features by key: in memory until a bound is reached, then on disk until another is, then forgotten.

    What does not fit is computed again; nothing that was kept is thrown out for it, because every case comes
    once an epoch. A key says all that features depend on (`Forward`): the bytes of the prepared image, the
    weights and the graph of what computes them, and the precision. So files may outlive the process.

    Attributes:
        memory: bytes that may still be kept in memory.
        disk: bytes that may still be written.
        folder: where files go; None writes none.
    """

    memory: float = 0.0
    disk: float = 0.0
    folder: Path | None = None
    _kept: dict[str, Features] = field(default_factory=dict)

    def get(self, key: str, device: torch.device) -> Features | None:
        """Return the features of a key; None where they were not kept.

        Raises:
            RunError: a file of features cannot be read.
        """
        if key in self._kept:
            return self._kept[key]
        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            return tuple(torch.load(path, weights_only=True, map_location=device))
        except Exception as error:
            raise RunError(
                f"kept features cannot be read: {error}", where=str(path), fix="remove the file"
            ) from error

    def put(self, key: str, features: Features) -> None:
        """Keep features if they fit."""
        size = sum(feature.numel() * feature.element_size() for feature in features)
        if size <= self.memory:
            self.memory -= size
            self._kept[key] = features
            return
        path = self._path(key)
        if path is not None and size <= self.disk:
            self.disk -= size
            with whole_file(path) as part:
                torch.save(features, part)

    def clear(self) -> None:
        """Forget everything, and remove the files."""
        self._kept.clear()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # other processes have theirs in it
                self.folder.parent.rmdir()

    def _path(self, key: str) -> Path | None:
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return None if self.folder is None else self.folder / f"{name}.pt"


def together(parts: Sequence[Features]) -> Features:
    """Join the features of several cases into those of a batch."""
    return tuple(torch.cat(tensors) for tensors in zip(*parts, strict=True))
