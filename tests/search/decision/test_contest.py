from __future__ import annotations

from dataclasses import replace

import pytest
from surgeon.search import Config
from surgeon.search.decision.contest import (
    Standing,
    choose,
    describe_contest,
    first_epochs,
    is_futile,
    is_promising,
    is_tied,
    last_epochs,
    pareto,
    survivors,
)
from surgeon.search.decision.prices import Price
from surgeon.search.entrants import Entrant, nothing, shared_genotype

from surgeon.scores import Scores

CONFIG = Config()
NOTHING = nothing(CONFIG)


def scores(*dice):
    cases = {f"c{i}": {"subject": f"p{i}", "dice": {"x": value}} for i, value in enumerate(dice)}
    mean = sum(dice) / len(dice)
    return Scores(mean, {"x": mean}, cases)


def standing(name, cost, *dice, epochs=4, refusal=""):
    entrant = Entrant(name, shared_genotype(None, CONFIG))
    return Standing(entrant, Price(cost, cost), epochs, scores(*dice) if dice else None, refusal=refusal)


HOST = scores(0.80, 0.82, 0.84, 0.86)


def test_the_cheapest_of_those_that_validation_cannot_tell_apart_is_chosen():
    best = standing("dear", 9, 0.90, 0.920, 0.940, 0.960)
    tied = standing("cheap", 2, 0.90, 0.921, 0.938, 0.960)
    worse = standing("cheapest", 1, 0.88, 0.90, 0.92, 0.94)
    choice = choose([best, tied, worse], HOST, NOTHING, CONFIG)
    assert choice.name == "cheap"
    assert "cannot tell from the best, dear (-0.0002)" in choice.reason


def test_the_best_is_chosen_where_no_other_is_tied():
    best, other = standing("dear", 9, 0.90, 0.92, 0.94, 0.96), standing("cheap", 2, 0.89, 0.91, 0.93, 0.95)
    assert choose([best, other], HOST, NOTHING, CONFIG).name == "dear"


def test_a_difference_beyond_the_margin_is_no_tie_however_wide_its_interval():
    best, noisy = scores(0.90, 0.95, 0.90, 0.95), scores(0.95, 0.90, 0.95, 0.88)
    assert not is_tied(best, noisy, CONFIG)
    assert is_tied(best, noisy, Config(margin=0.05))


def test_nothing_is_chosen_where_no_finalist_gains_what_is_worth_it():
    barely = standing("cell", 5, 0.801, 0.821, 0.841, 0.861)
    choice = choose([barely], HOST, NOTHING, CONFIG)
    assert (choice.name, choice.genotype) == ("nothing", NOTHING.genotype)
    assert "changes validation Dice by +0.0010, and none can gain 0.003" in choice.reason


def test_giving_up_takes_evidence_that_nothing_gains_and_not_only_the_lack_of_it():
    # The mean is below 0, but four subjects that differ this much leave room for a gain.
    unclear = standing("cell", 5, 0.75, 0.86, 0.80, 0.90)
    assert not is_futile([unclear], HOST, CONFIG)
    assert choose([unclear], HOST, NOTHING, CONFIG).name == "cell"
    assert is_futile([standing("cell", 5, 0.79, 0.81, 0.83, 0.85)], HOST, CONFIG)


def test_a_search_is_worth_it_at_once_where_some_entrant_gains_on_average():
    assert is_promising([standing("a", 5, 0.803, 0.823, 0.843, 0.863)], HOST, CONFIG)
    assert not is_promising([standing("a", 5, 0.801, 0.821, 0.841, 0.861)], HOST, CONFIG)


def test_what_does_not_fit_the_budget_is_never_chosen_though_it_be_best():
    best = standing("dear", 9, 0.99, 0.99, 0.99, 0.99, refusal="100 % more FLOPs than the host")
    other = standing("cheap", 2, 0.88, 0.90, 0.92, 0.94)
    assert choose([best, other], HOST, NOTHING, CONFIG).name == "cheap"
    assert choose([best], HOST, NOTHING, CONFIG).reason == "no finalist fits the budget"


def test_finalists_of_an_earlier_round_do_not_compete_with_those_that_trained_longer():
    early = standing("early", 1, 0.99, 0.99, 0.99, 0.99, epochs=2)
    assert choose([early, standing("late", 9, 0.9, 0.9, 0.9, 0.9)], HOST, NOTHING, CONFIG).name == "late"


def test_the_best_third_goes_on_but_four_at_least_and_the_cheapest_that_is_tied_with_the_best():
    field = [standing(f"e{i}", 20 - i, *(0.9 - 0.01 * i + 0.001 * k for k in range(4))) for i in range(9)]
    assert [one.entrant.name for one in survivors(field, CONFIG)] == ["e0", "e1", "e2", "e3"]
    assert len(survivors([*field, *field], CONFIG)) == 6
    cheap = standing("cheap", 1, 0.899, 0.902, 0.901, 0.901)
    behind = [standing(f"e{i}", 20 - i, 0.9, 0.901, 0.902, 0.903) for i in range(5)]
    kept = [one.entrant.name for one in survivors([*behind, cheap], CONFIG)]
    assert kept == ["e4", "e3", "e2", "e1", "cheap"]


def test_the_cell_of_wide_kernels_goes_on_though_it_starts_slowly():
    field = [standing(f"e{i}", 20 - i, *(0.9 - 0.01 * i + 0.001 * k for k in range(4))) for i in range(5)]
    wide = standing("sep5", 30, 0.8, 0.8, 0.81, 0.81)
    assert [one.entrant.name for one in survivors([*field, wide], CONFIG)] == ["e0", "e1", "e2", "e3", "sep5"]
    first = standing("sep5", 30, 0.95, 0.95, 0.96, 0.96)
    assert [one.entrant.name for one in survivors([*field, first], CONFIG)] == ["sep5", "e0", "e1", "e2"]
    assert len(survivors([*field, replace(wide, refusal="too dear")], CONFIG)) == 4


def test_the_front_holds_what_nothing_as_cheap_is_better_than():
    field = [standing("a", 1, 0.8), standing("b", 2, 0.79), standing("c", 3, 0.9), standing("d", 3, 0.85)]
    assert pareto(field) == {"a", "c"}


@pytest.mark.parametrize(
    ("settings", "steps", "first", "last"),
    [({}, 25, 5, 15), ({}, 4, 10, 30), ({"retrain_epochs": 2}, 4, 2, 2), ({"finalist_epochs": 3}, 25, 3, 9)],
)
def test_rounds_are_short_but_never_of_too_few_steps(settings, steps, first, last):
    config = Config(**settings)
    assert (first_epochs(config, steps), last_epochs(config, steps)) == (first, last)


def test_the_list_is_told_best_first_with_gains_over_the_host():
    field = [standing("a", 1, 0.88, 0.90, 0.92, 0.94), standing("b", 2, 0.90, 0.92, 0.94, 0.96)]
    told = describe_contest(field, HOST, choose(field, HOST, NOTHING, CONFIG), CONFIG)
    assert [row["name"] for row in told["rows"]] == ["b", "a"]
    assert told["rows"][1]["gain"]["dice_mean"] == pytest.approx(0.08)
    assert told["recommended"] == "b"
