from __future__ import annotations

import pytest
import torch
from surgeon.search.decision.panel import deal_folds, seat_panel
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from torch import nn

from tests.search.small import make_config, make_host, open_small, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares", subjects=10)


def planned(data, **settings):
    return plan_operation(make_host(), open_small(data), make_config(**settings), OPERATIONS)


def test_every_subject_but_the_test_ones_judges_once_networks_that_never_saw_it(data):
    plan = planned(data)
    folds = deal_folds(plan)
    judges = [subject for fold in folds for subject in fold.validation]
    assert sorted(judges) == sorted((*plan.splits.train, *plan.splits.validation))
    assert all(not {*fold.train} & {*fold.validation} for fold in folds)
    assert all(len(fold.train) + len(fold.validation) == 8 for fold in folds)
    assert not {*judges} & {*plan.splits.test}


def test_enough_validation_subjects_judge_alone(data):
    plan = planned(data, crosswise_below=2)
    panel = seat_panel(plan, plan.supply())
    assert not panel.crosswise
    assert panel.supplies[0].cohort.subjects == plan.splits.validation
    assert not panel.supplies[0].choosing  # the judges do not choose what they judge
    assert plan.supply().choosing


def test_scores_of_folds_are_put_together_as_if_all_had_been_scored_at_once(data):
    plan = planned(data)
    panel = seat_panel(plan, plan.supply())
    assert panel.crosswise
    assert panel.to_dict() == {"subjects": 8, "folds": 3}
    found = panel.judge_one(plan.host)
    assert {values["subject"] for values in found.per_case.values()} == {
        *plan.splits.train,
        *plan.splits.validation,
    }
    dice = [values["dice"]["foreground"] for values in found.per_case.values()]
    assert found.dice_mean == pytest.approx(sum(dice) / 16)


def test_each_fold_is_judged_by_its_own_network(data):
    class Says(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, x):
            return torch.full_like(x, self.value)

    plan = planned(data)
    panel = seat_panel(plan, plan.supply())
    everything, nothing = Says(9.0), Says(-9.0)
    found = panel.judge([everything, nothing, nothing])
    hit = {values["subject"] for values in found.per_case.values() if values["dice"]["foreground"] > 0}
    assert hit == {*panel.supplies[0].cohort.subjects}
