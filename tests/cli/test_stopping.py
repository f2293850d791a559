"""A search that the user stops, and goes on with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import TINY

SETTINGS = ["--epochs", "3", "--retrain-epochs", "2", "--steps", "20", "--batch-size", "4", "--allow-worse"]


def start(images: Path, run: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "surgeon", "implant", f"{TINY}:build", "--data", str(images)]
    command += ["--out", str(run), *SETTINGS, *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_stopped_search_goes_on_to_the_genotype_of_an_undisturbed_one(images: Path, tmp_path: Path) -> None:
    undisturbed, stopped = tmp_path / "undisturbed", tmp_path / "stopped"
    with start(images, undisturbed) as process:
        process.communicate()
        assert process.returncode == 0
    with start(images, stopped) as process:
        assert process.stderr is not None
        while "epoch 1 of 3" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
        assert (process.returncode, out) == (130, ""), err
        assert "stopped by the user" in err
        assert "--resume" in err
        assert "Traceback" not in err
    with start(images, stopped, "--resume") as process:
        _, err = process.communicate()
        assert process.returncode == 0, err
    assert (undisturbed / "genotype.json").read_text() == (stopped / "genotype.json").read_text()
    assert epochs(stopped) == epochs(undisturbed)
    assert len(epochs(stopped)) == len(set(epochs(stopped)))


def epochs(run: Path) -> list[tuple[str, int]]:
    lines = (run / "history.jsonl").read_text(encoding="utf-8").splitlines()
    return [(line["phase"], line["epoch"]) for line in map(json.loads, lines)]
