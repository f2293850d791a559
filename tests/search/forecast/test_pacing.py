"""A few steps before the start: they are of what will be done, and they change nothing of it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from surgeon.search import implant
from surgeon.search.config import Config

from surgeon.errors import Stopped
from tests.search.small import make_config, make_host, open_small, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "images")


def test_an_estimate_changes_no_bit_of_the_result(data):
    notes = []
    torch.manual_seed(5)
    plain = implant(make_host(), open_small(data), make_config(seed=3))
    after_plain = torch.rand(3)
    torch.manual_seed(5)
    told = implant(make_host(), open_small(data), make_config(seed=3, estimate=True), note=notes.append)
    assert torch.equal(torch.rand(3), after_plain)
    assert told.genotype == plain.genotype
    for name, value in plain.network.state_dict().items():
        assert torch.equal(told.network.state_dict()[name], value), name
    assert notes[0] == "precision fp32: half types pay on GPUs alone"
    assert notes[-1].startswith("estimated time: at most ")
    assert plain.report["search"]["estimate"] == {}


def test_the_report_has_the_estimate_and_the_events_say_what_is_left(data, tmp_path):
    events = []
    config = make_config(estimate=True, epochs=1, retrain_epochs=1)
    result = implant(make_host(), open_small(data), config, out=tmp_path, progress=events.append)
    estimate = json.loads((tmp_path / "report.json").read_text())["search"]["estimate"]
    assert estimate == result.report["search"]["estimate"]
    assert set(estimate["paces"]) == {"search", "random1", "random2", "cell", "host"}
    assert estimate["took_seconds"] > 0
    assert sum(estimate["chapters"].values()) == pytest.approx(estimate["at_most_seconds"], abs=0.01)
    left = [event.remaining for event in events]
    assert min(left) > 0
    assert left[-1] < left[0]


def test_a_resumed_run_keeps_the_estimate_that_it_began_with(data, tmp_path):
    def stop(event):
        raise_at = (event.phase, event.epoch, event.step) == ("search", 0, 1)
        if raise_at:
            import signal

            signal.raise_signal(signal.SIGINT)

    config = make_config(estimate=True, epochs=1, retrain_epochs=1)
    with pytest.raises(Stopped):
        implant(make_host(), open_small(data), config, out=tmp_path, progress=stop)
    kept = tmp_path / "checkpoints" / "paces.json"
    paces = json.loads(kept.read_text())
    paces["search"]["step"] = 1234.5
    kept.write_text(json.dumps(paces))
    report = implant(make_host(), open_small(data), config, out=tmp_path, resume=True).report
    assert report["search"]["estimate"]["paces"]["search"]["step"] == 1234.5


def test_every_kind_of_a_short_list_and_of_a_comparison_is_timed(data):
    config = make_config(
        estimate=True,
        finalists=True,
        compare=True,
        compare_cells=1,
        epochs=1,
        retrain_epochs=1,
        steps=1,
        crosswise_below=0,
    )
    from surgeon.search.decision.panel import seat_panel
    from surgeon.search.forecast import known_paces, plan_chapters
    from surgeon.search.interrupts import StopRequest
    from surgeon.search.operations import OPERATIONS
    from surgeon.search.planning import plan_operation
    from surgeon.search.training.loop import Loop

    plan = plan_operation(make_host(), open_small(data), config, OPERATIONS)
    supply = plan.supply()
    chapters = plan_chapters(plan, supply, seat_panel(plan, supply))
    paces = known_paces(plan, supply, Loop(StopRequest()), chapters)
    trained = {"affine", "adapter", "sep3", "random1", "random2", "cell", "search"}
    trained |= {"norms", "gate", "decoder", "full"}
    assert set(paces) == trained | {"host"}
    for kind in trained:
        assert min(paces[kind].start, paces[kind].step, paces[kind].case) > 0, kind
    assert dataclasses.asdict(paces["host"])["step"] == 0
    with pytest.raises(Stopped, match="stopped by the user"):
        known_paces(plan, supply, Loop(StopRequest(requested=True)), chapters)


def test_a_run_may_be_resumed_with_or_without_an_estimate():
    assert Config.create(estimate=False).differences(Config.create().to_dict()) == ()
