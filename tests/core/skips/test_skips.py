"""Skips are found by structure, merges that are none are refused with the reason."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgeon
from surgeon.skips import Kind, Layout, Merge
from tests.core import networks
from tests.core.networks import conv, image, up


def rows(anatomy):
    return [
        (s.kind.value, s.merge.value, s.merge_module, s.source_module, s.merge_shape) for s in anatomy.skips
    ]


# --- links of a U


@pytest.mark.parametrize("merge", ["cat", "add"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_both_skips_of_a_small_unet_are_found(dims, merge):
    anatomy = surgeon.inspect(networks.UNet(dims, merge), image(dims))
    assert rows(anatomy) == [
        ("skip", merge, "join0", "enc0", (1, 4, *[16] * dims)),
        ("skip", merge, "join1", "enc1", (1, 6, *[8] * dims)),
    ]
    assert [s.id for s in anatomy.skips] == ["s0", "s1"]
    assert [s.level for s in anatomy.skips] == [0, 1]
    assert [s.stride for s in anatomy.skips] == [(1,) * dims, (2,) * dims]
    assert all(s.implantable and s.layout is Layout.CHANNELS_FIRST for s in anatomy.skips)
    assert anatomy.spatial_dims == dims
    assert anatomy.notes == ()


def test_the_operand_of_the_skip_is_told_from_that_of_the_decoder():
    # Join concatenates (skip, decoder) and adds (decoder, skip).
    for merge, place in (("cat", 0), ("add", 1)):
        skips = surgeon.inspect(networks.UNet(2, merge), image()).skips
        assert [s.operand_index for s in skips] == [place, place]


def test_a_gated_skip_is_one_skip_and_the_gate_none():
    anatomy = surgeon.inspect(networks.AttentionUNet(), image())
    assert [(s.kind, s.merge, s.merge_module, s.merge_shape) for s in anatomy.skips] == [
        (Kind.SKIP, Merge.CAT, "", (1, 4, 16, 16))
    ]
    assert [(r.module, r.merge, r.reason) for r in anatomy.refusals] == [
        ("gate", Merge.ADD, "it only feeds a gate or a summary")
    ]


def test_a_merge_of_several_encoder_maps_is_dense():
    anatomy = surgeon.inspect(networks.NestedUNet(), image())
    # At full size: 0_0 into 0_1, and 0_0 and 0_1 into 0_2; at half size: 1_0 into 1_1.
    shapes = [s.merge_shape for s in anatomy.skips]
    assert shapes == [(1, 4, 16, 16)] * 3 + [(1, 4, 8, 8)]
    assert [s.operand_index for s in anatomy.skips] == [0, 0, 1, 0]
    assert [s.kind for s in anatomy.skips if s.merge_node == anatomy.skips[2].merge_node] == [Kind.DENSE] * 2


def test_projected_adds_of_a_feature_pyramid_are_lateral():
    anatomy = surgeon.inspect(networks.FeaturePyramid(), image())
    assert [(s.kind, s.merge, s.source_shape, s.merge_shape) for s in anatomy.skips] == [
        (Kind.LATERAL, Merge.ADD, (1, 4, 8, 8), (1, 5, 8, 8)),
        (Kind.LATERAL, Merge.ADD, (1, 6, 4, 4), (1, 5, 4, 4)),
    ]


def test_a_skip_of_tokens_is_found_with_its_layout():
    (skip,) = surgeon.inspect(networks.TokenUNet(), image()).skips
    assert skip.layout is Layout.TOKENS
    assert (skip.merge_shape, skip.channels, skip.spatial, skip.stride) == ((1, 64, 6), 6, (64,), (2, 2))
    assert skip.implantable


class ChannelsLast(nn.Module):
    """A U whose maps keep their channels last."""

    def __init__(self):
        super().__init__()
        self.enc, self.bottom, self.dec = nn.Linear(1, 4), nn.Linear(4, 4), nn.Linear(8, 1)

    def forward(self, x):
        a = F.relu(self.enc(x.movedim(1, -1)))  # (N, *spatial, C)
        b = F.max_pool2d(a.movedim(-1, 1), 2)
        b = F.relu(self.bottom(b.movedim(1, -1)))
        return self.dec(torch.cat([a, up(b.movedim(-1, 1)).movedim(1, -1)], -1)).movedim(-1, 1)


def test_a_skip_with_its_channels_last_is_found_with_its_layout():
    (skip,) = surgeon.inspect(ChannelsLast(), image()).skips
    assert skip.layout is Layout.CHANNELS_LAST
    assert (skip.channels, skip.spatial) == (4, (16, 16))


class OddUNet(nn.Module):
    """Resizes the decoder to the odd size of the skip, projects the skip, and puts in-place adds around."""

    def __init__(self):
        super().__init__()
        self.enc, self.inner = conv(1, 4), networks.Residual(4)
        self.bottom, self.project, self.dec = conv(4, 6), conv(4, 6, kernel=1), conv(6, 1)

    def forward(self, x):
        a = self.inner(F.relu(self.enc(x)))
        b = F.relu(self.bottom(F.max_pool2d(a, 2)))
        y = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)
        y += self.project(a)
        return self.dec(F.relu(y))


def test_an_in_place_add_of_a_projected_skip_at_an_odd_size_is_found():
    anatomy = surgeon.inspect(OddUNet(), image(size=17))
    (skip,) = anatomy.skips
    assert (skip.merge, skip.source_module, skip.source_shape, skip.merge_shape) == (
        Merge.ADD,
        "inner",
        (1, 4, 17, 17),
        (1, 6, 17, 17),
    )
    assert [r.module for r in anatomy.refusals] == ["inner"]


class DeepSupervision(nn.Module):
    """A U-Net that also returns the enlarged answers of its lower levels, stacked."""

    def __init__(self):
        super().__init__()
        self.net, self.low = networks.UNet(), conv(6, 2, kernel=1)

    def forward(self, x):
        n = self.net
        a = n.enc0(x)
        b = n.enc1(a)
        d1 = n.join1(n.bottom(b), b)
        return torch.stack([n.head(n.join0(d1, a)), up(self.low(d1))], 1)


def test_answers_of_lower_levels_are_no_skips():
    assert [s.merge_module for s in surgeon.inspect(DeepSupervision(), image()).skips] == [
        "net.join0",
        "net.join1",
    ]


class FusingHead(nn.Module):
    """All levels enlarged to one size and concatenated at once."""

    def __init__(self):
        super().__init__()
        self.enc = nn.ModuleList([conv(1, 4), conv(4, 4), conv(4, 4)])
        self.head = conv(12, 1)

    def forward(self, x):
        maps = []
        for layer in self.enc:
            x = F.relu(layer(x))
            maps.append(F.interpolate(x, size=(16, 16), mode="nearest"))
            x = F.max_pool2d(x, 2)
        return self.head(torch.cat(maps, 1))


def test_a_head_that_joins_all_levels_at_once_is_a_fusion():
    anatomy = surgeon.inspect(FusingHead(), image())
    assert anatomy.skips
    assert {s.kind for s in anatomy.skips} == {Kind.FUSION}


class ShiftedParts(nn.Module):
    """A padded tensor in chunks, each shifted by itself, as UNeXt has it."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave = conv(1, 6), conv(6, 1)

    def forward(self, x):
        parts = F.pad(self.enter(x), (4, 4, 4, 4)).chunk(3, 1)
        shifted = [torch.roll(part, number, 2) for number, part in enumerate(parts, start=1)]
        return self.leave(torch.cat(shifted, 1)[..., 4:-4, 4:-4])


def test_parts_of_one_enlarged_tensor_are_no_fusion():
    anatomy = surgeon.inspect(ShiftedParts(), image())
    assert anatomy.skips == ()


# --- controls


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (networks.ResidualClassifier(), "it only feeds a gate or a summary"),
        (networks.Autoencoder(), "a path that keeps the resolution joins both sides"),
        (networks.Pyramid(), "a path that keeps the resolution joins both sides"),
    ],
    ids=["residual classifier", "autoencoder", "ASPP"],
)
def test_a_network_without_skips_has_none_and_says_why(host, reason):
    anatomy = surgeon.inspect(host, image())
    assert anatomy.skips == ()
    assert anatomy.notes[0].startswith("no skip connection: ")
    assert anatomy.refusals
    assert all(r.reason.startswith(reason) for r in anatomy.refusals)


class ResidualAroundU(nn.Module):
    """The raw input added to the answer of a U: a residual, as denoisers have it."""

    def __init__(self):
        super().__init__()
        self.net = networks.UNet()
        self.net.head = conv(4, 1)

    def forward(self, x):
        return self.net(x) + x


def test_the_raw_input_added_to_the_answer_is_no_skip():
    anatomy = surgeon.inspect(ResidualAroundU(), image())
    assert [s.merge_module for s in anatomy.skips] == ["net.join0", "net.join1"]
    assert [r.module for r in anatomy.refusals] == [""]


# --- values


def test_ids_and_order_do_not_change_from_run_to_run():
    host = networks.NestedUNet()
    assert surgeon.inspect(host, image()).skips == surgeon.inspect(host, image(batch=1)).skips


def test_an_anatomy_survives_pickle_and_becomes_json():
    anatomy = surgeon.inspect(networks.UNet(), image())
    assert pickle.loads(pickle.dumps(anatomy)) == anatomy
    plain = json.loads(json.dumps(anatomy.to_dict()))
    pinned = {
        "id",
        "kind",
        "merge",
        "merge_module",
        "source_module",
        "source_shape",
        "merge_shape",
        "implantable",
        "reason",
    }
    assert pinned <= set(plain["skips"][0])
    assert plain["skips"][0]["merge_shape"] == [1, 4, 16, 16]
    assert plain["input_shapes"] == [[1, 1, 16, 16]]
    assert plain["output_shapes"] == [[1, 2, 16, 16]]


def test_parameters_are_counted():
    host = networks.UNet()
    expected = sum(p.numel() for p in host.parameters())
    assert surgeon.inspect(host, image()).parameters == expected


def test_a_skip_is_found_by_its_id_and_a_wrong_id_is_a_key_error():
    anatomy = surgeon.inspect(networks.UNet(), image())
    assert anatomy["s1"] is anatomy.skips[1]
    with pytest.raises(KeyError, match="s7"):
        anatomy["s7"]


def test_a_spliced_network_has_the_anatomy_of_its_host():
    host = networks.UNet().eval()
    again = surgeon.inspect(surgeon.splice(host, image(), {"s1": nn.Conv2d(6, 6, 1)}), image())
    assert rows(again) == rows(surgeon.inspect(host, image()))
