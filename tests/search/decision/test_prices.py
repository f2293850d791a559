from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from surgeon.search import Config, DerivedCell
from surgeon.search.assembly import build_derived_cells, specify_cells
from surgeon.search.costs import count_flops, count_parameters
from surgeon.search.decision.fitting import fit_genotype
from surgeon.search.decision.prices import Budget, Price, list_prices, measure_times
from surgeon.search.entrants import fixed_cell, nothing, plain_entrants, plain_genotype, random_entrants
from surgeon.search.genotype import Form
from surgeon.search.operations import OPERATIONS

import surgeon
from surgeon.splicing import splice
from tests.search.small import SIDE, make_host

CONFIG = Config(states=3)
INPUTS = (torch.rand(1, 1, SIDE, SIDE),)


@pytest.fixture(scope="module")
def anatomy():
    return surgeon.inspect(make_host(), INPUTS)


@pytest.fixture(scope="module")
def specs(anatomy):
    return specify_cells(anatomy, CONFIG, OPERATIONS)


@pytest.fixture(scope="module")
def prices(anatomy, specs):
    return list_prices(make_host(), INPUTS, anatomy, specs, OPERATIONS)


def entrants(specs):
    random = random_entrants(specs, CONFIG)
    return [*plain_entrants(specs, CONFIG), next(random), next(random)]


def test_a_price_is_what_the_spliced_network_costs_beyond_its_host(specs, prices):
    host = make_host()
    for entrant in entrants(specs):
        network = splice(host, INPUTS, build_derived_cells(specs, entrant.genotype, 0, OPERATIONS)).eval()
        price = prices.of(entrant.genotype)
        assert price.parameters == count_parameters(network) - count_parameters(host), entrant.name
        assert price.flops == count_flops(network, INPUTS) - count_flops(host, INPUTS), entrant.name


def test_nothing_costs_nothing(prices):
    assert prices.of(nothing(CONFIG).genotype) == Price()


def test_an_adapter_is_counted_by_hand(prices):
    # 1x1 convolutions: 6 channels at 16x16, 8 at 8x8; a multiplication and an addition each.
    price = prices.of(plain_genotype(Form.ADAPTER, CONFIG))
    assert price.parameters == 6 * 6 + 6 + 8 * 8 + 8
    assert price.flops == 2 * (256 * 36 + 64 * 64)


def test_cheaper_is_fewer_flops_and_then_fewer_parameters():
    assert Price(1, 9) < Price(2, 1) < Price(2, 2)


def test_a_budget_says_what_does_not_fit():
    budget, host = Budget(parameters=0.1, flops=0.5), Price(1000, 200)
    assert budget.refusal(Price(500, 20), host) == ""
    assert budget.refusal(Price(501, 50), host) == (
        "25.0 % more parameters than the host, 50.1 % more FLOPs than the host"
    )
    assert budget.excess(Price(1000, 20), host) == pytest.approx(1.0)
    assert Budget().excess(Price(10**9, 10**9), host) == 0


@pytest.mark.parametrize(
    "budget",
    [Budget(flops=0.4), Budget(parameters=0.3), Budget(flops=0.1, parameters=0.1), Budget(flops=1e-6)],
)
def test_a_genotype_that_was_fitted_fits(specs, prices, budget):
    for entrant in entrants(specs):
        fitted = fit_genotype(entrant.genotype, prices, budget, {})
        assert budget.refusal(prices.of(fitted), prices.host) == "", entrant.name
        build_derived_cells(specs, fitted, 0, OPERATIONS)


def test_a_genotype_that_fits_is_left_alone(specs, prices):
    for entrant in entrants(specs):
        assert fit_genotype(entrant.genotype, prices, Budget(flops=100), {}) == entrant.genotype


def test_the_operation_that_is_worth_least_is_exchanged_first(specs, prices):
    genotype = plain_entrants(specs, CONFIG)[-1].genotype
    cell = genotype.cell("s0")
    worths = {
        "shared": {
            f"{edge.source}->{edge.target}": {
                "sep3": 0.9,
                "pointwise": 0.0,
                "max3": 0.05 if place == 2 else 0.0,
            }
            for place, edge in enumerate(cell.edges)
        }
    }
    just_over = replace(prices, host=Price(prices.of(genotype).flops - 1, 1))
    fitted = fit_genotype(genotype, just_over, Budget(flops=1.0), worths).cell("s0")
    changed = [
        (place, edge.operation) for place, edge in enumerate(fitted.edges) if edge != cell.edges[place]
    ]
    assert changed == [(2, "max3")]


def test_times_are_measured_for_every_operation_on_every_skip(anatomy, specs, prices):
    timed = prices.with_times(2.0, measure_times(prices, INPUTS, anatomy, specs, OPERATIONS))
    rows = timed.to_dict()
    assert rows.keys() == {"s0", "s1"}
    assert set(rows["s0"]) == {"around", *OPERATIONS} - {"none"}
    assert all(row["milliseconds"] > 0 for table in rows.values() for row in table.values())
    genotype = plain_genotype(Form.AFFINE, CONFIG)
    assert timed.of(genotype).milliseconds == sum(
        timed.forms[skip][Form.AFFINE].milliseconds for skip in rows
    )
    assert Budget(latency=1e-9).refusal(timed.of(genotype), timed.host).endswith("more time than the host")


def test_the_fixed_cell_can_be_built_with_any_operation(specs):
    spec = specs["s0"]
    for operation in OPERATIONS:
        cell = DerivedCell(spec, fixed_cell(spec, operation))
        assert {edge.operation for edge in cell.genotype.edges} == {operation}
