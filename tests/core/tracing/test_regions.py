"""What torch.export keeps as regions of their own is part of the graph, and its skips are found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgeon
from surgeon.tracing import trace
from tests.core import networks
from tests.core.networks import image

# A reentrant checkpoint complains of being run without gradients.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class FrozenEncoder(networks.UNet):
    """A U-Net that runs without gradients, one block of it with autocast off."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.shift = torch.tensor([0.5])
            x = x + self.shift
            with torch.autocast("cpu", enabled=False):
                x = x * 2
            return super().forward(x)


class Checkpointed(networks.UNet):
    """A U-Net whose encoder is computed again for the gradients, by a reentrant checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("enc0", "enc1"):
            setattr(self, name, _Again(getattr(self, name)))


class _Again(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=True)


@pytest.mark.parametrize("build", [FrozenEncoder, Checkpointed])
def test_the_skips_inside_a_region_without_gradients_are_found(build):
    anatomy = surgeon.inspect(build(), image())
    assert [(s.merge_module, s.merge_shape) for s in anatomy.skips] == [
        ("join0", (1, 4, 16, 16)),
        ("join1", (1, 6, 8, 8)),
    ]


@pytest.mark.parametrize("build", [FrozenEncoder, Checkpointed])
def test_a_network_with_regions_is_traced_with_free_sizes_and_nothing_hidden(build):
    host = build().eval()
    graph = trace(host, image()).graph_module
    assert not [n for n in graph.graph.nodes if "higher_order" in str(n.target) or "wrap_" in str(n.target)]
    with torch.no_grad():
        x = image(size=24, batch=3)
        assert torch.equal(graph(x), host(x))


def test_gradients_pass_through_what_the_host_runs_without():
    host = FrozenEncoder()
    scale = nn.Conv2d(4, 4, 1)
    spliced = surgeon.splice(host, image(), {"s0": scale})
    spliced(image()).sum().backward()
    assert scale.weight.grad is not None


class _Rounds(nn.Module):
    """Autocast that is on: the region computes in another precision than its nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.conv(x)


def test_a_region_with_autocast_on_stays():
    graph = trace(_Rounds(), image()).graph_module
    assert [n.name for n in graph.graph.nodes if "wrap_with_autocast" in str(n.target)]
