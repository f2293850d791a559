"""Networks of several images, whose data are images with the channels of all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.core.data.builders import disc, picture

from .conftest import Cli

TWO_DATES = '''
"""A network that compares two dates of a place."""
import torch
from torch import nn


class Dates(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fine, self.coarse = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 2, 2)
        self.up, self.head = nn.ConvTranspose2d(16, 4, 2, 2), nn.Conv2d(12, 2, 3, padding=1)

    def forward(self, before, after, scale=1.0):
        fine = [self.fine(image).relu() for image in (before, after)]
        coarse = torch.cat([self.coarse(image).relu() for image in fine], 1)
        return self.head(torch.cat([*fine, scale * self.up(coarse)], 1))
'''
INPUTS = ["--input", "1,3,32,32", "--input", "1,3,32,32"]
QUICK = ["--epochs", "1", "--retrain-epochs", "1", "--steps", "1", "--batch-size", "2", "--allow-worse"]
QUICK += ["--no-finalists", "--operations", "sep3,none"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the network, and with pairs of colour images listed in JSON."""
    root = tmp_path_factory.mktemp("dates")
    (root / "dates.py").write_text(TWO_DATES)
    generator = np.random.default_rng(0)
    entries = []
    for index in range(5):
        label = disc((32, 32), 9)
        names = {"image": [f"a/{index}.png", f"b/{index}.png"], "label": f"label/{index}.png"}
        before = generator.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        picture(root / "data" / names["image"][0], before)
        picture(root / "data" / names["image"][1], before + (label * 120).astype(np.uint8)[..., None])
        picture(root / "data" / str(names["label"]), label)
        entries.append(names)
    (root / "data" / "datalist.json").write_text(json.dumps({"training": entries}))
    return root


@pytest.mark.slow
def test_a_network_of_two_images_is_implanted_exported_and_scored(cli: Cli, place: Path) -> None:
    host, run, export = [f"{place}/dates.py:Dates", *INPUTS], str(place / "run"), str(place / "export")
    data = ["--data", str(place / "data")]
    said = cli("implant", *host, *data, "--out", run, *QUICK)
    assert said.code == 0, said.err
    assert "each image holds the network's 2 inputs: channels 3 + 3" in said.err
    assert cli("export", run, "--out", export, "--input", "1,6,32,32").code == 0
    described = json.loads((Path(export) / "export.json").read_text())
    assert [entry["shape"] for entry in described["inputs"]] == [["batch", 6, "height", "width"]]
    scores = [cli("evaluate", of, *data, "--json").json["dice_mean"] for of in (run, export)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)


def test_an_export_with_two_inputs_is_proved_and_scored_on_images_of_both(cli: Cli, place: Path) -> None:
    host, export = [f"{place}/dates.py:Dates", *INPUTS], str(place / "plain")
    data = ["--data", str(place / "data")]
    assert cli("export", *host, *data, "--out", export).code == 0
    described = json.loads((Path(export) / "export.json").read_text())
    assert [entry["name"] for entry in described["inputs"]] == ["before", "after"]
    assert any(case["what"].startswith("sample") for case in described["parity"])
    of_host = cli("evaluate", *host, *data, "--json").json["dice_mean"]
    of_export = cli("evaluate", export, *data, "--json").json["dice_mean"]
    assert of_host == pytest.approx(of_export, abs=1e-3)


def test_files_called_after_channels_are_scored_and_exported_on_as_listed_ones(
    cli: Cli, place: Path, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    for file in (place / "data").glob("*/*.png"):
        name = "seg" if file.parent.name == "label" else file.parent.name
        (files / file.stem).mkdir(parents=True, exist_ok=True)
        (files / file.stem / f"p{file.stem}_{name}.png").write_bytes(file.read_bytes())
    host, data = [f"{place}/dates.py:Dates", *INPUTS], ["--data", str(files), "--channels", "a,b"]
    (tmp_path / "unit.toml").write_text('scale = "unit"')
    score = ["evaluate", *host, "--preparation", str(tmp_path / "unit.toml"), "--json"]
    listed = cli(*score, "--data", str(place / "data")).json
    assert cli(*score, *data).json["dice_mean"] == listed["dice_mean"]
    said = cli("export", *host, *data, "--out", str(tmp_path / "export"), "--json")
    assert any(case["what"].startswith("sample") for case in said.json["parity"])
    said = cli("evaluate", *host, "--data", str(files))
    assert (said.code, "with --channels flair,t1" in said.err) == (2, True)


def test_data_of_one_image_alone_are_refused_with_the_channels_of_both(cli: Cli, place: Path) -> None:
    content = json.loads((place / "data" / "datalist.json").read_text())
    entries = [{**entry, "image": entry["image"][:1]} for entry in content["training"]]
    (place / "data" / "one.json").write_text(json.dumps({"training": entries}))
    host = [f"{place}/dates.py:Dates", *INPUTS]
    said = cli("implant", *host, "--data", str(place / "data" / "one.json"), "--out", str(place / "one"))
    assert said.code == 2
    assert "the network takes images of 6 channels, the data have 3" in said.err


@pytest.mark.parametrize("second", ["1,3,16,16", "1"])
def test_inputs_that_are_no_parts_of_one_image_are_refused(cli: Cli, place: Path, second: str) -> None:
    host = [f"{place}/dates.py:Dates", "--input", "1,3,32,32", "--input", second]
    said = cli("implant", *host, "--data", str(place / "data"), "--out", str(place / "none"))
    assert said.code == 2
    assert "2 inputs cannot be the channels of one image" in said.err
    assert not (place / "none").exists()
