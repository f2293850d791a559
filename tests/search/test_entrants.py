from __future__ import annotations

import copy
import itertools

import pytest
import torch
from surgeon.search import CellSpec, Config, Genotype
from surgeon.search.assembly import build_derived_cells, build_implant
from surgeon.search.cells import Affine, Gate
from surgeon.search.entrants import (
    nothing,
    plain_entrants,
    plain_genotype,
    random_entrants,
    wider_entrants,
)
from surgeon.search.genotype import Form
from surgeon.search.operations import OPERATIONS
from torch import nn

SPECS = {
    "s0": CellSpec(6, 2, decoder_channels=5, states=3),
    "s1": CellSpec(8, 2, decoder_channels=8, states=3),
}


@pytest.mark.parametrize("form", [Form.ADAPTER, Form.AFFINE, Form.GATE])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_plain_form_is_the_skip_to_the_bit_at_birth_and_learns(form, dims):
    spec = CellSpec(6, dims, decoder_channels=5)
    module = build_implant(spec, plain_genotype(form, Config()).cell("s0"), OPERATIONS)
    skip, decoder = torch.randn(2, 6, *(4,) * dims), torch.randn(2, 5, *(4,) * dims)
    given = (skip, decoder) if getattr(module, "needs_decoder", False) else (skip,)
    assert torch.equal(module(*given), skip)
    (module(*given) - torch.randn_like(skip)).pow(2).mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in module.parameters())


def test_a_gate_closes_where_skip_and_decoder_say_so():
    gate = Gate(SPECS["s0"])
    nn.init.constant_(gate.attention.bias, -100.0)
    assert torch.equal(gate(torch.ones(1, 6, 3, 3), torch.ones(1, 5, 3, 3)), torch.zeros(1, 6, 3, 3))


def test_an_affine_scales_and_shifts_each_channel_by_itself():
    affine = Affine(CellSpec(2, 1))
    with torch.no_grad():
        affine.scale[1], affine.shift[0] = 3.0, 1.0
    assert affine(torch.full((1, 2, 1), 2.0)).flatten().tolist() == [3.0, 6.0]


@pytest.mark.parametrize("entrant", [nothing(Config()), *plain_entrants(SPECS, Config(states=3))], ids=str)
def test_what_needs_no_search_reads_back_from_json(entrant):
    assert Genotype.from_json(entrant.genotype.to_json()) == entrant.genotype


def test_the_wider_fixed_cell_has_one_operation_on_every_edge_and_enters_where_that_is_allowed():
    (wider,) = wider_entrants(SPECS, Config(states=3))
    cell = wider.genotype.cell("s0")
    assert wider.name == "sep5"
    assert [(edge.source, edge.target) for edge in cell.edges] == [
        ("input0", "state0"),
        ("input0", "state1"),
        ("state0", "state1"),
        ("state0", "state2"),
        ("state1", "state2"),
    ]
    assert {edge.operation for edge in cell.edges} == {"sep5"}
    assert wider_entrants(SPECS, Config(operations=("none", "sep3"))) == ()


def test_nothing_puts_nothing_anywhere():
    assert build_derived_cells(SPECS, nothing(Config()).genotype, 0, OPERATIONS) == {}


@pytest.mark.parametrize("scope", ["shared", "per-skip"])
def test_random_cells_are_those_of_the_seed_and_have_two_links_into_each_state(scope):
    config = Config(states=3, genotype=scope)
    first, again = (list(itertools.islice(random_entrants(SPECS, config), 5)) for _ in range(2))
    assert first == again
    assert len({entrant.genotype for entrant in first}) == 5
    assert first != list(itertools.islice(random_entrants(SPECS, Config(states=3, seed=1)), 5))
    for entrant in first:
        edges = entrant.genotype.cell("s1").edges
        assert [edge.target for edge in edges] == ["state0", "state1", "state1", "state2", "state2"]
        assert "none" not in {edge.operation for edge in edges}
        assert build_derived_cells(SPECS, entrant.genotype, 0, OPERATIONS).keys() == SPECS.keys()
    assert (first[0].genotype.cell("s0") == first[0].genotype.cell("s1")) == (scope == "shared")


def test_every_operation_and_every_link_is_drawn():
    drawn = list(itertools.islice(random_entrants(SPECS, Config(states=3)), 200))
    edges = {edge for entrant in drawn for edge in entrant.genotype.cell("s0").edges}
    assert {edge.operation for edge in edges} == set(OPERATIONS) - {"none"}
    assert len({(edge.source, edge.target) for edge in edges}) == 6


def test_a_genotype_without_a_cell_on_one_skip_keeps_the_others():
    genotype = plain_genotype(Form.ADAPTER, Config())
    thinner = genotype.without({"s0"}, SPECS)
    assert (thinner.cell("s0"), thinner.cell("s1")) == (None, genotype.cell("s1"))
    assert Genotype.from_json(thinner.to_json()) == thinner
    assert copy.deepcopy(thinner) == thinner
