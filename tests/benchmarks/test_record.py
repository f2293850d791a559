"""What benchmarks share: targets, kept parts, and measurements in processes of their own."""

from __future__ import annotations

import json
import os
import time

import pytest

from benchmarks import record
from benchmarks.isolation import Failed, isolated, peak_memory
from benchmarks.record import Parts, Target


def test_a_target_holds_on_its_side_of_the_bar():
    assert Target.at_least("recall", 0.99, 0.99).holds
    assert not Target.at_least("recall", 0.98, 0.99).holds
    assert Target.at_most("seconds", 3.0, 3.0).to_dict() == {
        "name": "seconds",
        "value": 3.0,
        "bar": 3.0,
        "holds": True,
    }
    assert not Target.at_most("seconds", 3.1, 3.0).holds


def test_finished_parts_are_kept_until_the_sources_change(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    source = tmp_path / "folder" / "module.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    Parts("figure", ["folder"]).keep("unet", {"seconds": 1.0})
    assert Parts("figure", ["folder"]).parts == {"unet": {"seconds": 1.0}}
    written = json.loads((tmp_path / "results" / "figure.json").read_text())
    assert set(written) == {"machine", "versions", "sources", "commit", "parts"}
    assert written["commit"] == "unknown"  # no working copy
    source.write_text("x = 2\n")
    assert Parts("figure", ["folder"]).parts == {}


def test_a_measurement_gives_its_value_back():
    assert isolated(sum, [1, 2], limit=60) == 3
    assert isolated(peak_memory, limit=60) > 1000


def crash():
    os._exit(3)


def fail():
    raise ValueError("no such network")


@pytest.mark.parametrize(
    ("measure", "arguments", "limit", "text"),
    [
        (crash, (), 60, "the process ended with 3"),
        (fail, (), 60, r"ValueError: no such network \(fail, line \d+\)"),
        (time.sleep, (60,), 0.2, "took longer than 0 seconds"),
    ],
)
def test_a_measurement_that_fails_says_how(measure, arguments, limit, text):
    with pytest.raises(Failed, match=text):
        isolated(measure, *arguments, limit=limit)
