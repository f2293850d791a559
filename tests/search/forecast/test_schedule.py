"""The arithmetic of an estimate, on a plan whose numbers are worked out by hand."""

from __future__ import annotations

import pytest
from surgeon.search.decision.panel import seat_panel
from surgeon.search.forecast import Pace, Training, plan_chapters
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation

from tests.search.small import make_config, make_host, open_small, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "images")


def chapters_of(data, **changes):
    plan = plan_operation(make_host(), open_small(data), make_config(**changes), OPERATIONS)
    supply = plan.supply()
    return {one.name: one for one in plan_chapters(plan, supply, seat_panel(plan, supply))}


def test_a_training_takes_its_steps_its_measurings_and_its_judgement():
    pace = Pace(start=100.0, step=1.0, resting=0.25, measure=10.0, case=2.0)
    training = Training("cell", epochs=4, steps=5, cases=3, judged=7)
    assert training.seconds(pace) == 100 + 4 * 5 * 1 + (1 + 4) * (10 + 3 * 2) + 7 * 2
    assert training.seconds(pace, epochs=2.5) == 100 + 2.5 * 5 + 3.5 * 16
    search = Training("search", epochs=4, steps=5, cases=3, resting=3, before=0)
    assert search.seconds(pace) == 100 + 5 * (3 * 0.25 + 1 * 1.0) + 4 * 16
    assert search.seconds(pace, epochs=2) == 100 + 5 * 2 * 0.25 + 2 * 16


def test_without_a_short_list_there_is_the_search_the_training_and_the_test(data):
    """Six subjects of two images: 8 cases train, 2 choose and 2 test."""
    found = chapters_of(data, epochs=10, architecture_start=0.25, retrain_epochs=4)
    assert list(found) == ["search", "retrain", "test"]
    assert found["search"].trainings == (Training("search", 10, 3, 2, resting=3, before=0),)
    assert found["search"].scorings == ()
    assert found["retrain"].trainings == (Training("cell", 4, 3, 2),)
    paces = {"host": Pace(case=1.0), "cell": Pace(case=3.0)}
    assert found["test"].seconds(paces) == 2 * 1.0 + 2 * 3.0


def test_a_short_list_tries_everything_with_its_rates_in_every_fold(data):
    changes = {"finalists": True, "retrain_epochs": 48, "steps": 20, "epochs": 10, "random_cells": 2}
    found = chapters_of(data, **changes)
    assert list(found) == ["plain", "search", "found", "last", "rate", "retrain", "test"]
    # 10 subjects' worth of images judge crosswise: 3 entrants, 3 rates, 3 folds, a twelfth of the epochs.
    plain = found["plain"].trainings
    assert [one.kind for one in plain] == [k for k in ("affine", "adapter", "sep3") for _ in range(9)]
    assert {one.epochs for one in plain} == {4}
    assert sum(one.cases for one in plain) == 3 * 3 * 10
    assert [one.kind for one in found["found"].trainings] == [
        kind for kind in ("cell", "cell", "random1", "random2") for _ in range(3)
    ]
    # Seven entrants leave four and the cheapest that is tied, with three times the epochs.
    assert [one.epochs for one in found["last"].trainings] == [12] * 5 * 3
    # What is chosen of them gets its own of three rates.
    assert [(one.kind, one.epochs) for one in found["rate"].trainings] == [("cell", 4)] * 3 * 3
    # Two states: 3 edges of 4 operations, and no state of more than two edges to choose between.
    assert found["search"].scorings[0].times == 3 * 4
    # 4 training batches for the norms and the one validation batch there is, as in any other measuring.
    assert found["search"].scorings[0].share == pytest.approx(1.0)


def test_a_comparison_has_its_rows(data):
    found = chapters_of(data, finalists=True, compare=True, compare_cells=3, baselines=("adapter",))
    kinds = [one.kind for one in found["compare"].trainings]
    rows = ["norms", "adapter", "sep3", *["cell"] * 5, "gate", "decoder", "full"]
    assert len(kinds) == len(rows) * (3 * 3 + 1)
    assert kinds[:: 3 * 3 + 1] == rows
    assert [one.kind for one in found["baselines"].trainings] == ["adapter"]


@pytest.mark.parametrize(
    ("phase", "chapter"),
    [
        ("try-affine-1-slower-fold2", "plain"),
        ("try-sep3-fitted-1", "plain"),
        ("search", "search"),
        ("try-searched-1-fold1", "found"),
        ("try-random12-1", "found"),
        ("try-adapter-2", "last"),
        ("try-random2-2-fold3", "last"),
        ("rate-searched-slower", "rate"),
        ("retrain", "retrain"),
        ("compare-gate-1-faster", "compare"),
    ],
)
def test_every_phase_is_of_one_chapter(data, phase, chapter):
    found = chapters_of(data, finalists=True, compare=True)
    assert [name for name, one in found.items() if one.holds(phase)] == [chapter]
