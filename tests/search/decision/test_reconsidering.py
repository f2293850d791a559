from __future__ import annotations

import dataclasses

import pytest
import torch
from surgeon.search import implant
from surgeon.search.decision.comparison import Contender, Row, state_of
from surgeon.search.decision.finding import Found
from surgeon.search.decision.reconsidering import reconsider
from surgeon.search.decision.settling import Settling
from surgeon.search.decision.timings import Timings, known_prices
from surgeon.search.entrants import nothing, plain_entrants
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from surgeon.search.training.loop import Loop, Position
from surgeon.search.training.stages import Trained, train_genotype

from tests.search.small import make_config, make_host, open_small, write_data

SETTINGS = {"retrain_epochs": 12, "steps": 4, "retrain_rate": 0.02, "crosswise_below": 0}
IDLE = 1e-9


class Scene:
    """A shift of the channels that hardly moved was found; the comparison has trained the fixed cell."""

    def __init__(self, folder, **changes):
        config = make_config(**{**SETTINGS, **changes})
        self.plan = plan_operation(make_host(), open_small(folder), config, OPERATIONS)
        self.supply, self.loop = self.plan.supply(), Loop(StopRequest())
        entrants = {one.name: one.genotype for one in plain_entrants(self.plan.specs, config)}
        nowhere = nothing(config).genotype
        rates = {"sep3": 0.02}
        trained = {
            name: self.train(name, genotype, rates.get(name, IDLE)) for name, genotype in entrants.items()
        }
        idle = dict.fromkeys(("best_epoch", "validation_dice", "validation_dice_before"), 0.5)
        self.nothing = Trained(self.plan.splice({}), Position(), idle)
        self.rows = [
            self._row("renormed", nowhere, self.nothing),
            *(self._row(name, entrants[name], trained[name]) for name in ("adapter", "sep3")),
        ]
        prices = known_prices(self.plan, Timings(None))
        contest = {"recommended": "affine", "reason": "said the short list", "rows": []}
        self.found = Found(entrants["affine"], trained["affine"], Position(), "", contest, prices)

    def train(self, name, genotype, rate):
        config = self.plan.config.model_copy(update={"retrain_rate": rate})
        return train_genotype(name, self.plan, self.supply, self.loop, genotype, config=config)

    @staticmethod
    def _row(name, genotype, trained):
        facts, position = trained.facts, trained.position
        return Row(Contender(name, name, genotype), state_of(trained), 0, 2.0, 0.02, position, facts)

    def reconsider(self, found=None):
        return reconsider(self.plan, self.supply, self.loop, found or self.found, self.rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares", subjects=8)


@pytest.fixture(scope="module")
def scene(folder):
    return Scene(folder)


def test_what_the_comparison_trained_takes_the_place_of_what_validation_likes_less(scene):
    again = scene.reconsider()
    assert again.contest["recommended"] == "sep3"
    assert again.contest["reason"].endswith("all trained in full; the short list chose affine")
    assert again.trained.facts["validation_dice"] > scene.found.trained.facts["validation_dice"] + 0.003
    assert again.trained.facts["retrain_rate"] == 0.02
    state, trained = again.trained.network.state_dict(), scene.rows[-1].state
    assert any(name.startswith("implants.") for name in state)
    assert all(torch.equal(state[name], value) for name, value in trained.items() if name in state)
    spent = scene.found.trained.position.seconds + 2.0 * 2
    assert again.seconds == pytest.approx(spent)


def test_the_recommendation_stays_where_nothing_else_is_better_or_as_good_and_cheaper(scene):
    sep3 = scene.rows[-1]
    given = dataclasses.replace(
        scene.found,
        genotype=sep3.contender.genotype,
        trained=sep3.trained(scene.plan),
        contest={**scene.found.contest, "recommended": "sep3"},
    )
    assert scene.reconsider(given) is given


def test_another_training_of_the_same_may_be_better(scene):
    sep3 = scene.rows[-1]
    idle = scene.train("retrain", sep3.contender.genotype, IDLE)
    contest = {**scene.found.contest, "recommended": "sep3"}
    given = dataclasses.replace(scene.found, genotype=sep3.contender.genotype, trained=idle, contest=contest)
    again = scene.reconsider(given)
    assert again.contest["recommended"] == "sep3"
    assert again.trained.facts["validation_dice"] > idle.facts["validation_dice"]


def test_what_is_not_better_than_the_host_for_certain_takes_no_place(scene, monkeypatch):
    monkeypatch.setattr(Settling, "gains", lambda self, scores: False)
    assert scene.reconsider() is scene.found


def test_validation_has_to_be_certain_of_a_gain_over_the_host(scene):
    settling = Settling(scene.plan, scene.supply, scene.loop, scene.found.prices)
    assert settling.gains(settling.scores(scene.rows[-1].build(scene.plan)))
    assert not settling.gains(settling.scores(scene.rows[1].build(scene.plan)))


def test_where_nothing_was_worth_an_implant_no_row_becomes_one(scene):
    none = dataclasses.replace(
        scene.found, genotype=nothing(scene.plan.config).genotype, trained=scene.nothing
    )
    assert scene.reconsider(none) is none


@pytest.mark.parametrize(
    "changes", [{"crosswise_below": 30}, {"max_flops": 0.01}, {"train": "norms"}], ids=lambda c: next(iter(c))
)
def test_few_subjects_a_budget_and_a_host_that_moves_are_respected(folder, changes):
    scene = Scene(folder, **changes)
    assert scene.rows[-1].facts["validation_dice"] > scene.found.trained.facts["validation_dice"]
    assert scene.reconsider() is scene.found


@pytest.mark.slow
def test_no_row_of_a_report_with_a_frozen_host_is_better_on_validation(folder, tmp_path):
    changes = {"finalists": True, "compare": True, "compare_cells": 2, "epochs": 1, "random_cells": 1}
    result = implant(make_host(), open_small(folder), make_config(**{**SETTINGS, **changes}), out=tmp_path)
    rows = {row["name"]: row for row in result.report["comparison"]["rows"]}
    recommended = result.report["finalists"]["recommended"]
    assert recommended != "nothing"
    frozen = [row["validation_dice"] for row in rows.values() if row["frozen"] and row["name"] != "host"]
    assert rows["implanted"]["validation_dice"] >= max(frozen) - 0.004
    assert result.report["search"]["validation_dice"] == rows["implanted"]["validation_dice"]
