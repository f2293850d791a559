"""What the benchmark of exports keeps, counts and says."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks import export_gpu, export_speed, record
from benchmarks.export_int8 import blobs, dice, int8_line
from benchmarks.export_rivals import sizes_held
from benchmarks.export_speed import main
from benchmarks.export_timing import ADDED, ratios, timed
from tests.export.networks import small_unet

FILES = {"host plain": [10.0] * 5, "plain": [20.0] * 5, "ours": [14.0] * 5}
TORCH = {"ours": [15.0] * 3, "eager": [60.0] * 3}
ROW = {
    "threads": 2,
    "milliseconds": {"ours": 14.0, "plain": 20.0},
    "processor": {"ours": 13.0, "plain": 19.0},
    "beside the host": "ours",
    "other sizes": 4,
    "held": {"ours": 4, "plain": 1},
    "ratios": ratios(FILES, TORCH),
    "ratios by processor": ratios(FILES, TORCH),
    "flops": {"before": 2_000_000, "after": 1_900_000},
    "counts": {"ours": {"nodes": 3, "initialisers": 4}},
    "parity": 11,
    "worst": 1e-6,
    "seconds": 1,
}
INT8 = {
    "milliseconds": {"host": 3.0, "export": 2.0, "fp32": 1.5},
    "dice": {"network": 0.9, "int8": 0.88},
    "seconds": 1,
}


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Keep parts in a folder of the test; return what was measured, in order."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    seen = []

    def isolated(name, measure, *arguments):
        seen.append(name)
        return {"name": name, **(INT8 if name.endswith("int8") else ROW)}

    monkeypatch.setattr(export_speed, "_isolated", isolated)
    return seen


def test_each_host_and_its_int8_are_parts_that_are_measured_once(measured, capsys):
    assert main(["--parts", "1", "unet", "dynunet"]) == 1  # a bar is missed
    assert main(["--parts", "2", "unet", "dynunet"]) == 1
    assert measured == ["unet", "unet int8", "dynunet"]
    capsys.readouterr()
    main(["--parts", "0", "unet", "dynunet"])
    assert measured == ["unet", "unet int8", "dynunet"]
    said = capsys.readouterr().out
    assert "parity on 11 cases" in said
    assert "right at other sizes, of 4: ours 4, plain 1" in said
    assert "held against the host's plain export: ours" in said
    assert "unet int8    ms: host 3.0, export 2.0, fp32 1.5; Dice: network 0.9000, int8 0.8800" in said
    assert "holds   hosts exported with parity: 2 (bar 2)" in said


def test_int8_is_left_out_or_measured_alone(measured):
    main(["--int8", "off", "unet"])
    main(["--int8", "only", "dynunet"])
    assert measured == ["unet", "dynunet int8"]


def test_what_cells_add_is_over_what_they_add_in_the_plain_export():
    assert ratios(FILES, TORCH) == {
        ADDED: 0.4,
        "over host's plain export": 1.4,
        "over best other": 0.7,
        "over eager": 0.25,
    }
    assert ADDED not in ratios({**FILES, "plain": [9.0] * 5}, TORCH)
    assert ratios(FILES, {**TORCH, "torch.compile": [10.0] * 3})["over best other"] == 1.5


def test_an_export_of_fixed_sizes_is_held_against_the_host_alone():
    fixed = ratios({**FILES, "fixed": [11.0] * 5}, TORCH, "fixed")
    assert fixed == {**ratios(FILES, TORCH), "over host's plain export": 1.1}


def test_the_sizes_are_counted_at_which_an_export_is_right():
    def export(x):
        if x.shape[2] == 12:
            raise RuntimeError("another size")
        return x.relu() if x.shape[2] == 8 else x

    assert sizes_held(export, torch.nn.ReLU(), [(1, 1, 8, 8), (2, 1, 8, 8), (1, 1, 12, 8), (1, 1, 9, 8)]) == 2


def test_a_host_whose_plain_export_holds_one_size_is_measured_at_that_size(monkeypatch):
    def tiny():
        torch.manual_seed(0)
        return small_unet(cell=False), torch.randn(1, 1, 16, 16)

    def plain_at_one_size(network, x, path):
        torch.onnx.export(network, (x,), path, dynamo=True, verbose=False)
        return path

    monkeypatch.setattr(export_speed, "HOSTS", {"tiny": tiny})
    monkeypatch.setattr(export_speed, "implanted", lambda host, x: host)
    monkeypatch.setattr(export_speed, "RUNS", 1)
    free = export_speed.operated("tiny", compiled=False, threads=1)
    assert free["beside the host"] == "ours"
    assert free["held"]["ours"] == free["held"]["host plain"] == free["other sizes"] > 0
    monkeypatch.setattr(export_speed, "plain", plain_at_one_size)
    fixed = export_speed.operated("tiny", compiled=False, threads=1)
    assert fixed["beside the host"] == export_speed.FIXED
    assert fixed["held"]["host plain"] == 0
    assert export_speed.FIXED in fixed["milliseconds"]


def test_waiting_is_not_the_processor_s_time():
    times = timed({"sleep": lambda: time.sleep(0.02), "nothing": int}, 9, 0.0)
    assert len(times.wall["sleep"]) == len(times.processor["nothing"]) == 5  # at least
    assert min(times.wall["sleep"]) > 15 > max(times.processor["sleep"])


def test_a_refusal_of_int8_is_said():
    assert int8_line({"name": "unet int8", "refused": "rounding"}) == "unet int8    refused: rounding"


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 16, 16)])
def test_balls_are_brighter_than_the_noise_around_them(shape):
    images, labels = blobs(4, shape)
    assert images.shape == (4, *shape)
    assert labels.shape == (4, *shape[1:])
    inside = images.mean(1)[labels == 1].mean()
    assert inside - images.mean(1)[labels == 0].mean() > 0.8


def test_dice_is_the_mean_over_images():
    label = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]]])
    right = torch.stack([1.0 - label[:, None], 1.0 * label[:, None]], 2)[:, 0]
    outputs = [right[0][None], torch.stack([torch.zeros(1, 4), torch.ones(1, 4)])[None]]
    assert dice(outputs, label) == pytest.approx((1 + 2 / 5) / 2)


GPU = {
    "shape": [8, 3, 256, 256],
    "gpu": "a GPU",
    "milliseconds": {"eager fp32": 9.0, "ours": 2.0, "plain fp16": 3.0, "eager fp16": 5.0},
    "ratios": {"eager fp32": 0.222, "best other fp16": 0.667},
    "best other": "plain fp16",
    "differences": {"ours": 1e-3, "plain fp16": 2e-3},
    "not recorded": {"ours": "", "plain fp16": "a node runs on the CPU"},
    "failures": {"torch.compile fp16": "no compiler"},
    "bounds": {"arithmetic": 0.1, "memory": 0.4},
    "seconds": 1,
}


def test_a_gpu_has_parts_and_bars_of_its_own(measured, capsys, monkeypatch):
    monkeypatch.setattr(export_speed, "_isolated", lambda name, *_: {"name": name, **GPU})
    assert main(["--device", "cuda", "unet"]) == 0
    said = capsys.readouterr().out
    assert "unet cuda (8, 3, 256, 256) on a GPU, ms: eager fp32 9.00, ours 2.00" in said
    assert "bounds: arithmetic 0.100 ms, memory 0.400 ms; 5.0 times the larger" in said
    assert "plain fp16 is not recorded: a node runs on the CPU" in said
    assert "torch.compile fp16 fails: no compiler" in said
    assert "ours is not" not in said
    assert "holds   unet cuda, fp16 over best other fp16: 0.667 (bar 0.9)" in said
    assert "no GPU" not in said


def test_what_a_gpu_is_asked_runs_on_a_cpu_too_and_is_right_in_float16(monkeypatch):
    def tiny():
        torch.manual_seed(0)
        return small_unet(cell=False), torch.randn(1, 1, 16, 16)

    monkeypatch.setattr(export_gpu, "HOSTS", {"tiny": tiny})
    monkeypatch.setattr(export_gpu, "implanted", lambda host, x: host)
    monkeypatch.setattr(export_gpu, "RUNS", 1)
    monkeypatch.setattr(torch, "compile", lambda network: 1 / 0)
    row = export_gpu.measured_on_gpu("tiny", "cpu")
    assert {"ours", "eager fp32", "eager fp16", "plain fp16"} <= set(row["milliseconds"])
    assert max(row["differences"].values()) < 2e-2
    assert row["failures"]["torch.compile fp16"].startswith("ZeroDivisionError")
    assert row["bounds"]["flops"] > 0 < row["bounds"]["bytes"]
