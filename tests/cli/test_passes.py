"""The tables at the end of an export: fusion passes, and what was not compared."""

from __future__ import annotations

import io
from typing import Any

from surgeon.cli.answer import Answer
from surgeon.cli.export import freedom_lines, skipped_lines
from surgeon.cli.passes import fusion_table


def one(name: str, changed: int, **counts: float) -> dict[str, Any]:
    return {"name": name, "changed": changed, **counts}


def rows(*passes: dict[str, Any]) -> list[list[str]]:
    out = io.StringIO()
    Answer(out, io.StringIO()).say(fusion_table(list(passes)))
    return [line.split() for line in out.getvalue().splitlines() if line.strip(" ─")]


def test_each_pass_that_changed_something_has_a_row_and_all_have_a_sum() -> None:
    first = one("fold_batchnorm", 9, nodes_before=30, nodes_after=21, flops_before=5e6, flops_after=4e6)
    idle = one("fold_scale", 0, nodes_before=21, nodes_after=21, flops_before=4e6, flops_after=4e6)
    last = one("compose", 1, nodes_before=21, nodes_after=19, flops_before=4e6, flops_after=3.5e6)
    assert rows(first, idle, last) == [
        ["fusion", "pass", "places", "nodes", "FLOPs"],
        ["fold", "batchnorm", "9", "30", "→", "21", "5", "M", "→", "4", "M"],
        ["compose", "1", "21", "→", "19", "4", "M", "→", "3.5", "M"],
        ["all", "10", "30", "→", "19", "5", "M", "→", "3.5", "M"],
    ]


def test_times_are_shown_where_they_were_measured() -> None:
    timed = one("fold", 1, nodes_before=3, nodes_after=2, milliseconds_before=4.0, milliseconds_after=3.25)
    assert rows(timed)[1] == ["fold", "1", "3", "→", "2", "4.00", "→", "3.25"]
    assert rows(timed)[0] == ["fusion", "pass", "places", "nodes", "ms"]


def test_nothing_changed_is_said_in_a_line() -> None:
    assert fusion_table([one("fold", 0, nodes_before=3, nodes_after=3)]) == (
        "no fusion pass found anything to change"
    )


def test_what_was_not_compared_has_a_line_for_each_kind() -> None:
    skipped = [
        {"what": "blank", "shape": [1, 1, 96, 96], "reason": "the host's own rounding is 1.9e-01"},
        {"what": "larger", "shape": [1, 1, 97, 97], "reason": "the host refuses it: " + "sizes " * 40},
        {"what": "larger", "shape": [[1, 1, 98, 98], [1, 1]], "reason": "the host refuses it: others"},
    ]
    blank, larger = skipped_lines({"not_compared": skipped})
    assert blank == "not compared: blank, 1×1×96×96: the host's own rounding is 1.9e-01"
    assert larger.startswith("not compared: larger, 1×1×97×97, 1×1×98×98: the host refuses it: sizes")
    assert larger.endswith("[...]")


def freedom(free: str, **sizes: Any) -> list[str]:
    reasons = [{"free": "batch and sizes", "reason": "word " * 60}] if free != "batch and sizes" else []
    ends = {"smallest": [8, 8], "largest": [96, 128]}
    given = {"free": "sizes" in free, "step": 1, "refused_outside": None, **ends, **sizes}
    parity = [{"shape": [[2, 1, 48, 64], [2, 5]]}]
    return freedom_lines({"parity": parity, "free": free, "not_free": reasons, "sizes": given})


def test_what_the_file_takes_is_said_and_why_not_more() -> None:
    proved = "proved from 8×8 to 96×128"
    assert freedom("batch and sizes", step=8) == [f"takes any batch, sizes in steps of 8, {proved}"]
    steps = {"smallest": 8, "largest": None, "step": 32, "like": [48, 64]}
    assert freedom("batch and sizes", refused_outside=steps) == [
        f"takes any batch, sizes from 8 on in steps of 32 from 48 x 64, {proved}"
    ]
    first, reason = freedom("nothing")
    assert first == "takes batches of 2 alone, images of 48×64 alone"
    assert reason.startswith("not free, batch and sizes: word word")
    assert reason.endswith("[...]")
