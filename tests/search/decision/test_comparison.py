from __future__ import annotations

import copy
import json
import signal

import pytest
import torch
from surgeon.search import implant
from surgeon.search.decision.renorming import estimate_norms
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from torch import nn

from surgeon.errors import Stopped
from surgeon.splicing import splice
from surgeon.tracing import trace
from tests.search.small import SIDE, make_config, make_host, open_small, write_data

SETTINGS = {
    "compare": True,
    "compare_cells": 2,
    "crosswise_below": 0,
    "epochs": 1,
    "retrain_epochs": 2,
    "steps": 3,
    "retrain_rate": 0.02,
}
TRAINED = ["norms", "adapter", "sep3", "random1", "random2", "gate", "decoder", "full"]
ROWS = ["host", "implanted", "renormed", *TRAINED]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares")


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "RUN"
    return implant(make_host(), open_small(data), make_config(**SETTINGS), out=out), out


def test_the_table_has_a_row_for_everything_a_sceptic_would_try(compared):
    rows = compared[0].report["comparison"]["rows"]
    assert [row["name"] for row in rows] == ROWS
    assert all(set(row) == set(rows[0]) for row in rows)
    assert set(compared[0].report["scores"]) == set(ROWS)


def test_rows_say_what_was_trained_and_what_it_costs(compared):
    rows = {row["name"]: row for row in compared[0].report["comparison"]["rows"]}
    host = make_host()
    sizes = {name: value.numel() for name, value in host.named_parameters()}
    assert rows["full"]["trainable"] == sum(sizes.values())
    assert rows["decoder"]["trainable"] == sum(
        n for name, n in sizes.items() if name[:5] in ("middl", "leave")
    )
    assert rows["adapter"]["trainable"] == 6 * 7 + 8 * 9
    assert rows["renormed"]["trainable"] == 0
    assert rows["full"]["parameters"] == rows["host"]["parameters"] == sum(sizes.values())
    assert rows["adapter"]["flops"] > rows["full"]["flops"] == rows["host"]["flops"]
    assert [row["name"] for row in rows.values() if not row["frozen"]] == ["norms", "decoder", "full"]


def test_each_row_was_tried_with_three_rates_and_scored_by_the_same_cases(compared):
    result, out = compared
    phases = [json.loads(line)["phase"] for line in (out / "history.jsonl").read_text().splitlines()]
    for name in TRAINED:
        tried = [phases.count(f"compare-{name}-1{rate}") for rate in ("", "-slower", "-faster")]
        assert tried == [2, 2, 2]
        assert phases.count(f"compare-{name}") == 2
    rates = {row["name"]: row["rate"] for row in result.report["comparison"]["rows"]}
    assert rates["adapter"] in [pytest.approx(share * 0.02) for share in (0.3, 1.0, 3.0)]
    assert rates["full"] in [pytest.approx(share * 0.3 * 0.02) for share in (0.3, 1.0, 3.0)]
    cases = {name: set(scores["per_case"]) for name, scores in result.report["scores"].items()}
    assert len({frozenset(names) for names in cases.values()}) == 1
    assert all(
        "hd95" in case for scores in result.report["scores"].values() for case in scores["per_case"].values()
    )


def test_random_cells_are_summed_up_as_validation_would_have_chosen(compared):
    comparison = compared[0].report["comparison"]
    random = [row for row in comparison["rows"] if row["name"].startswith("random")]
    assert comparison["random"]["dice_mean"] == pytest.approx(sum(row["dice"] for row in random) / 2)
    chosen = max(random, key=lambda row: row["validation_dice"])
    assert comparison["random"]["dice_chosen"] == chosen["dice"]


def test_the_report_shows_the_table_and_the_figure(compared):
    page = (compared[1] / "report.html").read_text()
    assert "everything fine-tuned" in page
    assert (compared[1] / "figures" / "trade.svg").exists()


def test_a_comparison_goes_on_at_the_row_where_it_was_stopped(data, compared, tmp_path):
    def stop(event):
        if (event.phase, event.epoch, event.step) == ("compare-gate", 1, 1):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        implant(make_host(), open_small(data), make_config(**SETTINGS), out=tmp_path, progress=stop)
    trained = []

    def listen(event):
        if event.step or event.row:  # what had ended before says so once, without a step
            trained.append(event.phase)

    again = implant(
        make_host(),
        open_small(data),
        make_config(**SETTINGS),
        out=tmp_path,
        resume=True,
        progress=listen,
    )
    first = dict.fromkeys(trained)
    assert next(iter(first)) == "compare-gate"
    assert {row["name"]: row["dice"] for row in again.report["comparison"]["rows"]} == {
        row["name"]: row["dice"] for row in compared[0].report["comparison"]["rows"]
    }


class Symbolic(nn.Module):
    """Cannot be exported, so that it is traced symbolically and keeps its modules."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(x) + 1


@pytest.mark.parametrize("graph", ["exported", "symbolic"])
def test_statistics_estimated_again_are_the_mean_of_those_of_the_batches(graph):
    host = Symbolic().eval()
    network = copy.deepcopy(trace(host, torch.rand(1, 3, 8, 8)).graph_module)
    if graph == "symbolic":
        network = torch.fx.symbolic_trace(Symbolic().eval())
    images = [torch.randn(4, 3, 8, 8) * 3 + 2 for _ in range(3)]
    assert estimate_norms(network, images) == 1
    state = dict(network.named_buffers())
    mean = torch.stack([x.mean((0, 2, 3)) for x in images]).mean(0)
    variance = torch.stack([x.var((0, 2, 3)) for x in images]).mean(0)
    torch.testing.assert_close(state["norm.running_mean"], mean)
    torch.testing.assert_close(state["norm.running_var"], variance)
    assert torch.equal(host.norm.running_mean, torch.zeros(3))


def test_a_host_without_batchnorm_has_no_such_row():
    network = splice(nn.Sequential(nn.Conv2d(1, 1, 1)).eval(), torch.rand(1, 1, SIDE, SIDE), {})
    assert estimate_norms(network, [torch.rand(2, 1, SIDE, SIDE)]) == 0


@pytest.mark.slow
def test_the_searched_cell_meets_the_random_ones_where_there_was_a_short_list(data):
    changes = {"finalists": True, "compare_cells": 1, "selection": "weight", "retrain_epochs": 6}
    config = make_config(**{**SETTINGS, **changes}, operations=("none", "max3", "pointwise"))
    report = implant(make_host(), open_small(data), config).report
    rows = {row["name"]: row for row in report["comparison"]["rows"]}
    assert rows["searched"]["frozen"]
    assert rows["searched"]["trainable"] > 0


def test_the_split_may_stay_while_the_seed_changes(data):
    cohort = open_small(data)
    plans = [plan_operation(make_host(), cohort, make_config(seed=s, split=7), OPERATIONS) for s in (1, 2)]
    assert plans[0].splits == plans[1].splits
    assert plans[0].splits == plan_operation(make_host(), cohort, make_config(seed=7), OPERATIONS).splits
