"""Where the time of a training goes, told by modules that say how long they take."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from surgeon.search.fleet import Fleet
from surgeon.search.interrupts import StopRequest
from surgeon.search.step import bill
from surgeon.search.step.bill import Clock, Part
from surgeon.search.step.features import FeatureCache
from surgeon.search.step.forward import Forward
from surgeon.search.step.gradients import Gradients
from surgeon.search.step.precision import Precision
from surgeon.search.training.loop import Loop
from torch import nn

from surgeon.data import Batches
from surgeon.splicing import splice
from tests.search.small import SIDE, make_host, open_small, write_data

CPU = torch.device("cpu")


@pytest.fixture
def now(monkeypatch):
    """The time, which goes on only where something says that it took long."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(bill, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


class Work(nn.Module):
    """Takes some seconds forward and some backward."""

    def __init__(self, now, forward, backward):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.now, self.times = now, (forward, backward)

    def forward(self, x):
        return Spend.apply(x * self.weight, self.now, *self.times)


class Spend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, now, forward, backward):
        now.seconds += forward
        ctx.now, ctx.backward_seconds = now, backward
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.now.seconds += ctx.backward_seconds
        return gradient, None, None, None


class SlowBatches(Batches):
    """Batches that take long to make."""

    def batch(self, epoch, step):
        self.now.seconds += 0.5
        return super().batch(epoch, step)


class SlowSGD(torch.optim.SGD):
    def step(self, closure=None):
        self.now.seconds += 7.0
        return super().step(closure)


def after(part, name, call):
    """Have a part of the host do something with what one of its nodes gives."""
    node = next(node for node in part.graph.nodes if node.name == name)
    with part.graph.inserting_after(node):
        new = part.graph.call_function(call, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    part.recompile()


class Training:
    """A phase of two epochs of two steps, with a host that works before and after its cells."""

    name, epochs, steps = "training", 2, 2

    def __init__(self, now, data, clock):
        self.now = now
        cells = {"s0": Work(now, 10.0, 20.0), "s1": Work(now, 100.0, 200.0)}
        network = splice(make_host(), torch.rand(2, 1, SIDE, SIDE), cells)
        self.batches = SlowBatches(open_small(data), None, 2, augment=True)
        self.batches.now = now
        self.forward = Forward(network, self.batches, CPU, FeatureCache(), clock=clock)
        # The host works once before any cell, where no gradient comes, and once between the two.
        first, second = self.forward.halves._first, self.forward.halves._second
        after(first, "relu", lambda x: Spend.apply(x, now, 1.0, 1e6))
        after(second, "relu_3", lambda x: Spend.apply(x, now, 2.0, 4.0))
        self.gradients = Gradients(Fleet(), Precision.FP32, clock)
        self.weights = [cell.weight for cell in network.get_submodule("implants").children()]
        self.optimizer = SlowSGD(self.weights, lr=0.0)
        self.optimizer.now = now

    def begin_epoch(self, epoch):
        """Set nothing."""

    def step(self, epoch, step):
        drawn = self.forward.draw(self.batches, epoch, step)
        loss = self.forward.finish(drawn.features, drawn.shape).square().mean()
        self.gradients.put(self.gradients.of(loss, self.weights), self.weights, self.optimizer)
        self.gradients.follow(self.optimizer)
        return loss.detach()

    def end_epoch(self, epoch):
        return {"validation_dice": 0.0}

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        """Nothing is kept."""


def test_time_is_told_apart_by_what_it_was_spent_on_forward_and_backward(now, tmp_path):
    clock = Clock()
    phase = Training(now, write_data(tmp_path / "data"), clock)
    clock.take()
    loop = Loop(StopRequest(), clock=clock)
    position = loop.run(phase)
    steps = 4
    assert position.spent["data"] == pytest.approx(steps * 0.5)
    assert position.spent["host"] == pytest.approx(steps * (1 + 2 + 4))
    assert position.spent["cells"] == pytest.approx(steps * (110 + 220))
    assert position.spent["optimiser"] == pytest.approx(steps * 7.0)
    assert loop.spent == position.spent
    assert not any(module._forward_hooks for module in phase.forward.halves.network.modules())


def test_what_is_spent_at_rest_is_not_counted(now):
    clock = Clock()
    clock.enter(Part.HOST)
    now.seconds += 2
    clock.rest()
    now.seconds += 100
    clock.enter(Part.HOST)
    now.seconds += 3
    assert clock.take() == {"host": 5.0}
    assert clock.take() == {}
