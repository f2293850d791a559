"""implant, export and evaluate, one after the other, on a network that is built in milliseconds."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from surgeon.cli import main
from surgeon.cli.export import latency_line
from surgeon.cli.served import read_recorded_data
from surgeon.data import Preparation
from surgeon.hosts import load

from .conftest import TINY, Cli

QUICK = [
    "--epochs",
    "2",
    "--retrain-epochs",
    "2",
    "--batch-size",
    "4",
    "--steps",
    "2",
    "--allow-worse",
    "--no-finalists",
]


@pytest.fixture(scope="module")
def run(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Implant once for all tests of this module."""
    folder = tmp_path_factory.mktemp("chain") / "RUN"
    words = [
        "implant",
        f"{TINY}:build",
        "--data",
        images,
        "--out",
        folder,
        *QUICK,
        "--operations",
        "sep3,max3,none",
    ]
    with pytest.raises(SystemExit) as leave:
        main([str(word) for word in words])
    assert not leave.value.code
    return folder


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    folder = run.parent / "served"
    with pytest.raises(SystemExit) as leave:
        main(["export", str(run), "--out", str(folder), "--target", "triton", "--name", "discs"])
    assert not leave.value.code
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_holds_what_is_promised(run: Path) -> None:
    report = read(run / "report.json")
    assert {"host", "data", "splits", "search", "scores", "gain", "cost", "verdict", "seed"} <= set(report)
    splits = [set(subjects) for subjects in report["splits"].values()]
    assert sum(map(len, splits)) == len(set().union(*splits)) == 6
    assert len((run / "history.jsonl").read_text().splitlines()) == 4
    for name in ("report.html", "genotype.json", "implant.safetensors", "host.json"):
        assert (run / name).stat().st_size > 0


def test_a_run_finds_its_host_from_any_folder(run: Path) -> None:
    assert Path(read(run / "host.json")["spec"].rpartition(":")[0]).is_absolute()


def test_the_operations_asked_for_are_the_only_ones_found(run: Path) -> None:
    cells = read(run / "genotype.json")["cells"].values()
    found = {edge["operation"] for cell in cells if cell for edge in cell["edges"]}
    assert found <= {"sep3", "max3", "none"}


def test_an_export_is_proved_on_the_images_of_the_run(run: Path, exported: Path) -> None:
    proof = read(exported / "export.json")
    assert [case for case in proof["parity"] if case["what"].startswith("sample")]
    assert all(case["relative"] < 1e-4 for case in proof["parity"])
    assert (exported / "triton" / "discs" / "1" / "model.onnx").is_file()
    assert "parity" in (run / "report.html").read_text(encoding="utf-8").lower()


def test_the_export_scores_as_the_run_does(cli: Cli, run: Path, exported: Path, images: Path) -> None:
    of_run = cli("evaluate", run, "--data", images, "--json")
    of_export = cli("evaluate", exported, "--data", images, "--json")
    assert (of_run.code, of_export.code) == (0, 0), of_run.err + of_export.err
    assert of_run.json["form"] == "run"
    assert of_export.json["form"] == "export"
    assert of_export.json["dice_mean"] == pytest.approx(of_run.json["dice_mean"], abs=1e-3)
    reported = read(run / "report.json")["scores"]["implanted"]["per_case"]
    scored = of_run.json["per_case"]
    assert {name: scored[name]["dice"] for name in reported} == {
        name: pytest.approx(row["dice"]) for name, row in reported.items()
    }


def test_a_host_is_scored_and_its_worst_cases_are_named(cli: Cli, tiny: str, images: Path) -> None:
    done = cli("evaluate", tiny, "--data", images)
    assert done.code == 0
    assert "mean" in done.out
    assert "worst cases: " in done.out


def test_a_host_is_exported_without_a_run(cli: Cli, tiny: str, images: Path, tmp_path: Path) -> None:
    done = cli("export", tiny, "--out", tmp_path / "x", "--data", images, "--json")
    assert done.code == 0, done.err
    assert done.json == read(tmp_path / "x" / "export.json")


def test_labels_from_raw_images_score_as_the_network_does(
    cli: Cli, tiny: str, images: Path, tmp_path: Path
) -> None:
    steps = ("--include", "argmax", "--licence", "CC0", "--no-second-opinion")
    done = cli("export", tiny, "--out", tmp_path / "x", "--data", images, "--json", *steps)
    assert done.code == 0, done.err
    assert done.json["outputs"][0]["type"] == "uint8"
    assert done.json["second_opinion"] is None
    of_host = cli("evaluate", tiny, "--data", images, "--json")
    of_export = cli("evaluate", tmp_path / "x", "--data", images, "--json")
    assert of_export.code == 0, of_export.err
    assert of_export.json["dice_mean"] == pytest.approx(of_host.json["dice_mean"], abs=1e-6)


def test_int8_is_calibrated_on_the_data_and_says_what_it_costs(
    cli: Cli, tiny: str, images: Path, tmp_path: Path
) -> None:
    refused = cli("export", tiny, "--out", tmp_path / "x", "--precision", "int8")
    assert refused.code == 2
    assert "int8 is calibrated on real inputs" in refused.err
    words = ("export", tiny, "--out", tmp_path / "x", "--precision", "int8", "--data", images)
    done = cli(*words, "--json")
    assert done.code == 0, done.err
    assert done.json == read(tmp_path / "x" / "export.json")
    dice = done.json["dice"]
    of_host = cli("evaluate", tiny, "--data", images, "--json")
    of_export = cli("evaluate", tmp_path / "x", "--data", images, "--json")
    assert dice["network"] == of_host.json["dice_mean"]
    assert dice["export"] == of_export.json["dice_mean"]
    assert dice["cost"] == pytest.approx(dice["network"] - dice["export"])


def test_a_preparation_given_to_an_export_goes_to_the_samples_and_into_the_file(
    cli: Cli, tiny: str, images: Path, tmp_path: Path
) -> None:
    # Values up to 40: a calibration on images between 0 and 1 would cut them off.
    (tmp_path / "p.toml").write_text('scale = "unit"\nstd = [0.025]\nmultiple = 4\n')
    words = ("--precision", "int8", "--data", images, "--preparation", tmp_path / "p.toml")
    done = cli("export", tiny, "--out", tmp_path / "x", *words, "--no-second-opinion", "--json")
    assert done.code == 0, done.err
    assert read_recorded_data(tmp_path / "x").preparation == Preparation(std=(0.025,), multiple=4)
    of_host = cli("evaluate", tiny, "--data", images, "--preparation", tmp_path / "p.toml", "--json")
    assert done.json["dice"]["network"] == of_host.json["dice_mean"]
    # The step between the 256 values of an input: its images reach beyond 20, not 1.
    constants = onnx.load(tmp_path / "x" / "model.onnx").graph.initializer
    steps = [onnx.numpy_helper.to_array(each).item() for each in constants if each.name == "input_scale"]
    assert len(steps) == 1
    assert 255 * steps[0] > 20


def test_a_person_sees_proof_and_next_command(cli: Cli, tiny: str, tmp_path: Path) -> None:
    done = cli("export", tiny, "--out", tmp_path / "x", "--sizes", "fixed", "--profile-passes")
    assert done.code == 0, done.err
    assert "argmax agreement" in done.out
    assert re.search(r"fold batchnorm +2 +\d+ → \d+ +[\d.]+ M → [\d.]+ M +[\d.]+ → [\d.]+", done.out)
    assert "median latency here: host " in done.out
    assert "surgeon evaluate" in done.out


def test_a_finished_run_is_not_overwritten(cli: Cli, tiny: str, images: Path, run: Path) -> None:
    for resume in ([], ["--resume"]):
        done = cli("implant", tiny, "--data", images, "--out", run, *QUICK, *resume)
        assert (done.code, done.out) == (2, "")


def test_an_implant_that_is_worse_is_shown_and_refused(
    cli: Cli, tiny: str, images: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from surgeon.errors import WorseError

    def refuse(*_: object, **__: object) -> None:
        raise WorseError("the implanted network is worse than its host", fix="--allow-worse keeps it")

    monkeypatch.setattr("surgeon.search.implant", refuse)
    done = cli("implant", tiny, "--data", images, "--out", run, "--json")
    assert done.code == 1
    assert done.json == read(run / "report.json")
    assert done.err.splitlines()[-2].startswith("refused: the implanted network is worse")


def test_an_implant_that_was_found_worse_is_exported_only_on_request(
    cli: Cli, run: Path, tmp_path: Path
) -> None:
    worse = tmp_path / "RUN"
    shutil.copytree(run, worse)
    report = read(worse / "report.json")
    report |= {"verdict": "worse", "config": report["config"] | {"allow_worse": False}}
    (worse / "report.json").write_text(json.dumps(report), encoding="utf-8")
    refused = cli("export", worse, "--out", tmp_path / "served")
    assert refused.code == 1
    assert "worse than its host" in refused.err
    assert not (tmp_path / "served").exists()
    accepted = cli("export", worse, "--out", tmp_path / "served", "--allow-worse", "--no-second-opinion")
    assert accepted.code == 0, accepted.err


def test_a_person_sees_scores_verdict_and_paths(cli: Cli, tiny: str, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "RUN"
    words = ["--skips", "s0", "--seed", "3", "--crop", "16,16", "--states", "2", "--merge", "replace"]
    done = cli("implant", tiny, "--data", images, "--out", out, *QUICK, *words, "--genotype", "per-skip")
    assert done.code == 0, done.err
    assert "verdict: " in done.out
    assert "implanted" in done.out
    assert f"surgeon export {out}" in done.out
    assert "searching: epoch 2 of 2" in done.err
    assert "training the cells: epoch 2 of 2" in done.err
    recorded = read(out / "report.json")["config"]
    asked = {"seed": 3, "states": 2, "merge": "replace", "genotype": "per-skip", "crop": [16, 16]}
    assert {name: recorded[name] for name in asked} == asked


def test_an_export_that_is_slower_is_called_so() -> None:
    latency = {
        "host": {"p50": 1.0},
        "export": {"p50": 2.0},
        "remark": "the export is slower than the host here",
    }
    assert latency_line({"latency": latency}) == (
        "median latency here: host 1.0 ms, export 2.0 ms; the export is slower than the host here"
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:FutureWarning")
def test_a_torchscript_file_goes_the_whole_way_with_splits_that_the_folders_say(
    cli: Cli, tiny: str, images: Path, tmp_path: Path
) -> None:
    torch.jit.save(torch.jit.script(load(tiny)), tmp_path / "network.ts")
    data = tmp_path / "data"
    for place, image in enumerate(sorted(images.glob("*/images/*.png"))):
        folder = data / ("train", "val", "test")[place % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / image.name)
        shutil.copy(image.parents[1] / "masks" / image.name, folder / f"{image.stem}_mask.png")
    run, served = tmp_path / "RUN", tmp_path / "served"
    done = cli("implant", tmp_path / "network.ts", "--data", data, "--out", run, *QUICK)
    assert done.code == 0, done.err
    assert "splits as the data declare them: 4 train, 4 validation, 4 test" in done.err
    assert cli("export", run, "--out", served).code == 0
    scores = [cli("evaluate", folder, "--data", data, "--json").json["dice_mean"] for folder in (run, served)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)


def test_what_a_forward_takes_beside_tensors_goes_through_the_chain(
    cli: Cli, images: Path, tmp_path: Path
) -> None:
    folder, flag = tmp_path / "RUN", ["--forward", "inference=true"]
    modal = f"{TINY}:build_modal"
    assert cli("evaluate", modal, *flag, "--data", images, "--json").code == 0
    words = [*QUICK, "--operations", "sep3,max3,none"]
    assert cli("implant", modal, *flag, "--data", images, "--out", folder, *words).code == 0
    assert read(folder / "host.json")["forward"] == {"inference": True}
    assert cli("export", folder, "--out", tmp_path / "served").code == 0
    implanted = cli("evaluate", folder, "--data", images, "--json")
    served = cli("evaluate", tmp_path / "served", "--data", images, "--json")
    assert served.json["dice_mean"] == pytest.approx(implanted.json["dice_mean"], abs=1e-4)
