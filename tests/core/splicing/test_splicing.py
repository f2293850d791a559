"""Cells in the skips of a host: the host's own part never changes."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgeon
from surgeon.errors import SpliceError
from surgeon.splicing import SplicedNetwork, splice_trace
from surgeon.tracing import trace
from tests.core import networks
from tests.core.networks import conv, image, up
from tests.core.splicing.cells import ConvCell, DecoderCell, Doubled, Recorder, Silent


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def host():
    torch.manual_seed(1)
    host = networks.UNet().train()
    for _ in range(3):  # running statistics that are not those of a new network
        host(torch.randn(4, 1, 16, 16))
    return host.eval()


@pytest.fixture(scope="module")
def implanted(host):
    """Splice into the host, which is traced once for all tests."""
    return partial(splice_trace, trace(host, image()))


def outputs(network, x):
    with torch.no_grad():
        return network(x)


# --- equal to the host until a cell says otherwise


@pytest.mark.parametrize("merge", ["cat", "add"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_identities_leave_the_host_equal_to_the_bit_at_any_size(dims, merge):
    host = networks.UNet(dims, merge).eval()
    spliced = surgeon.splice(host, image(dims), {"s0": nn.Identity(), "s1": nn.Identity()})
    for x in (image(dims), image(dims, batch=3), image(dims, size=24)):
        assert torch.equal(outputs(spliced, x), outputs(host, x))
    assert spliced.report.bit_equal


@pytest.mark.parametrize(
    ("build", "skip", "channels"),
    [
        (networks.AttentionUNet, "s0", 4),
        (networks.NestedUNet, "s2", 4),
        (networks.FeaturePyramid, "s1", 5),
        (networks.TokenUNet, "s0", 6),
    ],
)
def test_a_cell_with_gamma_zero_leaves_any_form_of_host_equal_to_the_bit(build, skip, channels):
    # Frozen as a spliced host is: torch multiplies tokens by another route where weights need gradients.
    host = build().eval().requires_grad_(False)
    spliced = surgeon.splice(host, image(), {skip: ConvCell(channels, gamma=0.0)})
    for x in (image(), image(batch=2), image(size=32)):
        assert torch.equal(outputs(spliced, x), outputs(host, x))


def test_a_cell_takes_the_place_of_the_skip(host, implanted):
    class Zero(nn.Module):
        def forward(self, skip):
            return torch.zeros_like(skip)

    spliced = implanted({"s0": Zero()})
    with torch.no_grad():
        b = host.enc1(host.enc0(image()))
        d1 = host.join1(host.bottom(b), b)
        expected = host.head(host.join0(d1, torch.zeros(1, 4, 16, 16)))
    assert torch.equal(outputs(spliced, image()), expected)


def test_what_was_rewired_is_reported(implanted):
    spliced = implanted({"s1": nn.Identity(), "s0": nn.Identity()})
    anatomy = spliced.anatomy
    assert [(r.skip, r.merge, r.operand, r.place) for r in spliced.report.rewired] == [
        (s.id, s.merge_node, s.operand_node, s.operand_index) for s in anatomy.skips
    ]
    assert list(dict(spliced.implants.named_children())) == ["s0", "s1"]


# --- forms of cells and hosts


def test_a_cell_that_asks_for_it_gets_what_the_skip_meets(implanted):
    recorder = Recorder(needs_decoder=True)
    spliced = implanted({"s1": recorder})
    outputs(spliced, image(batch=2))
    assert recorder.shapes == [(2, 6, 8, 8), (2, 6, 8, 8)]


def test_a_cell_that_sees_the_decoder_computes_with_it(host, implanted):
    cell = DecoderCell(4, 4)
    spliced = implanted({"s0": cell}).eval()
    with torch.no_grad():
        a = host.enc0(image())
        b = host.enc1(a)
        decoder = host.join0.project(up(host.join1(host.bottom(b), b)))
        expected = host.head(host.join0.block(torch.cat([cell(a, decoder), decoder], 1)))
    assert torch.allclose(outputs(spliced, image()), expected, atol=1e-6)


def test_a_cell_sees_tokens_as_a_map():
    recorder = Recorder(needs_decoder=True)
    spliced = surgeon.splice(networks.TokenUNet().eval(), image(), {"s0": recorder})
    outputs(spliced, image(size=32))  # the patches are 2 by 2
    assert recorder.shapes == [(1, 6, 16, 16), (1, 6, 16, 16)]


def test_a_map_of_tokens_keeps_the_order_of_its_positions():
    host = networks.TokenUNet().eval()
    recorded = []

    class Keep(nn.Module):
        def forward(self, skip):
            recorded.append(skip)
            return skip

    spliced = surgeon.splice(host, image(), {"s0": Keep()})
    outputs(spliced, image())
    with torch.no_grad():
        expected = F.gelu(F.conv2d(host.embed(image()), host.enc.weight[..., None, None], host.enc.bias))
    assert torch.allclose(recorded[-1], expected, atol=1e-6)


# --- training moves the implants alone


@pytest.fixture
def trained(host):
    spliced = surgeon.splice(host, image(), {"s0": ConvCell(4), "s1": ConvCell(6)})
    before = copy.deepcopy(spliced)
    spliced.train()
    optimizer = torch.optim.SGD([p for p in spliced.parameters() if p.requires_grad], lr=0.1)
    target = torch.rand(2, 2, 16, 16)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(spliced(image(batch=2)), target).backward()
        optimizer.step()
    return before, spliced


def test_gradients_reach_only_the_implants(trained):
    _, spliced = trained
    with_gradient = {name for name, p in spliced.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in spliced.named_parameters() if name.startswith("implants.")}
    assert all(p.requires_grad == name.startswith("implants.") for name, p in spliced.named_parameters())


def test_training_steps_change_the_implants_and_nothing_else(trained):
    before, after = (network.state_dict() for network in trained)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # A bias in front of a batch norm has a gradient of rounding noise alone.
    must = {
        f"implants.{s}.{name}" for s in ("s0", "s1") for name in ("conv.weight", "norm.running_mean", "gamma")
    }
    assert must <= changed
    assert all(name.startswith("implants.") for name in changed)


def test_train_keeps_the_host_in_eval_mode(host, implanted):
    spliced = implanted({"s0": nn.Identity()}).train()
    assert spliced.training
    assert spliced.implants["s0"].training
    # Dropout and batch norm of the host would differ from call to call.
    assert torch.equal(spliced(image(batch=4)), outputs(host, image(batch=4)))
    assert not spliced.eval().implants["s0"].training


def test_the_host_itself_is_untouched(host):
    state = {name: tensor.clone() for name, tensor in host.state_dict().items()}
    spliced = surgeon.splice(host, image(), {"s0": ConvCell(4)})
    assert all(p.requires_grad for p in host.parameters())
    with torch.no_grad():
        for tensor in spliced.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(tensor, host.state_dict()[name]) for name, tensor in state.items())


# --- a network like any other


def test_host_names_stay_and_implants_have_their_own(host, implanted):
    spliced = implanted({"s1": ConvCell(6)})
    own = {f"implants.s1.{name}" for name in ConvCell(6).state_dict()}
    assert set(spliced.state_dict()) == set(host.state_dict()) | own
    assert all(torch.equal(spliced.state_dict()[name], tensor) for name, tensor in host.state_dict().items())


def test_a_state_dict_loads_strictly_into_another_splice(implanted):
    first = implanted({"s0": ConvCell(4)})
    second = surgeon.splice(networks.UNet(), image(), {"s0": ConvCell(4)})
    assert not torch.equal(outputs(first, image()), outputs(second, image()))
    second.load_state_dict(first.state_dict(), strict=True)
    assert torch.equal(outputs(first, image()), outputs(second, image()))


def test_a_deep_copy_is_equal_and_its_own(implanted):
    spliced = implanted({"s0": ConvCell(4)}).train()
    twin = copy.deepcopy(spliced)
    assert isinstance(twin, SplicedNetwork)
    assert twin.training
    assert twin.anatomy == spliced.anatomy
    assert twin.report == spliced.report
    assert torch.equal(outputs(twin.eval(), image()), outputs(spliced.eval(), image()))
    assert all(a is not b for a, b in zip(twin.parameters(), spliced.parameters(), strict=True))
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in spliced.parameters()]


@pytest.mark.parametrize("build", [networks.UNet, networks.TokenUNet])
def test_a_pickle_gives_the_same_network_back(build):
    channels = {networks.UNet: 4, networks.TokenUNet: 6}[build]
    spliced = surgeon.splice(build(), image(), {"s0": ConvCell(channels)})
    back = pickle.loads(pickle.dumps(spliced))
    assert torch.equal(outputs(back, image(batch=2)), outputs(spliced, image(batch=2)))
    assert back.anatomy == spliced.anatomy
    assert list(back.state_dict()) == list(spliced.state_dict())
    assert {n for n, p in back.named_parameters() if p.requires_grad} == {
        n for n, p in spliced.named_parameters() if p.requires_grad
    }


def test_torch_saves_and_loads_a_spliced_network(implanted):
    spliced = implanted({"s0": ConvCell(4)})
    file = io.BytesIO()
    torch.save(spliced, file)
    file.seek(0)
    assert torch.equal(outputs(torch.load(file, weights_only=False), image()), outputs(spliced, image()))


def test_it_moves_to_another_dtype(host, implanted):
    spliced = implanted({"s0": ConvCell(4, gamma=0.0)}).double()
    expected = outputs(copy.deepcopy(host).double(), image().double())
    assert torch.equal(outputs(spliced, image().double()), expected)


class BakedDevice(nn.Module):
    """Makes a tensor on a device in its forward, which a trace writes into the graph."""

    def __init__(self):
        super().__init__()
        self.net = networks.UNet()

    def forward(self, x):
        return self.net(x) + torch.arange(x.shape[-1], device=x.device)


def test_it_moves_to_another_device_with_the_devices_in_its_graph():
    spliced = surgeon.splice(BakedDevice(), image(), {"s0": ConvCell(4)}).to("meta")
    assert spliced(image().to("meta")).device.type == "meta"
    assert all(t.device.type == "meta" for t in spliced.state_dict().values())


# --- what cannot be spliced


def test_an_unknown_skip_is_refused_with_those_that_are_known(implanted):
    with pytest.raises(SpliceError, match=r"there is no skip 's7'[\s\S]*choose among s0, s1"):
        implanted({"s7": nn.Identity()})


def test_a_network_without_skips_points_to_its_refusals():
    with pytest.raises(SpliceError, match=r"there is no skip 's0'[\s\S]*inspect --why"):
        surgeon.splice(networks.Autoencoder(), image(), {"s0": nn.Identity()})


def test_a_cell_of_other_channels_is_refused_with_the_right_number(implanted):
    with pytest.raises(
        SpliceError, match=r"fails on a tensor of shape \(1, 6, 8, 8\)[\s\S]*channels=6"
    ) as caught:
        implanted({"s1": ConvCell(4)})
    assert caught.value.where == "skip s1 (enc1 -> join1)"


def test_a_cell_of_other_dimensions_is_refused(implanted):
    with pytest.raises(SpliceError, match="for 2 spatial dimensions"):
        implanted({"s1": ConvCell(6, dims=3)})


def test_a_cell_that_fails_without_a_word_is_refused(implanted):
    with pytest.raises(
        SpliceError, match=r"the cell fails on a tensor of shape \(1, 4, 16, 16\): ValueError"
    ):
        implanted({"s0": Silent()})


def test_a_cell_that_returns_another_shape_is_refused(implanted):
    with pytest.raises(SpliceError, match=r"returns \(1, 8, 16, 16\), the skip has \(1, 4, 16, 16\)"):
        implanted({"s0": Doubled()})


def test_a_refused_cell_keeps_its_mode(implanted):
    cell = Doubled().train()
    with pytest.raises(SpliceError, match="the skip has"):
        implanted({"s0": cell})
    assert cell.training


class WholeNumbers(nn.Module):
    """Its skip holds whole numbers."""

    def __init__(self):
        super().__init__()
        self.enc, self.bottom, self.dec = conv(1, 4), conv(4, 4, stride=2), conv(8, 1)

    def forward(self, x):
        a = self.enc(x)
        return self.dec(torch.cat([(a * 255).long(), up(self.bottom(a))], 1))


class ChannelsBetween(nn.Module):
    """Its skip has the form (N, H, C, W)."""

    def __init__(self):
        super().__init__()
        self.enc, self.bottom, self.dec = conv(1, 4), conv(4, 4, stride=2), conv(8, 1)

    def forward(self, x):
        a = F.relu(self.enc(x))
        joined = torch.cat([a.transpose(1, 2), up(self.bottom(a)).transpose(1, 2)], 2)
        return self.dec(joined.transpose(1, 2))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (WholeNumbers, "the tensor is torch.int64, not floating point"),
        (ChannelsBetween, "the channels are on axis 2"),
    ],
)
def test_a_skip_that_cannot_take_a_cell_is_located_and_refused_with_the_reason(build, reason):
    host = build()
    (skip,) = surgeon.inspect(host, image()).skips
    assert not skip.implantable
    assert skip.reason == reason
    with pytest.raises(SpliceError, match=f"no cell can be spliced here: {reason}"):
        surgeon.splice(host, image(), {"s0": nn.Identity()})


def test_a_network_with_implants_cannot_be_spliced_again(host):
    spliced = surgeon.splice(host, image(), {"s0": nn.Identity()})
    with pytest.raises(
        SpliceError, match=r"has implants already[\s\S]*all cells into the original host at once"
    ):
        surgeon.splice(spliced, image(), {"s1": nn.Identity()})


def test_a_rewiring_that_changed_the_output_would_be_refused(host, implanted, monkeypatch):
    monkeypatch.setattr(surgeon.splicing, "_Identity", Scaled)
    with pytest.raises(SpliceError, match="the rewired graph differs from the host by"):
        implanted({"s0": nn.Identity()})


class Scaled(nn.Module):
    def forward(self, skip):
        return skip * 2.0
