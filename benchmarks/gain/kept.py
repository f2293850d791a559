"""Finished parts, a small file each, beside the benchmark: it is run in sittings, on any machine.

A part counts as long as the sources that it depends on are the same; where it ran, it says itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.record import commit, digest, machine, versions
from surgeon.files import write_text

SOURCES = tuple(f"benchmarks/gain/{name}.py" for name in ("runs", "tasks", "hosts", "scenes", "volumes"))
"""What the parts depend on; tables can change without measuring again."""
FOLDER = Path(__file__).parent / "parts"


class KeptParts:
    """The finished parts that count.

    Args:
        folder: of their files.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder, self._sources = folder, digest(SOURCES)

    def find(self, task: str, split: int, seed: int) -> dict[str, Any] | None:
        """Return a part; None where it is not finished or its sources have changed."""
        path = self._path(task, split, seed)
        return self._read(path) if path.exists() else None

    def keep(self, part: Mapping[str, Any]) -> None:
        """Write a finished part, and where it was run."""
        place = {"commit": commit(), "sources": self._sources, "machine": machine(), "versions": versions()}
        path = self._path(part["task"], part["split"], part["seed"])
        path.parent.mkdir(parents=True, exist_ok=True)
        packed = {**place, **part, **_packed(part["dice"])}
        write_text(path, json.dumps(packed, separators=(",", ":"), allow_nan=False) + "\n")

    def all(self) -> list[dict[str, Any]]:
        """Return all that count, in the order of their names."""
        found = (self._read(path) for path in sorted(self._folder.glob("*.json")))
        return [part for part in found if part is not None]

    def stale(self) -> int:
        """Return the number of those whose sources have changed."""
        return sum(1 for _ in self._folder.glob("*.json")) - len(self.all())

    def _path(self, task: str, split: int, seed: int) -> Path:
        return self._folder / f"{task}-split{split}-seed{seed}.json"

    def _read(self, path: Path) -> dict[str, Any] | None:
        part: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return part | _unpacked(part) if part["sources"] == self._sources else None


def places(parts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say where parts were run: the processors, and the versions of torch."""
    return sorted({f"{part['machine']['processor']}, torch {part['versions']['torch']}" for part in parts})


def _packed(dice: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Name the cases once: every row has the same."""
    cases = sorted({case for values in dice.values() for case in values})
    return {
        "cases": cases,
        "dice": {row: [values.get(case) for case in cases] for row, values in dice.items()},
    }


def _unpacked(part: Mapping[str, Any]) -> dict[str, Any]:
    rows = {row: zip(part["cases"], values, strict=True) for row, values in part["dice"].items()}
    return {"dice": {row: {case: x for case, x in pairs if x is not None} for row, pairs in rows.items()}}
