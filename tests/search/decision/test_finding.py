from __future__ import annotations

import json
import signal

import pytest
import torch
from surgeon.search import implant, load_implant
from surgeon.search.decision import timings

from surgeon.errors import Stopped
from tests.search.small import SIDE, make_config, make_host, open_small, write_data

SETTINGS = {
    "finalists": True,
    "epochs": 1,
    "retrain_epochs": 6,
    "steps": 4,
    "retrain_rate": 0.02,
    "random_cells": 1,
    "crosswise_below": 0,
    "operations": ("none", "identity", "max3", "pointwise"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares", subjects=6)


@pytest.fixture(scope="module")
def found(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "RUN"
    return implant(make_host(), open_small(data), make_config(**SETTINGS), out=out), out


def test_the_short_list_holds_plain_and_random_and_searched_entrants(found):
    result, _ = found
    rows = result.report["finalists"]["rows"]
    names = [row["name"] for row in rows]
    assert {*names} >= {"affine", "adapter", "sep3", "searched"}
    assert sum(name.startswith("random") for name in names) == 1
    assert result.report["finalists"]["recommended"] in {row["name"] for row in rows}
    assert all(row["validation_dice"] is not None for row in rows)


def test_a_search_that_ends_at_a_fixed_cell_is_credited_with_it(data):
    settings = {**SETTINGS, "operations": ("none", "sep3"), "retrain_epochs": 2, "least_gain": 0.0}
    contest = implant(make_host(), open_small(data), make_config(**settings)).report["finalists"]
    assert contest["same"] == {"searched": "sep3", "perturbed": "sep3"}
    assert [row["name"] for row in contest["rows"]].count("sep3") == 1


def test_only_the_recommended_one_is_scored_on_the_test_subjects(found):
    result, out = found
    assert set(result.report["scores"]) == {"host", "implanted"}
    history = [json.loads(line)["phase"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert history.index("try-adapter-1") < history.index("search") < history.index("retrain")
    assert "try-sep3-2" in history


def test_what_is_chosen_is_trained_with_the_best_of_three_rates(found):
    result, out = found
    finalists = result.report["finalists"]
    history = [json.loads(line)["phase"] for line in (out / "history.jsonl").read_text().splitlines()]
    plain = {"affine", "adapter", "sep3"}  # theirs was found in the first round
    word = "try" if finalists["trained"] in plain else "rate"
    name = f"{word}-{finalists['trained']}" + ("-1" if word == "try" else "")
    assert {f"{name}{rate}" for rate in ("", "-slower", "-faster")} <= set(history)
    chosen = next(row for row in finalists["rows"] if row["name"] == finalists["trained"])
    assert result.report["search"]["retrain_rate"] == chosen["rate"]
    assert any(chosen["rate"] == pytest.approx(share * 0.02) for share in (0.3, 1.0, 3.0))


@pytest.mark.slow
def test_a_run_with_a_short_list_resumes_to_the_same_bits(data, found, tmp_path):
    def stop(event):
        if (event.phase, event.epoch, event.step) == ("try-searched-1", 2, 3):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        implant(make_host(), open_small(data), make_config(**SETTINGS), out=tmp_path, progress=stop)
    again = implant(make_host(), open_small(data), make_config(**SETTINGS), out=tmp_path, resume=True)
    assert again.genotype == found[0].genotype
    state = found[0].network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.network.state_dict().items())


def test_where_nothing_gains_the_host_itself_is_recommended_without_a_search(data, tmp_path):
    host = make_host()
    config = make_config(**{**SETTINGS, "retrain_rate": 1e-12})
    result = implant(host, open_small(data), config, out=tmp_path)
    assert dict(result.network.implants.named_children()) == {}
    assert result.report["verdict"] == "unchanged"
    assert result.report["search"]["epochs"] == 0
    assert result.report["finalists"]["recommended"] == "nothing"
    assert result.report["cost"]["parameters"]["host"] == result.report["cost"]["parameters"]["implanted"]
    x = torch.rand(2, 1, SIDE, SIDE)
    assert torch.equal(result.network(x), host(x))
    assert torch.equal(load_implant(make_host(), tmp_path)(x), host(x))
    assert "No gain" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_few_validation_subjects_have_the_short_list_judged_crosswise_by_all_but_the_test(data, tmp_path):
    config = make_config(**{**SETTINGS, "crosswise_below": 30, "random_cells": 0, "retrain_epochs": 3})
    report = implant(make_host(), open_small(data), config, out=tmp_path).report
    assert report["finalists"]["judges"] == {"subjects": 5, "folds": 3}
    phases = {json.loads(line)["phase"] for line in (tmp_path / "history.jsonl").read_text().splitlines()}
    assert {f"try-adapter-1-fold{fold}" for fold in (1, 2, 3)} <= phases
    assert "try-adapter-1" not in phases


@pytest.mark.parametrize("limit", [{"max_flops": 0.3}, {"max_parameters": 0.2}])
def test_what_is_recommended_fits_the_budget(data, limit):
    result = implant(make_host(), open_small(data), make_config(**SETTINGS, **limit))
    cost = result.report["cost"]
    name, share = next((name.removeprefix("max_"), share) for name, share in limit.items())
    assert cost[name]["implanted"] <= (1 + share) * cost[name]["host"]
    refused = [row for row in result.report["finalists"]["rows"] if row["refusal"]]
    assert [row["name"] for row in refused] == ["sep3"]
    assert refused[0]["validation_dice"] is None


def test_a_budget_holds_without_a_short_list_too(data):
    config = make_config(max_flops=0.2, operations=("sep3", "pointwise"))
    cost = implant(make_host(), open_small(data), config).report["cost"]["flops"]
    assert cost["implanted"] <= 1.2 * cost["host"]


def test_a_budget_of_time_measures_every_operation_once_and_keeps_it(data, tmp_path, monkeypatch):
    # On a busy machine the cell of so small a network can seem to cost no time: it is said what it costs.
    monkeypatch.setattr(timings, "measure_latency", lambda *_: {"host": {"p50": 1.0}, "with": {"p50": 1.5}})
    config = make_config(**{**SETTINGS, "retrain_rate": 1e-12}, max_latency=1e-6)
    result = implant(make_host(), open_small(data), config, out=tmp_path)
    kept = json.loads((tmp_path / "checkpoints" / "latency.json").read_text())
    assert kept["operations"].keys() == {"s0", "s1"}
    assert kept["added by affine"] == 0.5
    assert all(row["milliseconds"] > 0 for row in result.report["prices"]["s0"].values())
    assert result.report["finalists"]["reason"] == "no finalist fits the budget"
    assert result.report["verdict"] == "unchanged"
