from __future__ import annotations

import pytest
from surgeon.search.decision.settling import Settling
from surgeon.search.decision.timings import Timings, known_prices
from surgeon.search.entrants import plain_entrants
from surgeon.search.interrupts import StopRequest
from surgeon.search.operations import OPERATIONS
from surgeon.search.planning import plan_operation
from surgeon.search.training.loop import Loop
from surgeon.search.training.stages import train_genotype

from tests.search.decision.test_contest import scores
from tests.search.small import make_config, make_host, open_small, write_data

WHOLE = scores(0.80, 0.82, 0.84, 0.86, 0.88, 0.90)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    data = open_small(write_data(tmp_path_factory.mktemp("data") / "squares"))
    plan = plan_operation(make_host(), data, make_config(crosswise_below=0), OPERATIONS)
    supply, loop = plan.supply(), Loop(StopRequest())
    settling = Settling(plan, supply, loop, known_prices(plan, Timings(None)))
    adapter = plain_entrants(plan.specs, plan.config)[1].genotype
    return settling, adapter, train_genotype("retrain", plan, supply, loop, adapter)


@pytest.mark.parametrize(
    ("thinner", "left"),
    [
        ((0.80, 0.82, 0.84, 0.86, 0.88, 0.90), 1),  # nobody misses it, and one has to stay
        ((0.801, 0.821, 0.839, 0.859, 0.881, 0.899), 1),
        ((0.79, 0.81, 0.83, 0.85, 0.87, 0.89), 2),
        ((0.84, 0.86, 0.88, 0.82, 0.84, 0.86), 2),  # as good on average, and worse for half of them
    ],
    ids=["same", "nearly", "worse", "unclear"],
)
def test_the_cell_of_a_skip_goes_where_it_is_certain_that_nobody_misses_it(
    trained, monkeypatch, thinner, left
):
    settling, adapter, whole = trained
    monkeypatch.setattr(
        settling,
        "scores",
        lambda network, cohort=None: WHOLE if network is whole.network else scores(*thinner),
    )
    genotype, found = settling.thinned(adapter, whole)
    assert len(dict(found.network.get_submodule("implants").named_children())) == left
    assert sum(genotype.cell(skip_id) is not None for skip_id in ("s0", "s1")) == left
    assert len(found.facts.get("taken_away", ())) == 2 - left
