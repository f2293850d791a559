"""When alpha and beta begin to move: once the weights have learnt, and never later than they were told to."""

from __future__ import annotations

import itertools
import json

import pytest
from surgeon.search import implant
from surgeon.search.training.warming import Warming, earliest_moving_epoch, latest_moving_epoch

from surgeon.errors import Stopped
from tests.search.small import make_config, make_host, open_small, write_data
from tests.search.test_implanting import stop_at

LONG = {"epochs": 100, "architecture_start": 0.3, "early": True}


def warming_after(losses, **changes):
    found = Warming(make_config(**LONG | changes))
    for loss in losses:
        found.see(loss)
    return found


def test_while_the_loss_falls_they_rest_for_the_share_that_was_asked_for():
    assert warming_after([1.0 - 0.03 * epoch for epoch in range(29)]).first == 30


def test_they_move_from_the_epoch_on_after_which_the_loss_hardly_falls():
    """Windows of three: .2 to .2 is the first step between two that hardly falls."""
    falling = [1.0, 0.6, 0.4, 0.3, 0.2, 0.2]
    assert warming_after(falling).first == 30
    assert warming_after([*falling, 0.2, 0.2, 0.2]).first == 9
    assert warming_after([*falling, 0.2, 0.2, 0.2], warm_share=1.0).first == 6


def test_a_loss_that_never_fell_has_nothing_left_to_fall():
    assert warming_after([1.0] * 6).first == 6
    assert warming_after([1.0 + 0.1 * epoch for epoch in range(6)]).first == 6


def test_without_early_or_in_few_epochs_the_share_alone_decides():
    assert warming_after([1.0] * 20, early=False).first == 30
    assert warming_after([1.0], epochs=6).first == 2


@pytest.mark.parametrize("changes", [{}, {"early": False}, {"epochs": 5}, {"architecture_start": 0.0}])
def test_the_earliest_epoch_is_never_after_the_latest(changes):
    config = make_config(**LONG | changes)
    assert 0 <= earliest_moving_epoch(config) <= latest_moving_epoch(config)
    assert warming_after([1.0] * 40, **changes).first == earliest_moving_epoch(config)


def test_what_was_seen_survives_an_interruption():
    before = warming_after([1.0, 0.5, 0.5])
    after = Warming(before.config)
    after.load_state_dict(before.state_dict())
    for one in (before, after):
        for _ in range(4):
            one.see(0.5)
    assert (after.losses, after.first) == (before.losses, before.first)
    assert after.first == 7


def test_a_search_stopped_while_it_rests_chooses_as_one_that_was_not(tmp_path):
    """With windows of one epoch, alpha moves from the third on."""
    data = write_data(tmp_path / "images")
    config = make_config(
        epochs=6, architecture_start=0.9, early=True, warm_window=1, warm_share=1.0, retrain_epochs=1
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    implant(make_host(), open_small(data), config, out=whole)
    with pytest.raises(Stopped):
        implant(make_host(), open_small(data), config, out=stopped, progress=stop_at("search", 1, 2))
    implant(make_host(), open_small(data), config, out=stopped, resume=True)
    alphas = alphas_of(whole)
    assert [one == two for one, two in itertools.pairwise(alphas)] == [True] + [False] * 4
    assert alphas_of(stopped) == alphas


def alphas_of(run):
    """Return alpha after each epoch of a search."""
    rows = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [row["alphas"] for row in rows if row["phase"] == "search"]
