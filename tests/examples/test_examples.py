"""The programs in examples/ run as a reader would run them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *words: str) -> str:
    """Run an example from the folder of nobody, and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_implanting_into_a_monai_unet(tmp_path: Path) -> None:
    said = run("implant_monai_unet.py", str(tmp_path))
    assert "s0 cat (1, 8, 16, 16)" in said
    assert "verdict: " in said
    assert (tmp_path / "served" / "model.onnx").is_file()
    assert (tmp_path / "RUN" / "report.html").is_file()


def test_inspecting_an_smp_unet() -> None:
    pytest.importorskip("segmentation_models_pytorch")
    said = run("inspect_smp_unet.py")
    assert said.count("  skip  cat  ") == 4
    assert "equal to the bit: True" in said
    assert "trains: ['implants.s0.weight']" in said


class Client:
    """Answers as a server does whose model calls everything brighter than a half foreground."""

    def get_model_metadata(self, model: str) -> dict[str, Any]:
        assert model == "pupil"
        return {"inputs": [{"name": "image"}]}

    def infer(self, model: str, inputs: list[Any]) -> Any:
        assert inputs[0].name() == "image"
        raw = np.frombuffer(inputs[0]._get_binary_data(), np.float32).reshape(inputs[0].shape())
        return SimpleNamespace(
            get_response=lambda: {"outputs": [{"name": "logits"}]}, as_numpy=lambda name: raw - 0.5
        )


def test_asking_a_triton_server() -> None:
    """The real server answers in tests/export/triton; here the client's half is checked without one."""
    pytest.importorskip("tritonclient.http")
    spec = importlib.util.spec_from_file_location("ask_triton", EXAMPLES / "ask_triton.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image = np.array([[[[0.2, 0.9], [0.6, 0.1]]]], np.float32)
    assert module.ask(Client(), "pupil", image).tolist() == [[[0, 1], [1, 0]]]
