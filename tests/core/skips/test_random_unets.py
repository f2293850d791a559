"""In random U-Nets, what is found equals what was planted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import surgeon
from tests.core.skips.planted import Nested, Planted, Spec

DEEPEST = {1: 5, 2: 5, 3: 3}


def specs_of(dims):
    return st.builds(
        Spec,
        dims=st.just(dims),
        depth=st.integers(1, DEEPEST[dims]),
        merge=st.sampled_from(["cat", "add"]),
        skip_first=st.booleans(),
        up=st.sampled_from(["conv", "plain", "transposed"]),
        down=st.sampled_from(["pool", "stride"]),
        gate=st.sampled_from(["none", "attention", "squeeze"]),
        project=st.booleans(),
        extra=st.integers(0, 3),
        residual=st.booleans(),
        pyramid=st.booleans(),
        heads=st.booleans(),
    )


specs = st.integers(1, 3).flatmap(specs_of)


def check(spec):
    torch.manual_seed(0)
    network = Planted(spec).eval()
    anatomy = surgeon.inspect(network, network.image())
    for refusal in anatomy.refusals:
        note(f"refused: {refusal}")
    found = [(s.kind.value, s.merge.value, s.merge_module, s.merge_shape) for s in anatomy.skips]
    assert found == network.planted()
    assert all(s.operand_index == (0 if spec.skip_first else 1) for s in anatomy.skips)
    assert all(s.implantable for s in anatomy.skips)


def check_nested(spec):
    torch.manual_seed(0)
    network = Nested(spec).eval()
    anatomy = surgeon.inspect(network, network.image())
    for refusal in anatomy.refusals:
        note(f"refused: {refusal}")
    found = [(s.kind.value, s.merge.value, s.merge_module, s.merge_shape) for s in anatomy.skips]
    assert sorted(found) == network.planted()
    assert all(s.implantable for s in anatomy.skips)


def anyhow(examples):
    return settings(
        max_examples=examples, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )


@given(specs)
@anyhow(15)
def test_what_is_found_equals_what_was_planted(spec):
    check(spec)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(specs)
@anyhow(60)
def test_what_is_found_equals_what_was_planted_in_many_more(spec):
    check(spec)


@given(specs.filter(lambda spec: spec.depth in {2, 3}))
@anyhow(8)
def test_dense_links_are_found_where_they_were_planted(spec):
    check_nested(spec)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@given(specs.filter(lambda spec: spec.depth < 5))
@anyhow(24)
def test_dense_links_are_found_where_they_were_planted_in_many_more(spec):
    check_nested(spec)
