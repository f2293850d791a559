"""The gain of one network over another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from surgeon.errors import DataError
from surgeon.scores import Scores, bootstrap_gain, subject_differences


def scores(values: dict[str, float], subjects: dict[str, str] | None = None) -> Scores:
    per_case = {
        name: {"subject": (subjects or {}).get(name, name), "dice": {"part": value}}
        for name, value in values.items()
    }
    mean = float(np.mean(list(values.values()))) if values else 0.0
    return Scores(mean, {"part": mean}, per_case)


def test_cases_of_a_subject_are_averaged_first() -> None:
    host, better = {"a1": 0.5, "a2": 0.5, "b": 0.5}, {"a1": 0.6, "a2": 0.8, "b": 0.5}
    who = {"a1": "a", "a2": "a", "b": "b"}
    found = subject_differences(scores(host, who).per_case, scores(better, who).per_case)
    assert found.tolist() == pytest.approx([0.2, 0.0])


def test_the_p_value_of_few_subjects_is_exact() -> None:
    gains = [0.1, 0.2, -0.05, 0.3]
    host = scores({str(i): 0.5 for i in range(4)})
    better = scores({str(i): 0.5 + gain for i, gain in enumerate(gains)})
    sums = [
        abs(sum(s * g for s, g in zip(signs, gains, strict=True)))
        for signs in itertools.product((-1, 1), repeat=4)
    ]
    expected = sum(total >= sum(gains) - 1e-9 for total in sums) / 16
    gain = bootstrap_gain(host, better, seed=0)
    assert gain["p_value"] == pytest.approx(expected)
    assert gain["dice_mean"] == pytest.approx(np.mean(gains))
    assert gain["low"] <= gain["dice_mean"] <= gain["high"]


def test_no_gain_is_no_gain() -> None:
    host = scores({str(i): i / 10 for i in range(8)})
    nothing = {"dice_mean": 0.0, "low": 0.0, "high": 0.0, "p_value": 1.0, "wilcoxon_p": 1.0}
    assert bootstrap_gain(host, host, 0) == nothing


def test_wilcoxons_p_value_is_that_of_the_table() -> None:
    # Six subjects that all gain: the smallest of 2**6 sign patterns, on either side.
    host = scores({str(i): 0.5 for i in range(6)})
    gained = scores({str(i): 0.5 + 0.01 * (i + 1) for i in range(6)})
    assert bootstrap_gain(host, gained, 0)["wilcoxon_p"] == pytest.approx(2 / 64)


def test_the_interval_is_that_of_the_mean_and_a_seed_repeats_it() -> None:
    generator = np.random.default_rng(0)
    host = scores({str(i): 0.5 for i in range(100)})
    better = scores({str(i): 0.5 + g for i, g in enumerate(generator.normal(0.05, 0.1, 100))})
    gain = bootstrap_gain(host, better, seed=1)
    assert gain["high"] - gain["low"] == pytest.approx(2 * 1.96 * 0.1 / 10, rel=0.25)
    assert 0 < gain["p_value"] < 0.01
    assert bootstrap_gain(host, better, seed=1) == gain


def test_scores_of_other_cases_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="scored on different cases: a, b"):
        bootstrap_gain(scores({"a": 1.0}), scores({"b": 1.0}), 0)
    with pytest.raises(DataError, match="none at all"):
        bootstrap_gain(scores({}), scores({}), 0)
