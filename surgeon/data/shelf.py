"""Prepared samples kept on disk, for volumes that take long to resample."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from surgeon.files import whole_file

from .case import Case
from .samples import Sample, Source

_VERSION = 1


class SampleShelf:
    """A folder of prepared samples, one file for each case.

    A sample is found again as long as its files, the preparation and the classes are the same; a file that
    cannot be read is as good as none.

    Args:
        folder: made when missing; not in the data folder.
        terms: plain JSON of all that a sample depends on beside its case.
    """

    def __init__(self, folder: Path, terms: dict[str, Any]) -> None:
        self.folder = folder
        self.terms = terms
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, case: Case) -> Sample | None:
        """Return a kept sample; None where there is none."""
        file = self._file(case)
        if not file.is_file():
            return None
        try:
            held = torch.load(file, map_location="cpu", weights_only=True)
            source = None if held["source"] is None else Source(**held["source"])
            return Sample(case_id=case.id, subject=case.subject, source=source, **held["sample"])
        except Exception:  # noqa: BLE001 - half a file, or one of another version
            return None

    def keep(self, case: Case, sample: Sample) -> None:
        """Write a sample, whole or not at all."""
        names = ("image", "label", "spacing", "region", "between")
        source = sample.source
        held = {
            "sample": {name: getattr(sample, name) for name in names},
            "source": None
            if source is None
            else {name: getattr(source, name) for name in ("label", "size", "box", "spacing")},
        }
        with whole_file(self._file(case)) as part:
            torch.save(held, part)

    def _file(self, case: Case) -> Path:
        files = (*case.images, *((case.label,) if case.label else ()))
        stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        key = json.dumps([_VERSION, case.id, case.slice, stats, self.terms], sort_keys=True)
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pt"
