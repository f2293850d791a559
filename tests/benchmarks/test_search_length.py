"""The arithmetic of the benchmark of a shorter search; the searches themselves take too long for a test."""

from __future__ import annotations

import pytest

from benchmarks.search_length import SETTINGS, full_seconds, summary

STEP = {"reference search": 2.0, "search": 1.0}


def search(steps, seconds, *dice):
    return {"epochs": steps // 10, "steps": steps, "seconds": seconds, "dice": dice}


def targets_of(full, default):
    found = summary({"full": full, "default": default}, STEP, 200)["targets"]
    return {target["name"]: (target["value"], target["bar"], target["holds"]) for target in found}


def test_a_step_at_rest_is_half_a_step():
    assert full_seconds(2.0, 200) == SETTINGS["steps"] * 2.0 * (60 / 2 + 140)


def test_the_default_is_held_against_the_full_schedule_and_the_spread_of_its_seeds():
    full = [search(4000, 450.0, dice, dice) for dice in (0.80, 0.82, 0.84)]
    assert targets_of(full, [search(700, 200.0, 0.80, 0.82)] * 3) == {
        "default: times fewer steps": (5.7, 5.0, True),
        "full-length Dice over that of the default": (0.01, 0.0179, True),
        "default: times less time than the reference": (17.0, 16.0, True),
    }
    worse = targets_of(full, [search(900, 250.0, 0.79, 0.79)] * 3)
    assert not any(holds for *_, holds in worse.values())


def test_with_one_seed_there_is_no_spread_and_the_report_says_what_is_missing():
    told = summary({"full": [search(4000, 900.0, 0.8)], "default": [search(700, 400.0, 0.79)]}, STEP, 200)
    assert told["not_measured"] == ["three seeds"]
    assert told["targets"][1]["bar"] == pytest.approx(0.0)
