"""Bad input: exit code 2, nothing on standard output, one clear error of a few lines, no traceback."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from .conftest import TINY, Cli, Result, write_images


def check_refusal(done: Result, *words: str) -> None:
    assert (done.code, done.out) == (2, ""), done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.err
    tail = done.err[done.err.index("error: ") :]
    assert len(tail.splitlines()) <= 3
    assert "Traceback" not in done.err
    for word in words:
        assert word in tail


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "RUN"


@pytest.fixture
def own_images(tmp_path: Path) -> Path:
    """Return images that a test may spoil."""
    return write_images(tmp_path / "data")


def checkpoint_of_another(path: Path) -> Path:
    torch.save({"enc.0.weight": torch.zeros(4, 1, 3, 3), "classifier.weight": torch.zeros(2, 2)}, path)
    return path


def test_no_such_network_file(cli: Cli, tmp_path: Path) -> None:
    check_refusal(cli("inspect", tmp_path / "none.pt2"), "no such file", "none.pt2")
    check_refusal(cli("inspect", f"{tmp_path}/none.py:build"), "no such file", "none.py")
    check_refusal(cli("inspect", "not_a_package.nets:UNet"), "no module named 'not_a_package'")


def test_no_such_run_or_export(cli: Cli, images: Path, out: Path, tmp_path: Path) -> None:
    for command, *words in (("export", "--out", out), ("evaluate", "--data", images)):
        done = cli(command, tmp_path / "none", *words)
        check_refusal(done, "no such folder of a RUN or an export", "give a finished RUN")


def test_no_such_checkpoint(cli: Cli, tiny: str, tmp_path: Path) -> None:
    check_refusal(cli("inspect", tiny, "--checkpoint", tmp_path / "none.pth"), "none.pth")


def test_no_such_data_folder(cli: Cli, tiny: str, out: Path, tmp_path: Path) -> None:
    check_refusal(cli("implant", tiny, "--data", tmp_path / "none", "--out", out), "no such data folder")
    assert not out.exists()


def test_the_checkpoint_of_another_network(cli: Cli, tiny: str, tmp_path: Path) -> None:
    done = cli("inspect", tiny, "--checkpoint", checkpoint_of_another(tmp_path / "other.pth"))
    check_refusal(done, "missing", "enc.0.bias", "unexpected", "classifier.weight")


class Dangerous:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("RAN",)


def test_a_pickle_that_would_run_code(
    cli: Cli, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Dangerous()}, tmp_path / "dangerous.pth")
    done = cli("inspect", tiny, "--checkpoint", "dangerous.pth")
    check_refusal(done, "mkdir", "--trust")
    assert not Path("RAN").exists()


def test_an_input_of_the_wrong_rank(cli: Cli, tiny: str) -> None:
    done = cli("inspect", tiny, "--input", "1,1,8,32,32")
    check_refusal(done, "(1, 1, 8, 32, 32)", "--input 1,1,")


def test_an_input_with_the_wrong_channels(cli: Cli, tiny: str) -> None:
    check_refusal(cli("inspect", tiny, "--input", "1,3,32,32"), "3 channels", "--input 1,1,")


def test_images_with_other_channels_than_the_network_takes(
    cli: Cli, tiny: str, images: Path, out: Path
) -> None:
    done = cli("implant", tiny, "--arg", "in_channels=3", "--data", images, "--out", out)
    check_refusal(done, "channel")


def test_a_data_folder_without_labels(cli: Cli, tiny: str, own_images: Path, out: Path) -> None:
    for masks in own_images.glob("*/masks"):
        shutil.rmtree(masks)
    check_refusal(cli("implant", tiny, "--data", own_images, "--out", out))


def test_one_subject_only(cli: Cli, tiny: str, own_images: Path, out: Path) -> None:
    for folder in sorted(own_images.iterdir())[1:]:
        shutil.rmtree(folder)
    check_refusal(cli("implant", tiny, "--data", own_images, "--out", out), "subject")


def test_labels_with_an_unknown_class(cli: Cli, tiny: str, own_images: Path, out: Path) -> None:
    mask = sorted(own_images.glob("*/masks/*.png"))[3]
    Image.fromarray(np.full((32, 32), 7, np.uint8)).save(mask)
    check_refusal(cli("implant", tiny, "--data", own_images, "--out", out), "unknown class", "7", mask.name)


def test_an_image_that_cannot_be_decoded(cli: Cli, tiny: str, own_images: Path, out: Path) -> None:
    image = sorted(own_images.glob("*/images/*.png"))[3]
    image.write_bytes(image.read_bytes()[:60])
    check_refusal(cli("implant", tiny, "--data", own_images, "--out", out), image.name)


def test_more_classes_than_the_network_has(cli: Cli, tiny: str, own_images: Path, out: Path) -> None:
    for mask in own_images.glob("*/masks/*.png"):
        Image.fromarray(np.asarray(Image.open(mask)) // 255).save(mask)
    done = cli("implant", tiny, "--data", own_images, "--out", out, "--classes", "ground,disc,ring")
    check_refusal(done, "1 output channels", "3 classes")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arg", "width"], "'width' is not K=V"),
        (["--arg", "depth=3"], "does not take these arguments"),
        (["--input", "1,x"], "'1,x' is not a shape"),
    ],
)
def test_options_that_cannot_be_read(cli: Cli, tiny: str, words: list[str], said: str) -> None:
    check_refusal(cli("inspect", tiny, *words), said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", "0"], "epochs"),
        (["--genotype", "both"], "genotype"),
        (["--operations", "sep3,magic"], "magic"),
        (["--crop", "0,8"], "is not a shape"),
        (["--skips", "s7"], "s7"),
        (["--device", "quantum"], "no device 'quantum'"),
        (["--preparation", "none.toml"], "none.toml"),
        (["--resume"], "no run to resume"),
    ],
)
def test_settings_that_cannot_be_used(
    cli: Cli, tiny: str, images: Path, out: Path, words: list[str], said: str
) -> None:
    check_refusal(cli("implant", tiny, "--data", images, "--out", out, *words), said)


def test_a_target_or_a_precision_that_does_not_exist(cli: Cli, tiny: str, out: Path) -> None:
    check_refusal(cli("export", tiny, "--out", out, "--target", "abacus"), "abacus")
    check_refusal(cli("export", tiny, "--out", out, "--precision", "fp7"), "fp7")
    assert not out.exists()


def test_a_run_that_is_not_finished(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    check_refusal(cli("export", tmp_path, "--out", tmp_path / "x"), "this run has no implant yet")


def test_a_run_that_does_not_know_its_host(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    (tmp_path / "implant.safetensors").touch()
    check_refusal(cli("export", tmp_path, "--out", tmp_path / "x"), "does not say which host it belongs to")


def test_a_run_knows_its_own_host(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "genotype.json").touch()
    done = cli("export", tmp_path, "--out", tmp_path / "x", "--checkpoint", "a.pth")
    check_refusal(done, "a RUN knows its own host")


def test_a_run_knows_its_own_preparation(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "genotype.json").touch()
    done = cli("export", tmp_path, "--out", tmp_path / "x", "--preparation", "a.toml")
    check_refusal(done, "a RUN knows how its images are prepared")


def test_a_preparation_of_an_export_that_does_not_exist(cli: Cli, tiny: str, out: Path) -> None:
    check_refusal(cli("export", tiny, "--out", out, "--preparation", "none.toml"), "none.toml")
    assert not out.exists()


def test_a_run_without_a_report(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text(f'{{"spec": "{TINY}:build"}}')
    (tmp_path / "implant.safetensors").touch()
    check_refusal(cli("export", tmp_path, "--out", tmp_path / "x"), "the run has no readable report.json")


def test_an_export_that_cannot_be_read(cli: Cli, images: Path, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_text("{}")
    check_refusal(cli("evaluate", tmp_path, "--data", images), "the export cannot be read")


def test_subjects_from_a_file_that_leaves_some_out(
    cli: Cli, tiny: str, images: Path, out: Path, tmp_path: Path
) -> None:
    table = tmp_path / "subjects.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["case", "subject"], ["nothing", "a"]])
    check_refusal(cli("implant", tiny, "--data", images, "--out", out, "--subjects", table), "subject")
