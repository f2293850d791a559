"""What every benchmark keeps and prints: where it ran, what it reached, and the parts that are finished."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from surgeon.files import write_json

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "monai", "segmentation-models-pytorch", "diffusers", "timm", "onnxruntime", "onnx")


@dataclass(frozen=True)
class Target:
    """A figure with the bar it has to reach."""

    name: str
    value: float
    bar: float
    holds: bool

    @classmethod
    def at_least(cls, name: str, value: float, bar: float) -> Target:
        """Return a target that holds from the bar upwards."""
        return cls(name, value, bar, value >= bar)

    @classmethod
    def at_most(cls, name: str, value: float, bar: float) -> Target:
        """Return a target that holds up to the bar."""
        return cls(name, value, bar, value <= bar)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def machine() -> dict[str, Any]:
    """Describe the processor, without the machine's name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [row for row in cpuinfo.read_text().splitlines() if row.startswith("model name")]
        model = named[0].split(":", 1)[1].strip() if named else model
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system()}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a figure depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """Return the commit of the working copy; `unknown` outside one."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def digest(sources: Iterable[str]) -> str:
    """Return a digest of Python files, and of those in folders, of the repository."""
    total = hashlib.sha256()
    for path in sorted(path for source in sources for path in _files(ROOT / source)):
        total.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


def _files(source: Path) -> Iterable[Path]:
    return [source] if source.is_file() else source.rglob("*.py")


class Parts:
    """The finished parts of a benchmark, in one file of `benchmarks/results`.

    Parts count as long as the machine, the versions and the sources that they depend on are the same.

    Args:
        name: of the benchmark.
        sources: files and folders of the repository that the figures depend on.
    """

    def __init__(self, name: str, sources: Iterable[str]) -> None:
        self.path = RESULTS / f"{name}.json"
        self.head = {"machine": machine(), "versions": versions(), "sources": digest(sources)}
        self.parts = self._read()

    def _read(self) -> dict[str, Any]:
        kept = self.written
        same = all(kept.get(key) == value for key, value in self.head.items())
        return dict(kept["parts"]) if same else {}

    @property
    def written(self) -> dict[str, Any]:
        """The file as it is, whichever machine, versions and sources it came from; empty without one."""
        return dict(json.loads(self.path.read_text(encoding="utf-8"))) if self.path.exists() else {}

    def find(self, part: str) -> Any:
        """Return the result of a part, also of one that another process wrote meanwhile; None without one."""
        self.parts = {**self._read(), **self.parts}
        return self.parts.get(part)

    def keep(self, part: str, result: Any) -> None:
        """Write the result of a finished part, beside those that other processes wrote meanwhile."""
        self.parts = {**self._read(), **self.parts, part: result}
        write_json(self.path, {**self.head, "commit": commit(), "parts": self.parts})


def say(text: str, as_json: bool) -> None:
    """Print a line for a person: beside the JSON where that was asked for."""
    print(text, file=sys.stderr if as_json else sys.stdout, flush=True)


def conclude(report: dict[str, Any], as_json: bool) -> int:
    """Say which targets hold and what was not measured; returns 0 when all hold."""
    for target in report["targets"]:
        word = "holds" if target["holds"] else "MISSED"
        say(f"{word:7} {target['name']}: {target['value']} (bar {target['bar']})", as_json)
    for name in report["not_measured"]:
        say(f"not measured: {name}", as_json)
    if as_json:
        print(json.dumps(report, indent=2))
    return 0 if all(target["holds"] for target in report["targets"]) else 1
