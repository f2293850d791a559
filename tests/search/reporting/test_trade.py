from __future__ import annotations

import pytest
from surgeon.search.reporting.trade import front_figure


def finalist(name, flops, dice, *, pareto, gain=True):
    found = {"dice_mean": 0.01, "low": 0.0, "high": 0.02} if gain else {}
    return {"name": name, "flops": flops, "validation_dice": dice, "pareto": pareto, "gain": found}


def test_the_front_is_a_line_through_those_that_nothing_cheaper_beats():
    rows = [
        finalist("searched", 300, 0.9, pareto=True),
        finalist("affine", 100, 0.7, pareto=True),
        finalist("sep3", 400, 0.8, pareto=False),
        finalist("refused", 900, -1.0, pareto=False, gain=False),
    ]
    (axes,) = front_figure(rows, 0.65).axes
    host, front, *marks = axes.lines
    assert list(host.get_ydata()) == [0.65, 0.65]
    assert [*zip(front.get_xdata(), front.get_ydata(), strict=True)] == [(100, 0.7), (300, 0.9)]
    assert [(mark.get_xdata()[0], mark.get_ydata()[0]) for mark in marks] == [
        (300, pytest.approx(0.9)),
        (100, pytest.approx(0.7)),
        (400, pytest.approx(0.8)),
    ]
    assert [text.get_text() for text in axes.texts] == ["searched", "affine", "sep3"]


def test_a_short_list_that_nobody_scored_has_no_figure():
    assert front_figure([finalist("sep3", 1, -1.0, pareto=False, gain=False)], 0.5) is None
