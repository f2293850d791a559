from __future__ import annotations

import pytest
import torch
from surgeon.search import implant, load_implant
from surgeon.search.step.moving import Train, host_parameters
from torch import nn

from surgeon.splicing import splice
from tests.search.small import SIDE, make_config, make_host, open_small, write_data

DECODER = {"middle.0.weight", "middle.0.bias", "leave.weight", "leave.bias"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "squares")


def moved(train):
    network = splice(make_host(), torch.rand(1, 1, SIDE, SIDE), {"s1": nn.Conv2d(8, 8, 1)})
    return host_parameters(network, train)


def test_cells_alone_leave_the_host_as_it_is():
    assert moved(Train.CELLS) == {}


def test_norms_are_the_parameters_of_one_axis():
    assert set(moved(Train.NORMS)) == {
        name for name, value in make_host().named_parameters() if value.ndim == 1
    }


def test_the_decoder_is_what_comes_after_the_deepest_merge():
    assert set(moved(Train.DECODER)) == DECODER


def test_what_raises_the_resolution_on_the_way_into_the_first_merge_is_of_the_decoder():
    host = make_host()
    host.up = nn.ConvTranspose2d(8, 8, 2, stride=2)  # used before both merges
    network = splice(host, torch.rand(1, 1, SIDE, SIDE), {})
    assert set(host_parameters(network, Train.DECODER)) == DECODER | {"up.weight", "up.bias"}


def test_all_is_all_of_the_host_and_nothing_of_the_implants():
    assert set(moved(Train.ALL)) == set(dict(make_host().named_parameters()))


@pytest.mark.parametrize("train", ["norms", "decoder", "all"])
def test_what_moved_is_named_and_loads_again_and_the_rest_stayed(data, tmp_path, train):
    host = make_host()
    config = make_config(train=train, epochs=1, steps=4, retrain_rate=0.02, skips=("s0",))
    result = implant(host, open_small(data), config, out=tmp_path)
    trained = result.report["trained"]
    before, after = dict(host.named_parameters()), dict(result.network.named_parameters())
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert result.report["search"]["best_epoch"] > 0
    assert changed
    assert changed <= set(trained["host_names"]) == set(host_parameters(result.network, Train(train)))
    assert trained["host_parameters"] == sum(before[name].numel() for name in trained["host_names"])
    x = torch.rand(2, 1, SIDE, SIDE)
    assert torch.equal(load_implant(make_host(), tmp_path)(x), result.network(x))
