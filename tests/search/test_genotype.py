from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from surgeon.search.genotype import CellGenotype, CellMerge, Edge, Genotype, Inputs, Scope, state_names

from surgeon.errors import InputError


@st.composite
def genotypes(draw):
    inputs, states = draw(st.sampled_from(Inputs)), draw(st.integers(1, 5))
    names = state_names(inputs, states)

    def cell():
        edges = []
        for target in range(inputs.number, len(names)):
            sources = draw(st.lists(st.integers(0, target - 1), min_size=1, max_size=2, unique=True))
            edges += [
                Edge(names[s], names[target], draw(st.text(min_size=1, max_size=8))) for s in sorted(sources)
            ]
        return CellGenotype(draw(st.floats(0.01, 2)), tuple(edges))

    scope = draw(st.sampled_from(Scope))
    keys = ["shared"] if scope is Scope.SHARED else [f"s{i}" for i in range(draw(st.integers(1, 4)))]
    cells = tuple((key, cell() if draw(st.booleans()) else None) for key in keys)
    return Genotype(scope, inputs, draw(st.sampled_from(CellMerge)), states, cells)


EXAMPLE = Genotype(
    Scope.PER_SKIP,
    Inputs.ENCODER,
    CellMerge.RESIDUAL,
    2,
    (
        ("s0", CellGenotype(0.25, (Edge("input0", "state0", "sep3"), Edge("state0", "state1", "max3")))),
        ("s1", None),
    ),
)


# The first draw of text builds tables, on a busy machine for a second.
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(genotypes())
def test_json_brings_back_an_equal_genotype(genotype):
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_the_json_is_the_one_that_others_read():
    assert json.loads(EXAMPLE.to_json()) == {
        "version": 1,
        "scope": "per-skip",
        "inputs": "encoder",
        "merge": "residual",
        "states": 2,
        "cells": {
            "s0": {
                "width": 0.25,
                "edges": [
                    {"from": "input0", "to": "state0", "operation": "sep3"},
                    {"from": "state0", "to": "state1", "operation": "max3"},
                ],
            },
            "s1": None,
        },
    }


def test_a_skip_may_have_no_cell():
    assert EXAMPLE.cell("s1") is None
    assert EXAMPLE.cell("s0").edges[0].operation == "sep3"


def test_a_shared_cell_is_that_of_every_skip():
    shared = Genotype(Scope.SHARED, Inputs.ENCODER, CellMerge.RESIDUAL, 2, (("shared", EXAMPLE.cell("s0")),))
    assert shared.cell("s7") == EXAMPLE.cell("s0")


def test_a_skip_that_the_genotype_does_not_name_is_an_error():
    with pytest.raises(InputError, match="the genotype says nothing of 's9'"):
        EXAMPLE.cell("s9")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_an_unknown_version_is_refused(version):
    with pytest.raises(InputError, match=f"genotype version {version!r} is unknown"):
        Genotype.from_dict({**EXAMPLE.to_dict(), "version": version})


def test_text_that_is_not_json_is_refused_with_its_file():
    with pytest.raises(InputError, match="not JSON") as caught:
        Genotype.from_json("{", where="genotype.json")
    assert caught.value.where == "genotype.json"


@pytest.mark.parametrize("key", ["scope", "inputs", "merge", "states", "cells"])
def test_a_missing_field_is_refused(key):
    value = EXAMPLE.to_dict()
    del value[key]
    with pytest.raises(InputError, match=f"ill-formed genotype: KeyError\\('{key}'\\)"):
        Genotype.from_dict(value)


def test_an_unknown_merge_is_refused():
    with pytest.raises(InputError, match=r"ill-formed genotype.*'sum' is not a valid CellMerge"):
        Genotype.from_dict({**EXAMPLE.to_dict(), "merge": "sum"})


@pytest.mark.parametrize(
    ("source", "target"),
    [("state1", "state0"), ("state0", "state0"), ("input0", "input0"), ("input1", "state0")],
)
def test_an_edge_that_no_cell_has_is_refused(source, target):
    value = EXAMPLE.to_dict()
    value["cells"]["s0"]["edges"][0] = {"from": source, "to": target, "operation": "sep3"}
    with pytest.raises(InputError, match=f"{source} -> {target} is no edge of a cell with 2 states"):
        Genotype.from_dict(value)
