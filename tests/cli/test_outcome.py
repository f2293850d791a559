"""What a person reads when an operation has ended."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from surgeon.cli.answer import Answer
from surgeon.cli.operation import show_outcome


def row(name: str, words: str, dice: float, **changes: Any) -> dict[str, Any]:
    gain = {"dice_mean": dice - 0.8, "low": dice - 0.81, "high": dice - 0.79}
    return {
        "name": name,
        "words": words,
        "dice": dice,
        "gain": gain,
        "hd95": 2.5,
        "trainable": 1200,
        "flops": 3_000_000,
        "latency": {"host": 1.0, "it": 1.5},
        "seconds": 12.0,
        **changes,
    }


def report(**changes: Any) -> dict[str, Any]:
    scores = {name: {"dice_mean": dice, "dice_per_class": {"x": dice}} for name, dice in
              (("host", 0.8), ("implanted", 0.85), ("gate", 0.81))}  # fmt: skip
    return {
        "scores": scores,
        "gain": {"dice_mean": 0.05, "low": 0.04, "high": 0.06},
        "cost": {"parameters": {"host": 1000, "implanted": 1100}},
        "verdict": "improved",
        **changes,
    }


def shown(value: dict[str, Any]) -> str:
    out = io.StringIO()
    show_outcome(Answer(out, io.StringIO()), value, Path("RUN"))
    return out.getvalue()


def test_a_report_without_comparison_shows_every_score() -> None:
    text = shown(report())
    assert [name for name in ("host", "implanted", "gate") if name in text] == ["host", "implanted", "gate"]
    assert "recommended" not in text


def test_a_comparison_is_a_table_of_its_own() -> None:
    rows = [row("host", "host", 0.8, hd95=None), row("implanted", "recommended", 0.85)]
    rows.append(row("gate", "gates", 0.81))
    random = {"cells": 8, "dice_mean": 0.82, "chosen": "random3", "dice_chosen": 0.83}
    text = shown(report(comparison={"rows": rows, "random": random}))
    line = next(line for line in text.splitlines() if "gates" in line)
    assert line.split()[1:7] == ["0.8100", "+0.0100", "+0.0000", "to", "+0.0200", "2.50"]
    assert " ".join(line.split()[7:]) == "1.2 k 3 M 1.5 ms 12.0 s"
    assert "8 random cells: mean Dice 0.8200, the best on validation 0.8300" in text
    assert sum("gate" in line for line in text.splitlines()) == 1


@pytest.mark.parametrize("random", [{}])
def test_a_comparison_without_random_cells_says_so(random: dict[str, Any]) -> None:
    text = shown(report(comparison={"rows": [row("host", "host", 0.8)], "random": random}))
    assert "no random cell was compared" in text


def test_what_is_recommended_is_said_with_its_reason() -> None:
    text = shown(report(finalists={"recommended": "adapter", "reason": "the best of 3"}))
    assert "recommended: adapter, the best of 3" in text


def test_the_bill_says_what_the_time_went_to() -> None:
    search = {
        "spent_seconds": {"host": 30.0, "cells": 60.0, "data": 10.0},
        "search_images_per_second": 12.345,
        "retrain_images_per_second": None,
        "peak_memory_mib": 1234.5,
    }
    text = " ".join(shown(report(search=search)).split())
    bill = "training 1 min 40 s: cells 60%, host 30%, data 10%; search 12.3 images/s; peak memory 1234 MiB"
    assert bill in text
    assert "nothing was trained" in shown(report(search={"spent_seconds": {}}))
