"""The live display, drawn without a terminal."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from surgeon.search import Progress

from surgeon.cli.live import Board, find_leaders, watching

ROW = {
    "phase": "search",
    "epoch": 1,
    "alphas": {
        "shared": {
            "input0->state0": {"sep3": 0.2, "max3": 0.5, "none": 0.3},
            "state0->state1": {"sep3": 0.9, "max3": 0.1, "none": 0.0},
        }
    },
}


def event(epoch: int = 0, step: int = 1, row: dict[str, object] | None = None) -> Progress:
    return Progress("search", epoch, 4, step, 2, 0.5, 0.875 if epoch else None, row)


def drawn(board: Board) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(board)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_surest_edge_leads() -> None:
    assert find_leaders(ROW) == [("state0->state1", "sep3", 0.9), ("input0->state0", "max3", 0.5)]
    assert find_leaders({"phase": "retrain"}) == []


def test_the_board_shows_progress_dice_and_leaders() -> None:
    board = Board()
    board.show(event())
    assert "epoch 1/4" in drawn(board)
    assert "Dice –" in drawn(board)
    board.show(event(epoch=1, step=0, row=ROW))
    text = drawn(board)
    assert "epoch 2/4" in text
    assert "Dice 0.8750" in text
    assert "sep3" in text
    assert "left" in text
    board.show(event(epoch=4, step=0))
    assert "epoch 4/4" in drawn(board)
    assert "done in" in drawn(board)


def test_finalists_share_a_row_and_so_do_the_baselines_of_a_comparison() -> None:
    board = Board()
    for phase in ("try-affine-1", "try-sep3-fitted-2", "compare-gate", "compare-full-slower"):
        board.show(dataclasses.replace(event(epoch=1), phase=phase))
        board.show(dataclasses.replace(event(epoch=4, step=0), phase=phase))
    rows = drawn(board).splitlines()
    first = [row.split("  ")[0] for row in rows if "epoch" in row]
    assert first == ["trying sep3-fitted", "comparing with full"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_is_watched_on_a_terminal_and_in_a_file(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=terminal)
    with watching(console) as show:
        show(event())
        show(event(epoch=1, step=0, row=ROW))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "searching" in text
    assert "sep3" in text
    if not terminal:
        assert text.splitlines() == [
            "searching: epoch 1 of 4, loss 0.5000, validation Dice 0.8750,"
            " leading: state0->state1 sep3, input0->state0 max3"
        ]
