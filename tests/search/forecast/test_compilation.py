"""Whether a run compiles its host: chosen once, said, and kept."""

from __future__ import annotations

import json

import pytest
from surgeon.search.decision.panel import seat_panel
from surgeon.search.forecast import Forecast, Pace, choose_compilation, compilation, plan_chapters
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from surgeon.search.runs import RunFolder
from surgeon.search.training.loop import Loop

from surgeon.errors import RunError, Stopped
from tests.search.small import make_config, make_host, open_small, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "images")


def slow(seconds):
    """Return paces with which a search step takes so long."""
    return {"search": Pace(step=seconds, resting=seconds), "cell": Pace(), "host": Pace()}


def choose(data, folder=None, *, step=1000.0, stop=False, **changes):
    plan = plan_operation(make_host(), open_small(data), make_config(**changes), OPERATIONS)
    supply = plan.supply()
    loop = Loop(StopRequest(requested=stop), folder)
    forecast = Forecast(plan_chapters(plan, supply, seat_panel(plan, supply)), slow(step))
    chosen, sentence = choose_compilation(plan, supply, loop, forecast)
    return chosen.compiler is not None, sentence, forecast


@pytest.fixture
def trial(monkeypatch):
    """Let the trial find a pace, or fail."""

    def find(pace):
        def tried(*_):
            if isinstance(pace, Exception):
                raise pace
            return pace

        monkeypatch.setattr(compilation, "_tried", tried)

    find(AssertionError("nothing was to be tried"))
    return find


def test_a_short_run_does_not_try(data, trial):
    assert choose(data, step=0.01)[:2] == (False, "compile off: the run is too short to pay for it")


def test_off_and_on_are_taken_at_their_word(data, trial):
    assert choose(data, compile="off")[:2] == (False, "compile off: as asked for")
    trial(Pace(step=2000.0))
    assert choose(data, step=0.01, compile="on")[:2] == (True, "compile on: as asked for")


def test_a_trial_decides_in_a_long_run_and_corrects_the_estimate(data, trial):
    trial(Pace(step=960.0, resting=960.0))
    sentence = "compile off: a search step takes 960 s with it, 1e+03 s without"
    on, said, forecast = choose(data)
    assert (on, said, forecast.seconds) == (False, sentence, 6 * 1000.0)
    trial(Pace(step=500.0, resting=500.0))
    on, said, forecast = choose(data)
    assert (on, said) == (True, "compile on: a search step takes 500 s with it, 1e+03 s without")
    assert forecast.seconds == 6 * 500.0


def test_where_it_fails_nothing_is_compiled_and_one_line_says_so(data, trial):
    trial(RuntimeError("\nno C++ compiler\nwas found"))
    assert choose(data, compile="on")[:2] == (False, "compile off: it failed (RuntimeError: no C++ compiler)")


def test_a_stopped_trial_is_no_failure(data):
    with pytest.raises(Stopped):
        choose(data, stop=True)


def test_a_resumed_run_goes_on_as_it_began(data, trial, tmp_path):
    trial(Pace(step=500.0))
    folder = RunFolder(tmp_path)
    assert choose(data, folder)[0]
    trial(Pace(step=5000.0))  # slower today: the bits have to stay those of the start
    assert choose(data, folder)[:2] == (
        True,
        "compile on: a search step takes 500 s with it, 1e+03 s without",
    )
    trial(RuntimeError("no compiler"))
    with pytest.raises(RunError, match="compiled when it began, and here that fails: RuntimeError: no comp"):
        choose(data, folder)
    folder.write_json("checkpoints/compile.json", {"on": False, "why": "it failed"})
    assert choose(data, folder)[:2] == (False, "compile off: it failed")
    assert json.loads((tmp_path / "checkpoints" / "compile.json").read_text())["on"] is False
