from __future__ import annotations

import pytest
import torch
from surgeon.search.cells import Architecture, CellSpec
from surgeon.search.step.mirror import ExponentiatedGradient

OPERATIONS = ("none", "identity", "sep3")


def descend(architecture, loss, steps, rate):
    """Follow the gradients of a loss of the operation weights and edge weights."""
    optimizer = ExponentiatedGradient([architecture], rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(*architecture()).backward()
        optimizer.step()
    return architecture()


def test_on_a_linear_loss_the_weights_are_those_of_the_closed_form():
    # theta after T steps is theta0 * exp(-T * rate * cost), scaled to 1: cost (0, 1, 2), 5 steps of 0.1.
    cost = torch.tensor([0.0, 1.0, 2.0])
    made = Architecture(CellSpec(16, 2, states=1, operations=OPERATIONS))
    weights, edges = descend(made, lambda theta, _: (theta * cost).sum(), 5, 0.1)
    # 1, exp(-0.5) and exp(-1) over their sum, 1.9744101
    assert weights[0].tolist() == pytest.approx([0.5064804, 0.3071959, 0.1863237], abs=1e-6)
    assert edges.tolist() == [1.0]


def test_on_a_convex_loss_the_weights_reach_its_minimum_inside_and_at_a_corner():
    inside, corner = torch.tensor([0.2, 0.3, 0.5]), torch.tensor([2.0, 0.0, 0.0])
    for goal, least in ((inside, [0.2, 0.3, 0.5]), (corner, [1.0, 0.0, 0.0])):
        made = Architecture(CellSpec(16, 2, states=1, operations=OPERATIONS))
        weights, _ = descend(made, lambda theta, _, goal=goal: ((theta - goal) ** 2).sum(), 300, 0.3)
        assert weights[0].tolist() == pytest.approx(least, abs=1e-3)


def test_edges_of_each_state_stay_on_a_simplex_of_their_own():
    made = Architecture(CellSpec(16, 2, states=2, operations=OPERATIONS))
    cost = torch.tensor([5.0, 0.0, 1.0])  # one edge into the first state, two into the second
    _, edges = descend(made, lambda _, edges: (edges * cost).sum(), 10, 0.1)
    first, second, third = edges.tolist()
    assert first == 1.0
    assert second + third == pytest.approx(1.0)
    assert third / second == pytest.approx(0.3678794, abs=1e-5)  # exp(-10 * 0.1 * 1)


def test_what_was_taken_out_stays_out_and_weights_of_nearly_nothing_do_no_harm():
    made = Architecture(CellSpec(16, 2, states=1, operations=OPERATIONS))
    made.kept[0, 2] = False
    cost = torch.tensor([0.0, 1e4, -1.0])
    weights, _ = descend(made, lambda theta, _: (theta * cost).sum(), 50, 1.0)
    assert weights[0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert torch.isfinite(made.alpha).all()


def test_a_tensor_without_a_gradient_stays_where_it_is():
    made = Architecture(CellSpec(16, 2, states=1, operations=OPERATIONS), torch.Generator().manual_seed(0))
    before = made.alpha.detach().clone()
    ExponentiatedGradient([made], 0.1).step()
    assert torch.equal(made.alpha, before)
