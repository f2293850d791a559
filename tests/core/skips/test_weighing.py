"""What only weighs a picture, and links at the bottom of a dilated encoder."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgeon
from surgeon.skips.weighing import drop_weighing
from tests.core.networks import conv, image, up


class _Weighed(nn.Module):
    """A U whose bottom is multiplied by a one-channel map made by a small pyramid, no sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.top = conv(1, 4)
        self.bottom = conv(4, 4)
        self.fine, self.coarse = conv(4, 1), conv(1, 1)
        self.last = conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        bottom = self.bottom(F.max_pool2d(top, 2))
        fine = self.fine(bottom)
        weight = fine + F.interpolate(self.coarse(F.max_pool2d(fine, 2)), scale_factor=2)
        return self.last(torch.cat([F.interpolate(bottom * weight, scale_factor=2), top], 1))


class _Lift(nn.Module):
    """Adds a projection of an encoder level to what comes from below, resized to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = conv(channels, 4, kernel=1)

    def forward(self, level: Tensor, below: Tensor) -> Tensor:
        return self.project(level) + F.interpolate(below, size=level.shape[2:])


class _Dilated(nn.Module):
    """A pyramid whose two deepest levels have the same resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([conv(1, 3), conv(3, 5, stride=2), conv(5, 6, stride=2), conv(6, 7)])
        self.deepest = conv(7, 4)
        self.lift1, self.lift2, self.lift3 = _Lift(3), _Lift(5), _Lift(6)
        self.last = conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.levels:
            x = level(x)
            kept.append(x)
        x = self.lift3(kept[2], self.deepest(x))
        return self.last(self.lift1(kept[0], self.lift2(kept[1], x)))


def test_a_sum_that_only_makes_a_weight_is_not_a_skip():
    anatomy = surgeon.inspect(_Weighed(), image())
    assert [(skip.merge.value, skip.merge_shape) for skip in anatomy.skips] == [("cat", (1, 4, 16, 16))]
    assert [refusal.reason for refusal in anatomy.refusals] == ["it only feeds a gate or a summary"]


def test_the_link_at_the_bottom_of_a_dilated_encoder_is_found_by_its_siblings():
    anatomy = surgeon.inspect(_Dilated(), image())
    assert [(s.merge_module, s.source_module, s.kind.value) for s in anatomy.skips] == [
        ("lift1", "levels.0", "lateral"),
        ("lift2", "levels.1", "lateral"),
        ("lift3", "levels.2", "lateral"),
    ]


class _LineByLine(nn.Module):
    """A decoder written out, its deepest addition at the resolution of the bottom, a residual among it."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = conv(1, 4), conv(4, 6, stride=2), conv(6, 8, stride=2)
        self.bottom, self.up3, self.up2, self.up1 = conv(8, 8), conv(8, 8), conv(8, 6), conv(6, 4)
        self.last = conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        t1 = self.down1(x)
        t2 = self.down2(t1)
        t3 = self.down3(t2)
        bottom = self.bottom(t3) + t3  # a residual
        out3 = self.up3(bottom)
        out3 = torch.add(out3, t3)  # at the resolution of the bottom
        out2 = up(self.up2(out3))
        out2 = torch.add(out2, t2)
        out1 = up(self.up1(out2))
        out1 = torch.add(out1, t1)
        return self.last(out1)


def test_the_link_at_the_bottom_is_found_by_lines_that_differ_in_numbers_alone():
    anatomy = surgeon.inspect(_LineByLine(), image())
    assert [(s.source_module, s.merge.value, s.merge_shape) for s in anatomy.skips] == [
        ("down1", "add", (1, 4, 16, 16)),
        ("down2", "add", (1, 6, 8, 8)),
        ("down3", "add", (1, 8, 4, 4)),
    ]
    assert len(anatomy.refusals) == 1


class _Linear(nn.Module):
    """Linear attention beside its residual: a small matrix holds what all positions sum up to."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = conv(4, 12, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).flatten(2).chunk(3, dim=1)
        context = torch.einsum("bdn,ben->bde", k.softmax(-1), v)
        return x + torch.einsum("bde,bdn->ben", context, q).reshape(x.shape)


class _KeepsTheBottom(nn.Module):
    """Two stages of one resolution each side of the bottom, with their own link there."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.low = nn.Sequential(conv(1, 4), _Linear()), nn.Sequential(conv(4, 4), _Linear())
        self.middle = nn.Sequential(conv(4, 4), _Linear(), conv(4, 4))
        self.ups = nn.ModuleList([nn.Sequential(conv(8, 4), _Linear()) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        low = self.low(F.avg_pool2d(top, 2))
        x = self.middle(low)
        for stage, skip in zip(self.ups, (low, top), strict=True):
            x = F.interpolate(x, size=skip.shape[2:])
            x = stage(torch.cat((x, skip), 1))
        return x


def test_attention_that_sums_over_positions_does_not_hide_the_bottom():
    anatomy = surgeon.inspect(_KeepsTheBottom(), image())
    found = [(skip.merge.value, skip.merge_shape) for skip in anatomy.skips]
    assert found == [("cat", (1, 4, 16, 16)), ("cat", (1, 4, 8, 8))]


class _Bridged(nn.Module):
    """All levels are mixed at a low resolution, and each gets its share added before it is a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([conv(1, 4), conv(4, 4), conv(4, 4)])
        self.mix = conv(8, 8)
        self.ups = nn.ModuleList([conv(8, 4), conv(8, 4)])

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for level in self.levels:
            x = F.relu(level(x))
            kept.append(x)
            x = F.max_pool2d(x, 2)
        mixed = self.mix(torch.cat([F.avg_pool2d(kept[0], 8), F.avg_pool2d(kept[1], 4)], 1))
        shares = [
            F.interpolate(share, size=level.shape[2:])
            for share, level in zip(mixed.chunk(2, 1), kept, strict=False)
        ]
        skips = [level + share for level, share in zip(kept, shares, strict=False)]
        x = kept[2]
        for lift, skip in zip(self.ups, skips[::-1], strict=True):
            x = lift(torch.cat([skip, F.interpolate(x, size=skip.shape[2:])], 1))
        return x


def test_sums_around_a_bridge_between_all_levels_are_no_skips():
    anatomy = surgeon.inspect(_Bridged(), image())
    found = [(skip.merge.value, skip.merge_shape) for skip in anatomy.skips]
    assert found == [("cat", (1, 4, 16, 16)), ("cat", (1, 4, 8, 8))]


class _Shaped(nn.Module):
    """A gate that is expanded as the skip that it weighs."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.low, self.gate, self.last = conv(1, 4), conv(4, 4), conv(4, 1), conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        up = F.interpolate(self.low(F.max_pool2d(top, 2)), scale_factor=2.0)
        return self.last(torch.cat([torch.sigmoid(self.gate(up)).expand_as(top) * top, up], 1))


def test_what_a_gate_is_expanded_to_is_not_a_way():
    anatomy = surgeon.inspect(_Shaped(), image())
    assert [(skip.merge.value, skip.operand_index) for skip in anatomy.skips] == [("cat", 0)]


class _PartialDecoder(nn.Module):
    """Each level times the deeper ones, then joined with them: aggregation of two levels over a bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([conv(1, 4), conv(4, 4, stride=2), conv(4, 4, stride=2)])
        self.weigh = nn.ModuleList([conv(4, 4) for _ in range(3)])
        self.join, self.last = conv(8, 8), conv(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.levels[0](x)
        middle = self.levels[1](top)
        bottom = self.levels[2](middle)

        def up(value: Tensor) -> Tensor:
            return F.interpolate(value, scale_factor=2)

        weighed = self.weigh[0](up(bottom)) * middle
        twice = self.weigh[1](up(up(bottom))) * self.weigh[2](up(middle)) * top
        joined = self.join(torch.cat([weighed, up(bottom)], 1))
        return self.last(torch.cat([twice, up(joined)], 1))


def test_a_level_times_the_deeper_ones_is_a_skip_where_it_meets_them():
    anatomy = surgeon.inspect(_PartialDecoder(), image())
    assert [(skip.kind.value, skip.source_module, skip.merge_shape[2]) for skip in anatomy.skips] == [
        ("skip", "levels.0", 16),
        ("skip", "levels.1", 8),
    ]


class _OnlyProducts(nn.Module):
    """An inner U whose answer goes on through a product alone."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([conv(1, 4), conv(4, 4, stride=2), conv(4, 4, stride=2)])
        self.join, self.last = conv(8, 4), conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.levels[0](x)
        middle = self.levels[1](top)
        joined = self.join(torch.cat([F.interpolate(self.levels[2](middle), scale_factor=2), middle], 1))
        return self.last(F.interpolate(joined, scale_factor=2) * top)


def test_a_product_that_deep_content_goes_on_through_alone_stays_a_way():
    (skip,) = surgeon.inspect(_OnlyProducts(), image()).skips
    assert (skip.source_module, skip.merge_shape[2]) == ("levels.1", 8)


class _Infused(nn.Module):
    """Every level times all others, brought to its size, before it is added to the decoder (U-Net v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList([conv(1, 4), conv(4, 4, stride=2), conv(4, 4, stride=2)])
        self.infuse = nn.ModuleList([nn.ModuleList([conv(4, 4) for _ in range(3)]) for _ in range(3)])
        self.rise = nn.ModuleList([conv(4, 4) for _ in range(2)])
        self.last = conv(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for level in self.levels:
            x = level(x)
            levels.append(x)
        infused = []
        for place, anchor in enumerate(levels):
            total = torch.ones_like(anchor)
            for own, level in zip(self.infuse[place], levels, strict=True):
                resize = F.adaptive_avg_pool2d if level.shape[-1] > anchor.shape[-1] else F.interpolate
                total = total * own(resize(level, anchor.shape[2:]))
            infused.append(total)
        x = self.rise[0](F.interpolate(infused[2], scale_factor=2)) + infused[1]
        return self.last(self.rise[1](F.interpolate(x, scale_factor=2)) + infused[0])


def test_levels_that_deeper_ones_weigh_are_skips_where_they_are_added():
    anatomy = surgeon.inspect(_Infused(), image())
    assert [(skip.merge.value, skip.source_module, skip.merge_shape[2]) for skip in anatomy.skips] == [
        ("add", "levels.0", 16),
        ("add", "levels.1", 8),
    ]


class _Bilinear(nn.Module):
    """Joins a level and what comes from below with the product of the two (TransFuse)."""

    def __init__(self) -> None:
        super().__init__()
        self.top, self.bottom = conv(1, 4), conv(4, 4, stride=2)
        self.left, self.right, self.both = conv(4, 4), conv(4, 4), conv(4, 4)
        self.last = conv(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(x)
        below = F.interpolate(self.bottom(top), scale_factor=2)
        return self.last(torch.cat([top, below, self.both(self.left(top) * self.right(below))], 1))


def test_a_product_of_both_sides_beside_them_is_no_skip_of_its_own():
    (skip,) = surgeon.inspect(_Bilinear(), image()).skips
    assert (skip.source_module, skip.operand_index) == ("top", 0)


def test_ways_through_many_residual_blocks_are_not_counted_one_by_one():
    # 0 the input, 1 a lower level; then pairs (a step, its sum with what was before), product and output.
    blocks = 60
    flow = [[], [0], [1]]
    for _ in range(blocks):
        last = len(flow) - 1
        flow += [[last], [last, last + 1]]
    product = len(flow)
    flow += [[product - 1, 0], [product, 1]]
    resolution = [4, 1, *[4] * (len(flow) - 2)]
    assert drop_weighing(flow, resolution, [product])[product] == [0]
