"""The files of a RUN folder as the report needs them, checked where they come in."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surgeon.errors import RunError
from surgeon.figures import Plan, plan_of

_AGAIN = "run `surgeon implant ... --resume` on this folder again"


@dataclass(frozen=True, slots=True)
class Picture:
    """One test case to look at.

    Attributes:
        case_id: as in the scores.
        image: (C, *spatial), prepared for the network.
        label: (*spatial), the truth.
        host: (*spatial), what the host predicts.
        implanted: (*spatial), what the implanted network predicts.
    """

    case_id: str
    image: NDArray[np.float32]
    label: NDArray[np.int64]
    host: NDArray[np.int64]
    implanted: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Record:
    """All that a report is written from.

    Attributes:
        path: the RUN folder.
        report: `report.json`.
        genotype: `genotype.json`, or None.
        history: lines of `history.jsonl`, search first.
        pictures: from `samples.npz`.
        export: `export.json`, or None.
        plan: the anatomy to draw, or None.
    """

    path: Path
    report: Mapping[str, Any]
    genotype: Mapping[str, Any] | None
    history: tuple[Mapping[str, Any], ...]
    pictures: tuple[Picture, ...]
    export: Mapping[str, Any] | None
    plan: Plan | None

    def part(self, name: str) -> Mapping[str, Any]:
        """Return a section of `report.json`, empty when it is missing."""
        value = self.report.get(name)
        return value if isinstance(value, Mapping) else {}


def read_record(run_dir: str | Path, export_dir: str | Path | None = None) -> Record:
    """Read a RUN folder, and the folder of an export of it.

    Raises:
        RunError: the folder or `report.json` is missing, or a file in it cannot be read.
    """
    path = Path(run_dir)
    if not path.is_dir():
        raise RunError(
            "there is no such RUN folder", where=str(path), fix="give the folder of `surgeon implant --out`"
        )
    report = _read_json(path / "report.json")
    if report is None:
        raise RunError("the run has no report.json: it did not finish", where=str(path), fix=_AGAIN)
    _check_report(report, path / "report.json")
    export = None
    if export_dir is not None:
        export = _read_json(Path(export_dir) / "export.json")
        if export is None:
            where, fix = str(export_dir), "give the folder of `surgeon export --out`"
            raise RunError("the export has no export.json", where=where, fix=fix)
    return Record(
        path=path,
        report=report,
        genotype=_read_json(path / "genotype.json") or report.get("genotype"),
        history=_read_history(path / "history.jsonl"),
        pictures=_read_pictures(path / "samples.npz"),
        export=export,
        plan=_read_plan(report, path / "report.json"),
    )


def _read_json(path: Path) -> Mapping[str, Any] | None:
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path.name} cannot be read: {error}", where=str(path), fix=_AGAIN) from error
    if not isinstance(value, Mapping):
        raise RunError(f"{path.name} holds no JSON object", where=str(path), fix=_AGAIN)
    return value


def _check_report(report: Mapping[str, Any], path: Path) -> None:
    wanted = (
        ("scores", "host", "dice_mean"),
        ("scores", "implanted", "dice_mean"),
        ("gain", "dice_mean"),
        ("gain", "low"),
        ("gain", "high"),
        ("verdict",),
    )
    missing = [".".join(keys) for keys in wanted if _dig(report, keys) is None]
    if missing:
        raise RunError(f"report.json says nothing of {', '.join(missing)}", where=str(path), fix=_AGAIN)


def _dig(value: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _read_history(path: Path) -> tuple[Mapping[str, Any], ...]:
    if not path.is_file():
        return ()
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            rows.append({**row, "phase": str(row["phase"]), "epoch": int(row["epoch"])})
        except (ValueError, TypeError, KeyError) as error:
            what = f"line {number} of history.jsonl cannot be read: {error!r}"
            raise RunError(what, where=str(path), fix=_AGAIN) from error
    return tuple(rows)


def _read_pictures(path: Path) -> tuple[Picture, ...]:
    if not path.is_file():
        return ()
    try:
        with np.load(path, allow_pickle=False) as archive:
            return tuple(_picture(archive, i, str(name)) for i, name in enumerate(archive["case_ids"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise RunError(f"samples.npz cannot be read: {error}", where=str(path), fix=_AGAIN) from error


def _picture(archive: Any, index: int, case_id: str) -> Picture:
    image = np.asarray(archive[f"image_{index}"], dtype=np.float32)
    maps = [np.asarray(archive[f"{name}_{index}"], dtype=np.int64) for name in ("label", "host", "implanted")]
    if any(one.shape != image.shape[1:] for one in maps):
        shapes = ", ".join(str(one.shape) for one in maps)
        raise ValueError(f"case {case_id} has an image {image.shape} and maps {shapes}")
    return Picture(case_id, image, *maps)


def _read_plan(report: Mapping[str, Any], path: Path) -> Plan | None:
    if not report.get("anatomy"):
        return None
    try:
        return plan_of(report["anatomy"])
    except (KeyError, TypeError, IndexError) as error:
        what = f"the anatomy in report.json cannot be read: {error!r}"
        raise RunError(what, where=str(path), fix=_AGAIN) from error
