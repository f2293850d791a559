"""What an exported model says of itself, and how its labels are scored."""

from __future__ import annotations

from pathlib import Path

import torch
from surgeon.export import to_onnx
from torch import nn

from surgeon.cli.served import ExportedNetwork, Recorded, read_recorded_data
from surgeon.data import Preparation

PREPARATION = Preparation(mean=(0.5,), std=(0.25,), multiple=4)


def test_labels_become_one_channel_for_each_class(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 3, 3, padding=1).eval()
    x = torch.randn(1, 1, 8, 8)
    to_onnx(network, x, tmp_path, include=["argmax"])
    with torch.no_grad():
        expected = network(x).argmax(1)
    found = ExportedNetwork.open(tmp_path)(x)
    assert found.shape == (1, 3, 8, 8)
    assert torch.equal(found.argmax(1), expected)


def test_what_the_file_normalises_is_not_normalised_before(tmp_path: Path) -> None:
    network = nn.Conv2d(1, 2, 3, padding=1).eval()
    recorded = {"preparation": PREPARATION.to_dict()}
    x = torch.randn(1, 1, 8, 8)
    to_onnx(network, x, tmp_path / "plain", metadata=recorded)
    assert read_recorded_data(tmp_path / "plain") == Recorded(PREPARATION)
    to_onnx(network, x, tmp_path / "own", metadata=recorded, include=["normalise"], preparation=PREPARATION)
    assert read_recorded_data(tmp_path / "own") == Recorded(Preparation(scale="none", multiple=4))
