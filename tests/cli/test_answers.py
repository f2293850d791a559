"""A network that gives several maps of one size: which one is read, from the search to the server."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from .conftest import TINY, Cli

QUICK = ("--epochs", "1", "--retrain-epochs", "1", "--batch-size", "4", "--steps", "2", "--no-finalists")


@pytest.fixture(scope="module")
def stages() -> str:
    return f"{TINY}:build_stages"


@pytest.mark.slow
def test_the_output_that_fits_the_labels_is_read_from_the_search_to_the_server(
    cli: Cli, stages: str, images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "RUN"
    words = ("--operations", "sep3,max3,none", "--allow-worse")
    done = cli("implant", stages, "--data", images, "--out", run, *QUICK, *words)
    assert done.code == 0, done.err
    assert "output 1 is read as the answer, of 2 equally large ones" in " ".join(done.err.split())
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert report["task"]["answer"] == 1
    assert report["scores"]["host"]["dice_mean"] > 0.8
    scored = cli("evaluate", run, "--data", images, "--json").json
    assert scored["dice_mean"] > 0.8

    plain, labels = tmp_path / "plain", tmp_path / "labels"
    for out, more in ((plain, ()), (labels, ("--include", "argmax"))):
        assert cli("export", run, "--out", out, "--no-second-opinion", *more).code == 0
        served = cli("evaluate", out, "--data", images, "--json").json
        assert served["dice_mean"] == pytest.approx(scored["dice_mean"], abs=1e-3)
    assert len(onnx.load(plain / "model.onnx").graph.output) == 2
    assert [output.name for output in onnx.load(labels / "model.onnx").graph.output] == ["labels"]


def test_the_user_says_which_output_is_read(cli: Cli, stages: str, images: Path, tmp_path: Path) -> None:
    assert cli("evaluate", stages, "--data", images, "--json").json["dice_mean"] < 0.1
    assert cli("evaluate", stages, "--data", images, "--answer", "-1", "--json").json["dice_mean"] > 0.8
    assert cli("export", stages, "--out", tmp_path / "x", "--input", "1,1,32,32", "--answer", "1").code == 0
    assert cli("evaluate", tmp_path / "x", "--data", images, "--json").json["dice_mean"] > 0.8


@pytest.mark.parametrize("command", ["implant", "evaluate", "export"])
def test_an_output_that_is_not_there_is_refused_before_any_work(
    cli: Cli, stages: str, images: Path, tmp_path: Path, command: str
) -> None:
    out = () if command == "evaluate" else ("--out", tmp_path / "x")
    shape = ("--input", "1,1,32,32") if command == "export" else ()
    done = cli(command, stages, "--data", images, "--answer", "2", *out, *shape)
    assert done.code == 2, done.err
    assert "its maps are: 0 (" in " ".join(done.err.split())
    assert not (tmp_path / "x" / "model.onnx").exists()
