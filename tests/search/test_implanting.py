from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from surgeon.search import Genotype, implant, load_implant, with_operations
from surgeon.search import implanting as module
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import find_device, plan_operation
from surgeon.search.training.stages import check_untouched, host_state
from torch import nn

from surgeon.checkpoints import fingerprint
from surgeon.errors import (
    DataError,
    GateError,
    InputError,
    RunError,
    SpliceError,
    Stopped,
    TraceError,
    WorseError,
)
from tests.core.data.builders import decathlon_folder

from .small import SIDE, SmallUNet, make_config, make_host, open_small, write_data

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """An operation that was done once, with the host it was done on."""
    out = tmp_path_factory.mktemp("run") / "RUN"
    host, events = make_host(), []
    config = make_config(
        epochs=3,
        retrain_epochs=6,
        steps=8,
        retrain_rate=0.02,
        host_spec={"spec": "small:make_host"},
        baselines=("adapter",),
    )
    return host, implant(host, open_small(data), config, out=out, progress=events.append), out, events


def test_a_run_holds_what_is_pinned(finished):
    _, result, out, _ = finished
    report = json.loads((out / "report.json").read_text())
    assert report == result.report
    pinned = {"host", "data", "splits", "search", "scores", "gain", "cost", "verdict", "seed", "versions"}
    assert pinned <= set(report)
    assert set(report["scores"]) == {"host", "implanted", "adapter"}
    assert {"dice_mean", "dice_per_class", "per_case"} <= set(report["scores"]["host"])
    assert {"dice_mean", "low", "high", "p_value"} <= set(report["gain"])
    assert {"seconds", "epochs", "stopped_because"} <= set(report["search"])
    bill = report["search"]
    images = 8 * 2 * bill["epochs"]  # 8 steps of 2 images an epoch
    assert bill["search_images_per_second"] * bill["seconds"] == pytest.approx(images)
    assert bill["peak_memory_mib"] > 10
    parts = bill["spent_seconds"]
    assert set(parts) == {"data", "host", "cells", "optimiser", "measuring"}
    rows = [json.loads(line)["seconds"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert 0.7 * sum(rows) < sum(parts.values()) < 1.01 * sum(rows)
    names = {path.name for path in out.iterdir()}
    assert {"report.html", "genotype.json", "implant.safetensors", "history.jsonl", "checkpoints"} <= names
    assert json.loads((out / "host.json").read_text()) == {"spec": "small:make_host"}


def test_the_history_has_a_line_an_epoch_with_the_weights_of_every_edge(finished):
    _, _, out, events = finished
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [row["phase"] for row in rows] == ["search"] * 3 + ["retrain"] * 6 + ["adapter"] * 6
    assert set(rows[0]["alphas"]["shared"]) == {"input0->state0", "input0->state1", "state0->state1"}
    assert sum(rows[2]["alphas"]["shared"]["input0->state0"].values()) == pytest.approx(1)
    assert rows[2]["betas"]["shared"]["input0->state0"] == 1.0
    assert rows[2]["alphas"] != rows[0]["alphas"]
    assert [event.row for event in events if event.row] == rows


def test_no_subject_is_in_two_splits_and_scores_are_of_the_test_subjects_alone(finished):
    report = finished[1].report
    splits = [set(report["splits"][name]) for name in ("train", "validation", "test")]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 6
    for scores in report["scores"].values():
        assert {case["subject"] for case in scores["per_case"].values()} == splits[2]


def test_the_cells_learn_what_the_host_does_not_know(finished):
    scores = finished[1].report["scores"]
    assert scores["implanted"]["dice_mean"] > scores["host"]["dice_mean"] + 0.1


def test_the_host_is_as_it_was(finished):
    host = finished[0]
    assert fingerprint(host) == fingerprint(make_host()) == finished[1].report["host"]["fingerprint"]
    assert all(parameter.requires_grad for parameter in host.parameters())


def test_costs_are_counted(finished):
    _, result, _, _ = finished
    cost = result.report["cost"]
    assert cost["parameters"]["host"] == sum(p.numel() for p in make_host().parameters())
    added = sum(p.numel() for p in result.network.implants.parameters())
    assert cost["parameters"]["implanted"] == cost["parameters"]["host"] + added
    # The convolutions of the host, worked out by hand: 2 * out pixels * in channels * kernel * out channels.
    full, half, low = SIDE**2, SIDE**2 // 4, SIDE**2 // 16
    expected = 2 * 9 * (full * 1 * 6 + half * 6 * 8 + low * 8 * 8 + half * 8 * 8 + full * 14 * 1)
    assert cost["flops"]["host"] == expected
    assert cost["latency"]["host"]["p50"] > 0


def test_samples_are_plain_arrays_of_test_cases(finished):
    _, result, out, _ = finished
    with np.load(out / "samples.npz", allow_pickle=False) as samples:
        ids = samples["case_ids"].tolist()
        assert len(ids) == 2
        assert set(ids) <= set(result.report["scores"]["host"]["per_case"])
        image = torch.from_numpy(samples["image_1"])[None]
        with torch.no_grad():
            seen = (result.network(image)[0, 0] > 0).numpy()
        assert np.array_equal(samples["implanted_1"], seen)
        dice = result.report["scores"]["host"]["per_case"][ids[0]]["dice"]["foreground"]
        assert samples["dice_host"][0] == pytest.approx(dice)


@pytest.mark.parametrize("given", ["file", "folder"])
def test_an_implant_loads_into_its_host_again_without_example_inputs(finished, given):
    host, result, out, _ = finished
    loaded = load_implant(host, out / "implant.safetensors" if given == "file" else out)
    x = torch.rand(3, 1, 2 * SIDE, SIDE)
    assert not loaded.training
    assert torch.equal(loaded(x), result.network(x))


def test_an_implant_refuses_another_host(finished):
    other = make_host()
    with torch.no_grad():
        other.leave.bias += 1e-6
    with pytest.raises(RunError, match="the implant was made for another host: fingerprint"):
        load_implant(other, finished[2] / "implant.safetensors")


def test_a_missing_implant_is_an_error(tmp_path):
    with pytest.raises(RunError, match="there is no implant"):
        load_implant(make_host(), tmp_path / "implant.safetensors")


def test_a_file_that_is_no_implant_is_an_error(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(RunError, match="the implant cannot be read"):
        load_implant(make_host(), tmp_path / "broken.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="not an implant of version 1"):
        load_implant(make_host(), tmp_path / "other.safetensors")


def test_the_genotype_file_reads_back(finished):
    _, result, out, _ = finished
    assert Genotype.from_json((out / "genotype.json").read_text()) == result.genotype


def test_a_finished_run_cannot_be_resumed(finished, data):
    with pytest.raises(RunError, match="the run is finished, and its test set may be scored only once"):
        implant(finished[0], open_small(data), make_config(), out=finished[2], resume=True)


def test_a_folder_that_holds_a_run_is_not_overwritten(finished, data):
    with pytest.raises(RunError, match="the folder already holds a run"):
        implant(finished[0], open_small(data), make_config(), out=finished[2])


def stop_at(phase, epoch, step):
    """Stop as a user does: a signal that arrives in the middle of the work."""

    def callback(event):
        if (event.phase, event.epoch, event.step) == (phase, epoch, step):
            signal.raise_signal(signal.SIGINT)

    return callback


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "genotype": "per-skip",
            "cell": "reference",
            "rotate": True,
            "inputs": "both",
            "weight_step": "sgd",
            "retrain_optimizer": "sgd",
            "architecture_step": "gaea",
        },
    ],
    ids=["batched", "reference"],
)
@pytest.mark.parametrize("place", [("search", 1, 2), ("retrain", 0, 1)])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(data, tmp_path, place, changes):
    cohort, config = open_small(data), make_config(**changes)
    whole = implant(make_host(), cohort, config)
    with pytest.raises(Stopped, match="stopped by the user"):
        implant(make_host(), cohort, config, out=tmp_path, progress=stop_at(*place))
    torch.rand(7)  # the caller's own random numbers play no part
    resumed = implant(make_host(), cohort, config, out=tmp_path, resume=True)
    assert resumed.genotype == whole.genotype
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    assert resumed.report["scores"] == whole.report["scores"]


def operate_in_a_process(data, run, *words):
    command = [sys.executable, "-m", "tests.search.small", str(data), str(run), *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_ctrl_c_in_a_process_leaves_a_run_that_resumes_to_the_same_genotype(data, tmp_path):
    whole, stopped = (
        operate_in_a_process(data, tmp_path / "whole"),
        operate_in_a_process(data, tmp_path / "RUN"),
    )
    for line in stopped.stdout:
        if line.startswith("search 2 1"):
            stopped.send_signal(signal.SIGINT)
            break
    _, error = stopped.communicate(timeout=120)
    assert stopped.returncode == 130, error
    assert "stopped by the user" in error
    assert not (tmp_path / "RUN" / "report.json").exists()
    _, error = whole.communicate(timeout=120)
    assert whole.returncode == 0, error
    _, error = operate_in_a_process(data, tmp_path / "RUN", "--resume").communicate(timeout=120)
    for name in ("genotype.json", "implant.safetensors"):
        assert (tmp_path / "RUN" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), error


def test_a_resumed_run_must_be_the_same_run(data, tmp_path):
    cohort, config = open_small(data), make_config()
    with pytest.raises(Stopped):
        implant(make_host(), cohort, config, out=tmp_path, progress=stop_at("search", 0, 1))
    with pytest.raises(RunError, match="the run in this folder is of other settings: batch_size, seed"):
        implant(make_host(), cohort, make_config(seed=1, batch_size=3), out=tmp_path, resume=True)
    other = make_host()
    nn.init.zeros_(other.leave.bias)
    with pytest.raises(RunError, match="is of another host"):
        implant(other, cohort, config, out=tmp_path, resume=True)
    fewer = dataclasses.replace(cohort, cases=cohort.cases[:-1])
    with pytest.raises(RunError, match="is of other data"):
        implant(make_host(), fewer, config, out=tmp_path, resume=True)
    (tmp_path / "checkpoints" / "search.pt").write_bytes(b"half")
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        implant(make_host(), cohort, config, out=tmp_path, resume=True)
    (tmp_path / "checkpoints" / "run.json").write_text("{")
    with pytest.raises(RunError, match="the run cannot be read"):
        implant(make_host(), cohort, config, out=tmp_path, resume=True)


def test_there_must_be_a_run_to_resume(data, tmp_path):
    with pytest.raises(RunError, match="there is no run to resume"):
        implant(make_host(), open_small(data), make_config(), out=tmp_path, resume=True)
    with pytest.raises(InputError, match="there is nothing to resume without a RUN folder"):
        implant(make_host(), open_small(data), make_config(), resume=True)
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="not a folder"):
        implant(make_host(), open_small(data), make_config(), out=tmp_path / "file")


def worse(compare):
    def patched(*args):
        gain = {"dice_mean": -0.02, "low": -0.03, "high": -0.01, "p_value": 0.01}
        return dataclasses.replace(compare(*args), gain=gain)

    return patched


def test_an_implant_that_is_worse_is_refused_after_everything_is_written(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "compare_networks", worse(module.compare_networks))
    cohort = open_small(data)
    with pytest.raises(
        WorseError, match=r"worse than its host: Dice -0.0200, 95 % interval -0.0300 to -0.0100"
    ):
        implant(make_host(), cohort, make_config(allow_worse=False), out=tmp_path / "RUN")
    assert json.loads((tmp_path / "RUN" / "report.json").read_text())["verdict"] == "worse"
    assert (tmp_path / "RUN" / "report.html").exists()
    assert implant(make_host(), cohort, make_config()).report["verdict"] == "worse"


def test_without_gain_on_validation_the_residual_implant_is_the_host_to_the_bit(data):
    """With a rate next to nothing no prediction changes, so the state before training stays the best."""
    host = make_host()
    config = make_config(retrain_rate=1e-12, epochs=1, crosswise_below=0)
    result = implant(host, open_small(data), config)
    x = torch.rand(2, 1, SIDE, SIDE)
    assert torch.equal(result.network(x), host(x))
    assert result.report["search"]["best_epoch"] == 0
    assert result.report["verdict"] == "unchanged"
    assert result.report["gain"]["dice_mean"] == 0


class Silent(SmallUNet):
    """Its `train` returns nothing, and so `eval()` of it is nothing."""

    def train(self, mode=True):
        super().train(mode)


def test_the_data_may_be_given_as_a_folder_and_the_host_may_return_nothing_from_train(data):
    host = Silent()
    host.train(False)
    result = implant(host, data, make_config(epochs=1, retrain_epochs=1))
    assert result.run is None
    assert not result.network.training


def test_a_users_own_operation_is_searched_and_loaded(data, tmp_path):
    table = with_operations({"tanh": lambda channels, spatial_dims, affine: nn.Tanh()})
    config = make_config(operations=("none", "tanh"), epochs=1, retrain_epochs=1)
    result = implant(make_host(), open_small(data), config, out=tmp_path, operations=table)
    assert {edge.operation for edge in result.genotype.cell("s0").edges} == {"tanh"}
    x = torch.rand(1, 1, SIDE, SIDE)
    assert torch.equal(load_implant(make_host(), tmp_path, operations=table)(x), result.network(x))
    with pytest.raises(InputError, match="unknown operation 'tanh'"):
        load_implant(make_host(), tmp_path)


def test_named_skips_alone_are_implanted(data):
    result = implant(make_host(), open_small(data), make_config(skips=("s1",), merge="replace"))
    assert list(result.network.implants.keys()) == ["s1"]


def plan(host, data, **changes):
    return plan_operation(host, open_small(data), make_config(**changes), OPERATIONS)


@pytest.mark.parametrize("inputs", [None, torch.rand(1, 1, 16, 16)])
def test_a_network_for_images_takes_a_folder_of_volumes_as_slices(tmp_path, inputs):
    folder = decathlon_folder(tmp_path, count=6)
    planned = plan_operation(make_host(), folder, make_config(), OPERATIONS, inputs)
    assert planned.cohort.spatial_dims == 2
    assert len(planned.cohort.subjects) == 6


def test_an_unknown_skip_is_refused(data):
    with pytest.raises(InputError, match="there is no skip 's9'") as caught:
        plan(make_host(), data, skips=("s0", "s9"))
    assert caught.value.fix == "the skips are s0, s1"


def test_a_host_without_skips_is_refused(data):
    with pytest.raises(SpliceError, match="the host has no skip to implant"):
        plan(nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)).eval(), data)


def test_a_skip_that_cannot_be_implanted_is_refused_with_the_reason(data):
    from surgeon.search.assembly import choose_skips

    anatomy = plan(make_host(), data).anatomy
    closed = dataclasses.replace(anatomy.skips[0], implantable=False, reason="it carries pooling indices")
    changed = dataclasses.replace(anatomy, skips=(closed, *anatomy.skips[1:]))
    with pytest.raises(SpliceError, match="skip s0 cannot be implanted: it carries pooling indices"):
        choose_skips(changed, make_config(skips=("s0",)))
    assert [skip.id for skip in choose_skips(changed, make_config())] == ["s1"]


def test_an_unknown_operation_is_refused_before_anything_is_trained(data):
    with pytest.raises(InputError, match="unknown operation 'warp'"):
        plan(make_host(), data, operations=("warp", "sep3"))


def test_images_that_the_host_cannot_take_are_refused_before_anything_is_trained(data):
    host = make_host()
    host.enter = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU())
    with pytest.raises(DataError, match="takes images of 3 channels, the data have 1"):
        plan(host, data)


def test_outputs_that_do_not_match_the_classes_are_refused(data):
    with pytest.raises(DataError, match="3 output channels"):
        plan(make_host(out=3), data)


def test_more_than_one_input_is_refused(data):
    two = (torch.rand(1, 1, SIDE, SIDE), torch.rand(1))
    with pytest.raises(InputError, match="the host takes 2 inputs"):
        plan_operation(make_host(), open_small(data), make_config(), OPERATIONS, two)
    with pytest.raises(InputError, match="keyword inputs cannot be trained with"):
        implant(make_host(), open_small(data), make_config(), kwargs={"time": 1})


@pytest.mark.parametrize("name", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match=f"there is no device '{name}'"):
        find_device(name)


def test_a_graph_that_holds_for_one_size_is_refused(data):
    class Fixed(SmallUNet):
        def forward(self, x):
            return super().forward(x.reshape(1, 1, SIDE, SIDE))

    fixed = torch.export.export(Fixed().eval(), (torch.rand(1, 1, SIDE, SIDE),)).module(check_guards=False)
    with pytest.raises(TraceError, match="the graph of the host holds for one batch size only"):
        plan(fixed, data)


def test_a_host_that_writes_to_its_own_state_is_refused_before_anything_is_trained(data):
    class Counting(SmallUNet):
        def __init__(self):
            super().__init__()
            self.register_buffer("images", torch.zeros(()))

        def forward(self, x):
            self.images.add_(1)
            return super().forward(x)

    with pytest.raises(GateError, match="writes to its own state in evaluation: images"):
        plan(Counting().eval(), data)


def test_a_host_that_changed_is_noticed(data):
    network = plan(make_host(), data).splice({"s0": nn.Identity()})
    before = host_state(network)
    check_untouched(before, network)
    with torch.no_grad():
        network.get_parameter("leave.bias").add_(1e-7)
    with pytest.raises(GateError, match=r"the frozen host changed: leave.bias"):
        check_untouched(before, network)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(data):
    first, second, third = (implant(make_host(), open_small(data), make_config(seed=s)) for s in (4, 4, 5))
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert first.report["splits"] != third.report["splits"]


def test_an_implant_on_another_skip_than_it_was_trained_on_is_refused(finished, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(finished[2] / "implant.safetensors", framework="pt") as content:
        metadata = content.metadata()
    places = json.loads(metadata["places"])
    save_file(
        load_file(finished[2] / "implant.safetensors"),
        tmp_path / "moved.safetensors",
        {**metadata, "places": json.dumps({**places, "s1": "cat in elsewhere, 8 channels"})},
    )
    with pytest.raises(
        RunError, match="skip s1 is 'add in the root, 8 channels' here, and was 'cat in elsewhere"
    ):
        load_implant(finished[0], tmp_path / "moved.safetensors")


def test_a_host_module_of_two_names_is_left_out_under_both(data):
    network = plan(make_host(), data).splice({"s0": nn.Identity()})
    network.again = network.get_submodule("leave")
    state = host_state(network, without=("leave.weight",))
    assert not {"leave.weight", "again.weight"} & set(state)
    assert {"leave.bias", "again.bias", "enter.0.weight"} <= set(state)
