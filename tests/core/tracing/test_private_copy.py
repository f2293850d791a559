"""The copy that takes a tracer's marks instead of the host."""

import threading

import pytest
import torch
from torch import nn

from surgeon.copying import copied
from surgeon.errors import HostError
from surgeon.tracing import private_copy, trace


class _Remembering(nn.Module):
    """Keeps its last activation, as networks with feature hooks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = [self.conv(x)]
        return self.seen[0].relu()


def test_a_host_that_kept_an_activation_with_gradients_is_traced():
    host = _Remembering()
    host(torch.rand(1, 1, 8, 8))
    kept = host.seen[0]
    assert kept.grad_fn is not None
    traced = trace(host, torch.rand(1, 1, 8, 8))
    assert traced.summary.free_sizes
    assert host.seen[0] is kept


class _Hook:
    """Keeps what a module gave, as the hooks of fastai's U-Nets do."""

    def __call__(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        self.stored = output


def test_a_host_whose_hooks_kept_activations_is_traced():
    host = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    host.hook = _Hook()
    host[0].register_forward_hook(host.hook)
    host(torch.rand(1, 1, 8, 8))
    kept = host.hook.stored
    assert trace(host, torch.rand(1, 1, 8, 8)).summary.free_sizes
    assert host.hook.stored is kept
    assert copied(host).hook.stored.equal(kept)


class _Configuration(dict):
    """Answers every name with an item, also those that `copy` asks for."""

    __getattr__ = dict.__getitem__


def test_what_cannot_be_copied_and_is_nothing_of_the_network_is_shared():
    host = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    host.configuration = _Configuration(depth=1, inner=_Configuration(width=2))
    host[0].lock = threading.Lock()
    made = copied(host)
    assert made.configuration is host.configuration
    assert made[0].lock is host[0].lock
    assert made[0].weight is not host[0].weight
    assert trace(host, torch.rand(1, 1, 8, 8)).summary.free_sizes


@pytest.mark.parametrize("part", [nn.Conv2d(1, 1, 1), torch.ones(1), [torch.ones(1)]])
def test_a_host_that_cannot_be_copied_is_refused_and_left_in_its_mode(part):
    host = nn.Sequential(nn.Conv2d(1, 1, 1)).train()
    host.parts = _Configuration(inner=part)
    with pytest.raises(HostError, match="cannot be copied: KeyError"):
        private_copy(host)
    assert host.training
