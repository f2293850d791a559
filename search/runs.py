"""The RUN folder: what is in it, and going on with a run that was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surgeon.data import Cohort
from surgeon.errors import RunError
from surgeon.files import whole_file, write_json, write_text

from .config import Config


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run must have in common with the run that it goes on with.

    Attributes:
        config: the settings.
        host: the host's fingerprint.
        data: a digest of the cases, classes and preparation.
    """

    config: Config
    host: str
    data: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"config": self.config.to_dict(), "host": self.host, "data": self.data}

    def difference(self, other: Mapping[str, Any]) -> str:
        """Say what is not the same in a recorded identity; empty when a run may go on."""
        settings = self.config.differences(other.get("config", {}))
        if settings:
            return f"other settings: {', '.join(settings)}"
        if other.get("host") != self.host:
            return f"another host (fingerprint {str(other.get('host'))[:12]}, this one is {self.host[:12]})"
        return "" if other.get("data") == self.data else "other data"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def identity(self) -> Path:
        """Where the identity of the run is kept."""
        return self.path / "checkpoints" / "run.json"

    def checkpoint(self, phase: str) -> Path:
        """Where the checkpoint of a phase is kept."""
        return self.path / "checkpoints" / f"{phase}.pt"

    def save(self, phase: str, state: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all."""
        with whole_file(self.checkpoint(phase)) as part:
            torch.save(dict(state), part)

    def load(self, phase: str) -> dict[str, Any] | None:
        """Read a checkpoint; None where there is none.

        Raises:
            RunError: the file cannot be read.
        """
        path = self.checkpoint(phase)
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunError(
                f"the checkpoint cannot be read: {error}",
                where=str(path),
                fix="remove it to start that phase again",
            ) from error
        return state

    def write_history(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write `history.jsonl`, one line an epoch."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file into the folder."""
        write_json(self.path / name, value)


def open_run(path: Path, identity: Identity, *, resume: bool) -> RunFolder:
    """Start a run in a folder, or go on with the one that is in it.

    Args:
        path: the RUN folder; made when missing.
        identity: of this run.
        resume: go on with a run that was stopped.

    Raises:
        RunError: the folder holds a run and `resume` was not given; there is nothing to resume; the run is
            finished; or it is of other settings, another host or other data.
    """
    folder = RunFolder(path)
    if path.exists() and not path.is_dir():
        raise RunError("not a folder", where=str(path), fix="give a folder that does not exist yet")
    started = folder.identity.exists()
    if started and not resume:
        raise RunError(
            "the folder already holds a run",
            where=str(path),
            fix="resume it (--resume), or give another folder",
        )
    if not started and resume:
        raise RunError("there is no run to resume", where=str(path), fix="leave out --resume to start one")
    if started:
        _check_resumable(folder, identity)
    folder.write_json("checkpoints/run.json", identity.to_dict())
    return folder


def _check_resumable(folder: RunFolder, identity: Identity) -> None:
    if (folder.path / "report.json").exists():
        raise RunError(
            "the run is finished, and its test set may be scored only once",
            where=str(folder.path),
            fix="read report.html, or start another run in another folder",
        )
    try:
        recorded = json.loads(folder.identity.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"the run cannot be read: {error}", where=str(folder.identity)) from error
    difference = identity.difference(recorded)
    if difference:
        raise RunError(
            f"the run in this folder is of {difference}",
            where=str(folder.path),
            fix="resume with the same command, or start another run in another folder",
        )


def digest_data(cohort: Cohort) -> str:
    """Return a digest of the cases (ids, subjects, file names and sizes), classes and preparation."""
    rows: list[Any] = [cohort.format, list(cohort.classes), cohort.preparation.to_dict()]
    for case in cohort.cases:
        sizes = [[file.name, file.stat().st_size] for file in (*case.images, *case.labels)]
        rows.append([case.id, case.subject, sizes])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
