"""Inputs of a forward that are filled in."""

from __future__ import annotations

import copy
import functools
import warnings

import pytest
import torch
from torch import Tensor, nn

import surgeon
from surgeon.errors import InputError
from surgeon.filling import fill_inputs, split_image


class Modal(nn.Module):
    """Asks for a mode in the midst of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mid, self.dec = nn.Conv2d(1, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(
        self, x: Tensor, mode: str, scale: float = 1.0, *, sure: bool
    ) -> Tensor | tuple[Tensor, Tensor]:
        a = self.enc(x)
        b = nn.functional.interpolate(self.mid(a), size=a.shape[2:])
        y = scale * self.dec(torch.cat([a, b], 1))
        return (y, b) if mode == "all" or not sure else y


class Later(nn.Module):
    def forward(self, x: Tensor, mode: str, y: Tensor) -> Tensor:
        return x + y if mode else x


def test_a_script_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        script = torch.jit.script(nn.Conv2d(1, 1, 1))
    with pytest.raises(InputError, match="its forward is no Python function"):
        fill_inputs(script, {"input": 1})


class Partial(nn.Module):
    forward = functools.partial(torch.add, alpha=1)


def test_what_is_filled_in_can_be_left_out_and_the_network_is_what_it_was():
    torch.manual_seed(0)
    host, other = Modal(), Modal()
    x = torch.rand(1, 1, 16, 16)
    expected = host(x, "map", sure=True)
    fill_inputs(host, {"mode": "map", "sure": True})
    assert torch.equal(host(x), expected)
    assert isinstance(host(x, "all"), tuple)
    assert torch.equal(copy.deepcopy(host)(x), expected)
    assert isinstance(host, Modal)
    assert type(host).__name__ == "Modal"
    with pytest.raises(TypeError, match="missing"):
        other(x)


def test_such_a_network_is_inspected_and_spliced():
    torch.manual_seed(0)
    host = Modal().eval()
    fill_inputs(host, {"mode": "map", "sure": True})
    x = torch.rand(1, 1, 16, 16)
    assert [skip.merge_shape for skip in surgeon.inspect(host, x).skips] == [(1, 4, 16, 16)]
    assert torch.equal(surgeon.splice(host, x, {"s0": nn.Identity()})(x), host(x))


@pytest.mark.parametrize(
    ("network", "values", "message"),
    [
        (Modal(), {"depth": 2}, "the network's forward has no input 'depth'"),
        (Later(), {"mode": "map"}, "'mode' cannot be left out: no value is left for 'y'"),
        (Partial(), {"alpha": 2}, "its forward is no Python function"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(network: nn.Module, values: dict[str, object], message: str):
    with pytest.raises(InputError, match=message):
        fill_inputs(network, values)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mid, self.dec = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(8, 2, 1)

    def forward(self, colour: Tensor, mask: Tensor, scale: float = 2.0) -> Tensor:
        a = self.enc(torch.cat([colour, mask], 1))
        return scale * self.dec(torch.cat([a, nn.functional.interpolate(self.mid(a), size=a.shape[2:])], 1))


def test_a_network_of_two_images_takes_one_with_the_channels_of_both_and_keeps_its_names():
    torch.manual_seed(0)
    host, other = Pair().eval(), Pair()
    colour, mask = torch.rand(2, 2, 16, 24), torch.rand(2, 1, 16, 24)
    expected, names = host(colour, mask), list(host.state_dict())
    split_image(host, [2, 1])
    image = torch.cat([colour, mask], 1)
    assert torch.equal(host(image), expected)
    assert torch.equal(copy.deepcopy(host)(image), expected)
    assert list(host.state_dict()) == names
    assert other(colour, mask).shape == expected.shape
    anatomy = surgeon.inspect(host, image)
    assert len(anatomy.skips) == 1
    assert anatomy.trace.free_sizes
    assert anatomy.trace.free_batch


def test_values_can_be_filled_in_before_images_are_joined():
    torch.manual_seed(0)
    host, image = Pair().eval(), torch.rand(1, 3, 16, 16)
    expected = host(image[:, :2], image[:, 2:], 3.0)
    fill_inputs(host, {"scale": 3.0})
    split_image(host, [2, 1])
    assert torch.equal(host(image), expected)


def test_a_graph_of_two_images_is_refused():
    graph = torch.fx.symbolic_trace(Pair())
    with pytest.raises(InputError, match="is a program that cannot split one among them"):
        split_image(graph, [2, 1])
