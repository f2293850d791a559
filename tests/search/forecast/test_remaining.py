"""What is left while an operation runs, by a clock that the test sets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from surgeon.search import Progress
from surgeon.search.forecast import Chapter, Forecast, Pace, Training, described, remaining, reported
from surgeon.search.forecast.schedule import Scoring
from surgeon.search.training.loop import Position

PACES = {
    "adapter": Pace(step=1.0),
    "search": Pace(step=4.0, resting=2.0),
    "cell": Pace(step=3.0, case=0.5),
    "host": Pace(case=0.25),
}
CHAPTERS = (
    Chapter("plain", "what needs no search", r"try-adapter-1.*", (Training("adapter", 2, 10, 0),) * 3),
    Chapter("search", "search", "search", (Training("search", 10, 10, 0, resting=4),)),
    Chapter("last", "last round", r"try-.*-2", (Training("cell", 1, 10, 0),) * 2),
    Chapter("retrain", "training what is chosen", "retrain", (Training("cell", 5, 10, 0),)),
    Chapter("test", "test subjects", "", (), (Scoring("host", 4), Scoring("cell", 4))),
)
TOTAL = 60 + (80 + 240) + 60 + 150 + (1 + 2)


@pytest.fixture
def now(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(remaining, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


def event(phase, epoch, step=0, epochs=2):
    return Progress(phase, epoch, epochs, step, 10, 0.5, None, None)


def test_the_whole_is_the_sum_of_the_chapters(now):
    forecast = Forecast(CHAPTERS, PACES)
    assert forecast.seconds == TOTAL
    assert described(forecast) == (
        "estimated time: at most 9 min 53 s (what needs no search 1 min 0 s, search 5 min 20 s,"
        " last round 1 min 0 s, training what is chosen 2 min 30 s, test subjects 3.0 s)"
    )


def test_what_is_left_shrinks_by_what_is_done_at_the_pace_of_the_run(now):
    forecast = Forecast(CHAPTERS, PACES)
    assert forecast.remaining(event("try-adapter-1", 0)) == TOTAL
    now.seconds += 40  # 20 seconds of work took twice as long
    assert forecast.remaining(event("try-adapter-1", 2)) == 2 * (TOTAL - 20)


def test_what_was_left_out_is_not_left_any_more(now):
    forecast = Forecast(CHAPTERS, PACES)
    forecast.remaining(event("try-adapter-1", 0))
    assert forecast.remaining(event("search", 0, epochs=10)) == TOTAL - 60
    assert forecast.remaining(event("retrain", 0, epochs=5)) == 150 + 3


def test_a_last_round_before_the_search_leaves_the_search_ahead(now):
    forecast = Forecast(CHAPTERS, PACES)
    forecast.remaining(event("try-adapter-1", 0))
    assert forecast.remaining(event("try-adapter-2", 0, epochs=1)) == TOTAL - 60
    forecast.remaining(event("search", 0, epochs=10))
    assert forecast.remaining(event("try-cell-2", 0, epochs=1)) == TOTAL - 60 - 320


def test_what_an_earlier_sitting_did_does_not_make_the_run_look_fast(now):
    forecast = Forecast(CHAPTERS, PACES)
    assert forecast.remaining(event("search", 8, epochs=10)) == 2 * 40 + 60 + 150 + 3
    now.seconds += 120  # three times the estimate of an epoch
    assert forecast.remaining(event("search", 9, epochs=10)) == pytest.approx(3 * (40 + 60 + 150 + 3))


def test_events_are_passed_on_with_what_is_left(now):
    heard = []
    Forecast(CHAPTERS, PACES).telling(heard.append)(event("retrain", 1, epochs=5))
    assert (heard[0].phase, heard[0].remaining) == ("retrain", 120 + 3)
    assert Forecast(CHAPTERS, PACES).telling(None) is None


def test_the_report_holds_the_estimate_against_what_it_took():
    forecast = Forecast(CHAPTERS, PACES, timing=7.0)
    done = {
        "try-adapter-1": Position(epoch=2),
        "try-adapter-1-slower": Position(epoch=2),
        "search": Position(epoch=6),  # it ended early
        "retrain": Position(epoch=5),
    }
    found = reported(forecast, done, "adapter", took=260.0)
    ran = 2 * 20 + (4 * 20 + 2 * 40) + 5 * 10 * 1.0 + (1 + 4 * 0.0)
    assert found["at_most_seconds"] == TOTAL
    assert found["of_what_ran_seconds"] == ran
    assert found["took_seconds"] == 260.0
    assert found["estimate_over_actual"] == round(ran / 260, 3)
    assert found["timing_seconds"] == 7.0
    searched = reported(forecast, done, "searched", took=260.0)
    assert searched["of_what_ran_seconds"] == 2 * 20 + 160 + 150 + (1 + 2)
