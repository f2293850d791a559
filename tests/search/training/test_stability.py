from __future__ import annotations

import math

import pytest
import torch
from surgeon.search import (
    Architecture,
    CellGenotype,
    CellMerge,
    CellSpec,
    Config,
    Edge,
    Genotype,
    Inputs,
    Scope,
)
from surgeon.search.decision.perturbation import TRIED, select_by_perturbation
from surgeon.search.interrupts import StopRequest
from surgeon.search.training.loop import Loop
from surgeon.search.training.stability import (
    LEAST_KEPT,
    Watch,
    divergence,
    dominant_eigenvalue,
    entropy,
    identity_share,
    margin,
    prune,
)
from torch import nn

OPERATIONS = ("none", "identity", "max3", "sep3", "pointwise")
SPEC = CellSpec(16, 2, states=2, operations=OPERATIONS)
CONFIG = Config(stable_after=4, stable_window=2, stable_margin=0.2)


def test_divergence_is_0_for_equals_1_for_strangers_and_symmetric():
    x, y = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.1, 0.3, 0.6])
    assert divergence(x, x) == 0
    assert divergence(torch.eye(2)[0], torch.eye(2)[1]) == pytest.approx(1)
    torch.testing.assert_close(divergence(x, y), divergence(y, x))


def test_margin_and_entropy():
    weights = torch.tensor([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(margin(weights), torch.tensor([math.log(2), 0.0]))
    torch.testing.assert_close(entropy(weights)[1], torch.tensor(1.0))


def test_an_edge_that_nothing_moves_does_not_keep_the_search_going_but_one_that_moves_does():
    for moves, ended in (([0.0] * 12, True), ([0.3 * (-1) ** k for k in range(12)], False)):
        watch, architecture = Watch(CONFIG.model_copy(update={"prune": False})), Architecture(SPEC)
        reasons = []
        for epoch, move in enumerate(moves):
            with torch.no_grad():
                architecture.alpha[:2, -1] += 1.0 if epoch == 0 else 0.0
                architecture.alpha[2, -1] += move
            reasons.append(watch.see({"shared": architecture}, 0.0))
        assert any("67 % of the edges" in reason for reason in reasons) is ended


def watched(steps, config=CONFIG, identities=0.0):
    """Show an architecture to a watch after moves of alpha's last operation; return why the search ends."""
    watch, architecture = Watch(config), Architecture(SPEC)
    for epoch, step in enumerate(steps):
        with torch.no_grad():
            architecture.alpha[:, -1] += step
        reason = watch.see({"shared": architecture}, identities)
        if reason:
            return epoch + 1, reason, architecture
    return len(steps), "", architecture


def test_weights_that_never_moved_are_not_stable():
    assert watched([0.0] * 20)[1] == ""


def test_weights_that_stand_still_and_apart_end_the_search_but_never_before_their_time():
    epochs, reason, _ = watched([1.0] + [0.0] * 20, CONFIG.model_copy(update={"prune": False}))
    assert (epochs, reason) == (4, "its choice was stable on 100 % of the edges, and nothing moved any more")
    assert watched([1.0] + [0.0] * 20, Config(early=False))[1] == ""


def test_weights_that_are_apart_but_still_move_are_not_stable():
    assert watched([0.5] * 6, CONFIG.model_copy(update={"prune": False}))[1] == ""


def test_stable_edges_are_pruned_before_the_search_ends():
    epochs, reason, architecture = watched([1.0] + [0.0] * 20)
    assert reason
    assert epochs > 4
    assert architecture.kept.sum(1).tolist() == [LEAST_KEPT] * 3
    assert bool(architecture.kept[:, -1].all())
    torch.testing.assert_close(architecture()[0].sum(1), torch.ones(3))
    assert bool((architecture()[0][~architecture.kept] == 0).all())


def test_what_is_pruned_has_not_moved():
    watch, architecture = Watch(CONFIG), Architecture(SPEC)
    with torch.no_grad():
        architecture.alpha[:, -1] += 1.0
    pruned = []
    for _ in range(5):
        watch.see({"shared": architecture}, 0.0)
        pruned.append((int(architecture.kept.sum()), watch.still()))
    # Pruned at the end of the fourth epoch, and still in the fifth, which sees the narrower weights.
    assert pruned[3:] == [(LEAST_KEPT * 3, True), (LEAST_KEPT * 3, True)]


def test_pruning_takes_the_weakest_of_stable_edges_alone():
    architecture = Architecture(SPEC)
    with torch.no_grad():
        architecture.alpha.copy_(torch.tensor([0.0, 4.0, 3.0, 2.0, 1.0]).expand(3, 5))
    assert prune(architecture, torch.tensor([True, False, False])) == 2
    assert architecture.kept[0].tolist() == [False, True, True, True, False]
    assert bool(architecture.kept[1:].all())


def test_a_selection_of_identities_goes_back_to_the_last_that_was_none():
    watch, architecture = Watch(CONFIG), Architecture(SPEC)
    shares = [0.0] * 5 + [0.8] * 9
    for epoch, share in enumerate(shares):
        with torch.no_grad():
            architecture.alpha.fill_(float(epoch))
        reason = watch.see({"shared": architecture}, share)
        if reason:
            break
    assert reason == "identities took over: back to the architecture of 3 epochs before"
    assert float(architecture.alpha.detach()[0, 0]) == 4.0  # the fifth epoch, the last healthy one


def test_an_eigenvalue_that_runs_away_ends_the_search_as_well():
    watch, architecture = Watch(CONFIG), Architecture(SPEC)
    reasons = [watch.see({"shared": architecture}, 0.0, 1.2**epoch) for epoch in range(14)]
    assert "the Hessian's eigenvalue ran away" in next(reason for reason in reasons if reason)
    calm = Watch(CONFIG)
    assert not any(calm.see({"shared": architecture}, 0.0, 1.0) for _ in range(14))


def test_a_watch_goes_on_where_it_was():
    first, architecture = Watch(CONFIG), Architecture(SPEC)
    for share in (0.0, 0.0, 0.0, 0.0, 0.9):
        first.see({"shared": architecture}, share, 1.0)
    second = Watch(CONFIG)
    second.load_state_dict(first.state_dict())
    assert second == first


def test_the_dominant_eigenvalue_of_a_known_hessian():
    x = nn.Parameter(torch.tensor([0.3, -0.2, 0.5]))
    loss = 0.5 * (torch.tensor([1.0, 7.0, 3.0]) * x**2).sum()
    value = dominant_eigenvalue(loss, [x], torch.Generator().manual_seed(0), rounds=40)
    assert value == pytest.approx(7.0, rel=1e-4)


def test_identities_are_counted_over_all_cells():
    edges = (Edge("input0", "state0", "identity"), Edge("input0", "state1", "sep3"))
    cells = (("s0", CellGenotype(0.25, edges)), ("s1", CellGenotype(0.25, edges[:1])), ("s2", None))
    genotype = Genotype(Scope.PER_SKIP, Inputs.ENCODER, CellMerge.RESIDUAL, 2, cells)
    assert identity_share(genotype) == pytest.approx(2 / 3)


def perturb(worth, spec=SPEC, architecture=None):
    """Select where Dice is the sum of what each open operation on each open edge is worth."""
    architecture = architecture or Architecture(spec)

    def measure():
        open_ones = architecture.kept & architecture.kept_edges[:, None]
        return float((worth * open_ones).sum()), 0.0

    return select_by_perturbation(
        {"s0": spec}, {"shared": architecture}, measure, scope=Scope.SHARED, merge=CellMerge.RESIDUAL,
        inputs=Inputs.ENCODER,
    )  # fmt: skip


def test_the_operation_that_is_missed_most_is_kept_whatever_alpha_says():
    spec = CellSpec(16, 2, states=3, operations=("none", "identity", "max3", "sep3"))
    worth = torch.zeros(6, 4)
    worth[:, 0] = 99.0  # none is never chosen
    for edge, column in enumerate((1, 2, 3, 3, 2, 1)):
        worth[edge, column] = 1.0 + edge
    architecture = Architecture(spec)
    with torch.no_grad():
        architecture.alpha[:, 1] = 5.0
    before = architecture.kept.clone(), architecture.kept_edges.clone()
    genotype, trials = perturb(worth, spec, architecture)
    edges = genotype.cell("s0").edges
    assert [edge.operation for edge in edges] == ["identity", "max3", "sep3", "max3", "identity"]
    # The last state has three edges, of which the one that is worth least goes.
    assert [edge.source for edge in edges if edge.target == "state2"] == ["state0", "state1"]
    assert len(trials) == 6 * 3 + 3
    assert torch.equal(architecture.kept, before[0])
    assert torch.equal(architecture.kept_edges, before[1])


def test_the_operations_that_weigh_most_are_tried_and_pruned_ones_never():
    spec = CellSpec(16, 2, states=1)
    architecture = Architecture(spec)
    architecture.kept[0, 1] = False
    _, trials = perturb(torch.zeros(1, 9), spec, architecture)
    assert len(trials) == TRIED
    assert "identity" not in {trial.operation for trial in trials}


def test_a_phase_may_end_before_its_last_epoch():
    class Short:
        name, epochs, steps = "short", 9, 1

        def begin_epoch(self, epoch):
            """Do nothing."""

        def step(self, epoch, step):
            return 0.0

        def end_epoch(self, epoch):
            self.epochs = 3 if epoch == 2 else self.epochs
            return {"validation_dice": 0.0}

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            """Do nothing."""

    assert Loop(StopRequest()).run(Short()).epoch == 3
