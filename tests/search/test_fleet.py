"""Operations that several processes share: the same results, one voice, no hang."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from surgeon.search import implant
from surgeon.search.fleet import Fleet, open_fleet, together
from surgeon.search.norms import BatchNorm, synchronise
from torch import nn

from surgeon.data import Batches
from surgeon.errors import DataError, InputError
from surgeon.ranks import Ranks, speaking

from .crew import CONFIG
from .small import make_config, make_host, open_small, write_data

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def start(module, *words, processes=2):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, "-m", f"tests.search.{module}", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process, seconds=300):
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares", subjects=8)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "RUN"
    implant(make_host(), open_small(data), make_config(**CONFIG), out=out)
    return out


def assert_same_run(one, two):
    """Compare two runs up to rounding: they had the same batches in other shares."""
    assert (one / "genotype.json").read_text() == (two / "genotype.json").read_text()
    weights, others = (load_file(run / "implant.safetensors") for run in (one, two))
    for name, value in weights.items():
        assert torch.allclose(value, others[name], rtol=1e-3, atol=1e-4), name
    rows, other_rows = (
        [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()] for run in (one, two)
    )
    for row, other in zip(rows, other_rows, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-4)
        for cell, edges in row.get("alphas", {}).items():
            for edge, operations in edges.items():
                assert operations == pytest.approx(other["alphas"][cell][edge], abs=1e-4)
    report, other_report = (json.loads((run / "report.json").read_text()) for run in (one, two))
    for name, scores in report["scores"].items():
        assert scores["dice_mean"] == pytest.approx(other_report["scores"][name]["dice_mean"], abs=2e-3)


@pytest.mark.slow
def test_two_processes_see_and_learn_what_one_does_with_unequal_shares():
    code, out, err = ended(start("crew_parts"))
    assert code == 0, err
    assert "all checked" in out


@pytest.mark.slow
def test_a_run_that_one_of_two_processes_was_asked_to_stop_goes_on_with_one(data, alone, tmp_path):
    run = tmp_path / "RUN"
    code, _, err = ended(start("crew", data, run, "--stop", 1))
    assert code != 0
    assert err.count("stopped by the user") == 1
    assert "search, epoch 2 of 3, step 2 of 3" in err
    assert re.search(r"exitcode\s*: 130 ", err), err
    assert not (run / "report.json").exists()
    code, _, err = ended(start("crew", data, run, "--resume", processes=1))
    assert code == 0, err
    assert_same_run(alone, run)


@pytest.mark.slow
def test_a_run_that_was_stopped_alone_goes_on_with_two_and_two_do_the_same_every_time(data, alone, tmp_path):
    run, twice = tmp_path / "RUN", [tmp_path / "first", tmp_path / "second"]
    code, _, err = ended(start("crew", data, run, "--stop", 0, processes=1))
    assert code == 130, err
    for out, words in ((run, ("--resume",)), (twice[0], ()), (twice[1], ())):
        code, _, err = ended(start("crew", data, out, *words))
        assert code == 0, err
    assert_same_run(alone, run)
    assert_same_run(alone, twice[0])
    for name in ("implant.safetensors", "genotype.json"):
        assert (twice[0] / name).read_bytes() == (twice[1] / name).read_bytes()
    assert sorted(path.name for path in run.iterdir()) == sorted(path.name for path in alone.iterdir())


@pytest.mark.slow
def test_an_interrupt_of_the_launcher_leaves_a_run_that_goes_on(data, tmp_path):
    run = tmp_path / "RUN"
    process = start("crew", data, run, "--pause")
    assert "pausing" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code != 0
    assert err.count("stopped by the user") == 1, err
    code, _, err = ended(start("crew", data, run, "--resume"))
    assert code == 0, err


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_with_one_message(data, tmp_path):
    code, _, err = ended(start("crew", data, tmp_path / "RUN", "--fail", 1), seconds=90)
    assert code != 0
    assert err.count("error: ") == 1, err
    assert "the disk of this machine is gone" in err
    code, _, err = ended(start("crew", tmp_path / "no data", tmp_path / "RUN"), seconds=90)
    assert code != 0
    assert err.count("error: ") == 1, err


def test_the_shares_of_a_batch_are_the_batch(data):
    cohort = open_small(data)
    for crop, augment in (((8, 8), True), (None, False)):
        whole = Batches(cohort, crop, 5, augment=augment, seed=2)
        parts = [whole.share(part, 3) for part in range(3)]
        for epoch, step in ((0, 0), (1, 2)):
            expected, drawn = whole.batch(epoch, step), [part.batch(epoch, step) for part in parts]
            assert [len(one.image) for one in drawn] == [1, 2, 2]
            assert torch.equal(torch.cat([one.image for one in drawn]), expected.image)
            assert torch.equal(torch.cat([one.label for one in drawn]), expected.label)


def test_images_of_several_sizes_are_cut_to_the_smallest_of_the_whole_batch(tmp_path):
    import numpy as np
    from PIL import Image

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number, side in enumerate((12, 8, 16, 20)):
            Image.fromarray(np.eye(side, dtype=np.uint8)).save(tmp_path / folder / f"p{number}_0.png")
    whole = Batches(open_small(tmp_path), None, 4, augment=False)
    shapes = {part: whole.share(part, 2).batch(0, 0).image.shape[2:] for part in range(2)}
    assert set(shapes.values()) == {(8, 8)}


def test_a_batch_that_is_too_small_to_share_is_refused(data):
    with pytest.raises(DataError, match="a batch of 2 cannot be shared by 3 processes"):
        Batches(open_small(data), None, 2).share(0, 3)


def test_norms_learn_of_the_other_processes_and_torchs_own_is_taken_where_there_are_none():
    own = BatchNorm(3)
    two, alone = Fleet(Ranks(0, 2, 2)), Fleet()
    synchronise(nn.Sequential(own), two)
    assert own.fleet is two
    synchronise(nn.Sequential(own, nn.BatchNorm2d(3)), alone)
    assert own.fleet is alone
    with pytest.raises(InputError, match="BatchNorm2d would see the images of its own process alone"):
        synchronise(nn.Sequential(nn.BatchNorm2d(3)), two)


@pytest.mark.parametrize(
    ("ranks", "device", "text"),
    [
        ((0, 12, 8), "cpu", "8 processes on this machine do not divide 12 in all"),
        ((0, 2, 2), "cuda:1", "2 processes cannot share cuda:1"),
        ((0, 999, 999), "cuda", "999 processes for .* CUDA devices"),
    ],
)
def test_processes_that_devices_do_not_suit_are_refused(monkeypatch, ranks, device, text):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    for name, value in zip(("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"), ranks, strict=True):
        monkeypatch.setenv(name, str(value))
    with pytest.raises(InputError, match=text):
        open_fleet(torch.device(device))


def test_a_process_that_no_launcher_started_is_alone_and_speaks(monkeypatch):
    monkeypatch.setenv("RANK", "3")  # some cluster's own
    assert Ranks.of_environment() == Ranks(0, 1, 1)
    assert open_fleet(CPU) == Fleet()
    with speaking(Ranks()) as speaks:
        assert speaks


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_watches_the_others_any_more_when_the_work_is_over(monkeypatch, fails):
    """A thread in torch's C++ at the end of Python would abort the process after all was done."""

    class Slow:
        failed = 0

        def add(self, name, more):
            self.failed += more
            time.sleep(0.2)
            return 0

    store = Slow()
    monkeypatch.setattr("surgeon.search.fleet.connect", lambda: store)
    before = threading.active_count()
    with pytest.raises(DataError) if fails else contextlib.nullcontext(), together(Fleet(Ranks(0, 2, 2))):
        assert threading.active_count() == before + 1
        time.sleep(1.1)  # the thread has begun to ask
        if fails:
            raise DataError("bad")
    assert threading.active_count() == before
    assert store.failed == fails
