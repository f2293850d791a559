"""Prepared samples kept on disk, for volumes that take long to resample."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from surgeon.files import whole_file

from .case import Case
from .preparing import Frame
from .samples import Sample, Source

_VERSION = 2
_PARTS: tuple[tuple[str, type[Any]], ...] = (("source", Source), ("frame", Frame))


class SampleShelf:
    """A folder of prepared samples, one file for each case.

    A sample is found again as long as the content of its files, the preparation and the classes are the same,
    wherever the files lie; a kept file that cannot be read is as good as none.

    Args:
        folder: made when missing; not in the data folder.
        terms: plain JSON of all that a sample depends on beside its case.
    """

    def __init__(self, folder: Path, terms: dict[str, Any]) -> None:
        self.folder = folder
        self.terms = terms
        self._digests: dict[tuple[str, int, int], str] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, case: Case) -> Sample | None:
        """Return a kept sample; None where there is none."""
        file = self._file(case)
        if not file.is_file():
            return None
        try:
            held = torch.load(file, map_location="cpu", weights_only=True)
            parts: dict[str, Any] = {
                name: None if held[name] is None else kind(**held[name]) for name, kind in _PARTS
            }
            return Sample(case_id=case.id, subject=case.subject, **held["sample"], **parts)
        except Exception:  # noqa: BLE001 - half a file, or one of another version
            return None

    def keep(self, case: Case, sample: Sample) -> None:
        """Write a sample, whole or not at all."""
        names = ("image", "label", "spacing", "region", "between")
        held: dict[str, Any] = {"sample": {name: getattr(sample, name) for name in names}}
        for name, kind in _PARTS:
            part = getattr(sample, name)
            fields = [field.name for field in dataclasses.fields(kind)]
            held[name] = None if part is None else {field: getattr(part, field) for field in fields}
        with whole_file(self._file(case)) as path:
            torch.save(held, path)

    def _file(self, case: Case) -> Path:
        files = (*case.images, *case.labels)
        key = json.dumps([_VERSION, case.slice, [self._digest(file) for file in files], self.terms])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.pt"

    def _digest(self, file: Path) -> str:
        """Digest the content of a file, once as long as it does not change under our hands."""
        stat = file.stat()
        key = (str(file), stat.st_size, stat.st_mtime_ns)
        if key not in self._digests:
            with file.open("rb") as content:
                self._digests[key] = hashlib.file_digest(content, "sha256").hexdigest()
        return self._digests[key]
