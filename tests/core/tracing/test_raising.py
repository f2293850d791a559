"""Checks of values are no branches, in the graph and in what is made of it."""

from __future__ import annotations

import pytest
import torch
from surgeon.export import to_onnx

from surgeon.errors import TraceError
from surgeon.tracing import trace
from tests.core.tracing import checking


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (checking.asserted, [True]),
        (checking.asserted_not, [False]),
        (checking.asserted_both, [True, True]),
        (checking.complained, [False]),
        (checking.complained_otherwise, [True]),
        (checking.branched, [None]),
        (checking.caught, [None]),
        (checking.complained_after_all, [None]),
    ],
)
def test_the_answer_that_does_not_raise_is_known_where_the_other_one_does(
    function: object, expected: list[bool | None]
) -> None:
    probe = checking.Probe()
    function(probe)  # type: ignore[operator]
    assert probe.answers == expected


def test_a_network_that_checks_its_images_is_traced_and_exported_with_free_sizes(tmp_path: object) -> None:
    host, x = checking.Careful().eval(), torch.rand(1, 1, 16, 16)
    traced = trace(host, x)
    assert traced.summary.free_sizes
    assert torch.equal(traced.graph_module(x), host(x))
    assert to_onnx(host, x, f"{tmp_path}/out").freedom.sizes
    with pytest.raises(AssertionError, match="not between"):
        host(x - 1)


def test_a_branch_that_does_not_raise_is_refused_as_before() -> None:
    with pytest.raises(TraceError) as caught:
        trace(checking.Careful(branches=True).eval(), torch.rand(1, 1, 16, 16))
    assert "self.branches and x.sum() > 0" in caught.value.where
