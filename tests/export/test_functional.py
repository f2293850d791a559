import pytest
import torch
from surgeon.export.functional import mutates, without_mutation
from torch import nn


class Computes(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.drop = nn.Dropout()

    def forward(self, x):
        return self.compute(self, x * 2)


def graph_of(compute):
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    program = torch.export.export(Computes(compute).eval(), (x,), strict=False)
    return program.module(check_guards=False), x


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, y: y.relu_(),
        lambda m, y: y.relu_().add_(1),
        lambda m, y: y.add_(y.exp()),
        lambda m, y: m.drop(y).relu_(),
        lambda m, y: (z := m.drop(y), z.relu_(), y + z)[2],
        lambda m, y: torch.cat([y.sigmoid(), y.mul_(3)], 1),
    ],
)
def test_what_nobody_reads_again_is_written_out_of_place(compute):
    source, x = graph_of(compute)
    expected = source(x)
    found = without_mutation(source)
    assert found is not None
    assert not any(mutates(node) for node in found.graph.nodes)
    assert torch.equal(found(x), expected)


@pytest.mark.parametrize(
    "compute",
    [
        lambda m, y: (y[:, :1].add_(1), y)[1],
        lambda m, y: (view := y.view(-1), y.relu_(), view)[2],
        lambda m, y: y.add_(torch.ones(1, dtype=torch.float64)),
    ],
)
def test_what_others_can_see_is_left_to_torch(compute):
    source, _ = graph_of(compute)
    assert without_mutation(source) is None


def test_a_network_that_writes_into_its_input_is_left_to_torch():
    x = torch.randn(2, 3)
    source = torch.export.export(nn.ReLU(inplace=True), (x,)).module(check_guards=False)
    assert without_mutation(source) is None
