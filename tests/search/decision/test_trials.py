from __future__ import annotations

import pytest
from surgeon.search.decision.panel import seat_panel
from surgeon.search.decision.trials import Trials
from surgeon.search.entrants import plain_entrants
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from surgeon.search.training.loop import Loop

from tests.search.small import make_config, make_host, open_small, write_data


@pytest.mark.parametrize("crosswise_below", [0, 30])
def test_a_brief_training_comes_to_the_same_however_few_cases_follow_it(tmp_path, crosswise_below):
    data = open_small(write_data(tmp_path / "squares", subjects=10))
    found, followed = [], []
    for cases in (1, 100):
        config = make_config(search_cases=cases, crosswise_below=crosswise_below, retrain_rate=0.02)
        plan = plan_operation(make_host(), data, config, OPERATIONS)
        loop = Loop(StopRequest())
        panel = seat_panel(plan, plan.supply())
        fixed = plain_entrants(plan.specs, config)[-1].genotype
        found.append(Trials(plan, loop, panel).run("try", fixed, config).scores.to_dict())
        followed.append([row["validation_dice"] for row in loop.history])
        assert len(found[-1]["per_case"]) == 2 * panel.to_dict()["subjects"]
    assert found[0] == found[1]
    assert followed[0] != followed[1]
