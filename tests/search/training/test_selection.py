from __future__ import annotations

import torch
from surgeon.search import Architecture, CellMerge, CellSpec, Edge, Inputs, Scope
from surgeon.search.training.selection import select_all, select_by_weight

OPERATIONS = ("none", "identity", "sep3")


def architecture(spec, alphas, betas):
    made = Architecture(spec)
    with torch.no_grad():
        made.alpha.copy_(torch.tensor(alphas))
        made.beta.copy_(torch.tensor(betas))
    return made


def test_the_classic_choice_is_worked_out_by_hand():
    """Edges: input0->state0; input0, state0->state1; input0, state0, state1->state2."""
    spec = CellSpec(16, 2, states=3, operations=OPERATIONS)
    found = select_by_weight(
        spec,
        architecture(
            spec,
            [[9, 0, 1], [0, 2, 0], [0, 0, 2], [0, 0, 3], [0, 3, 0], [0, 0, 3.0]],
            [0, 0, 0, 0, 1, 2.0],
        ),
    )
    assert found.edges == (
        Edge("input0", "state0", "sep3"),  # none weighs most and is passed over
        Edge("input0", "state1", "identity"),
        Edge("state0", "state1", "sep3"),
        Edge("state0", "state2", "identity"),  # of three equal edges the two with the larger beta
        Edge("state1", "state2", "sep3"),
    )


def test_beta_can_outweigh_a_better_operation():
    """Worth: 0.58 * 0.09 = 0.05 for the sure edge, 0.36 * 0.245 = 0.09 and 0.36 * 0.665 = 0.24."""
    spec = CellSpec(16, 2, states=3, operations=OPERATIONS)
    made = architecture(
        spec, [[0, 0, 0.0]] * 3 + [[0, 0, 1.0], [0, 0, 0.1], [0, 0, 0.1]], [0, 0, 0, 0, 1, 2.0]
    )
    last = [edge.source for edge in select_by_weight(spec, made).edges if edge.target == "state2"]
    assert last == ["state0", "state1"]


def test_ties_go_to_the_earlier_edge_and_operation():
    spec = CellSpec(16, 2, states=3, operations=OPERATIONS)
    edges = select_by_weight(spec, Architecture(spec)).edges
    assert [edge.source for edge in edges if edge.target == "state2"] == ["input0", "state0"]
    assert {edge.operation for edge in edges} == {"identity"}


def test_each_skip_gets_its_own_cell_or_all_share_one():
    specs = {"s0": CellSpec(16, 2, states=1), "s1": CellSpec(32, 2, states=1)}
    own = {name: Architecture(spec) for name, spec in specs.items()}
    settings = {"merge": CellMerge.RESIDUAL, "inputs": Inputs.ENCODER}
    assert [name for name, _ in select_all(specs, own, scope=Scope.PER_SKIP, **settings).cells] == [
        "s0",
        "s1",
    ]
    shared = select_all(specs, {"shared": own["s0"]}, scope=Scope.SHARED, **settings)
    assert shared.cell("s0") is shared.cell("s1")
