"""What the tests of the commands share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surgeon.cli import main

TINY = Path(__file__).parent / "tiny_unet.py"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def run(*words: str | Path) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leave:
            main([str(word) for word in words])
        said = capsys.readouterr()
        return Result(int(leave.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def tiny() -> str:
    """Return the spec of a network that is built in milliseconds."""
    return f"{TINY}:build"


def write_images(folder: Path, subjects: int = 6, frames: int = 2, side: int = 32) -> Path:
    """Write bright discs on a dark ground with their masks, in a folder for each subject."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:side, :side]
    for subject in range(subjects):
        for frame in range(frames):
            row, column = generator.uniform(10, side - 10, 2)
            disc = (rows - row) ** 2 + (columns - column) ** 2 < generator.uniform(20, 60)
            image = np.clip(disc * 120 + generator.normal(60, 20, disc.shape), 0, 255)
            for kind, array in (("images", image), ("masks", disc * 255)):
                path = folder / f"subject{subject}" / kind / f"frame{subject}_{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array.astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images of discs")
