import pytest
import torch
from surgeon.export import fuse
from surgeon.export.fusion.neutral import remove_neutral
from surgeon.export.fusion.ordering import absorb_channel_order
from surgeon.search.cells import Architecture, CellSpec, SearchCell
from torch import nn

from .graphs import assert_exact, graph_of, operations

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def viewed(x, groups=2):
    """Shuffle channels as published: view as groups, transpose, view back."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


ORDERS = {
    "viewed": viewed,
    "viewed as four": lambda x: viewed(x, 4),
    "shuffled": lambda x: torch.channel_shuffle(x, 2),
    "selected": lambda x: x.index_select(1, torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])),
    "indexed": lambda x: x[:, [3, 1, 0, 2, 7, 6, 5, 4]],
    "flipped": lambda x: x.flip(1),
    "rolled": lambda x: x.roll(3, 1),
    "halves exchanged": lambda x: torch.cat([x[:, 4:], x[:, :4]], 1),
    "chunks exchanged": lambda x: torch.cat(x.chunk(4, 1)[::-1], 1),
    "narrowed": lambda x: torch.cat([x.narrow(1, 6, 2), x.narrow(1, 0, 6)], 1),
    "read twice": lambda x: torch.cat([x, x.flip(1)], 1)[:, 2:14],
}


class Ordered(nn.Module):
    """An activation, channels in another order, something in between, a convolution."""

    def __init__(self, order, between=None, *, rank=2, width=8, groups=1, transposed=False):
        super().__init__()
        self.order, self.between = order, between or nn.Identity()
        layer = nn.ConvTranspose2d if transposed else CONVOLUTIONS[rank]
        self.last = layer(width, 8, 3, padding=1, groups=groups)

    def forward(self, x):
        return self.last(self.between(self.order(x.sigmoid())))


def graph(network, rank=2):
    """Return the graph of a network, with its list of channels as a constant, and an input."""
    before, x = graph_of(network, 2, 8, *[6] * rank)
    return remove_neutral(before)[0], x


def absorbed(network, rank=2):
    before, x = graph(network, rank)
    after, report = absorb_channel_order(before)
    assert_exact(before, after, x)
    assert absorb_channel_order(after)[0] is after
    return after, report


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_goes_into_the_convolution_that_reads_it(name):
    width = 12 if name == "read twice" else 8
    after, report = absorbed(Ordered(ORDERS[name], width=width))
    assert operations(after) == ["sigmoid", "conv2d"]
    assert report.changed == 1


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_it_does_in_any_number_of_dimensions(rank, transposed):
    if transposed and rank != 2:
        pytest.skip("the layer is of images")
    after, _ = absorbed(Ordered(viewed, rank=rank, transposed=transposed), rank)
    assert operations(after)[1:] == [f"conv_transpose{rank}d" if transposed else f"conv{rank}d"]


class Scaled(nn.Module):
    """A factor for each channel, and one for all."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.rand(8, 1, 1))

    def forward(self, x):
        return 0.5 * x * self.factor


@pytest.mark.parametrize(
    ("between", "left"),
    [
        (nn.ReLU(), ["relu"]),
        (nn.MaxPool2d(3, stride=1, padding=1), ["max_pool2d"]),
        (nn.Upsample(scale_factor=2), ["upsample_nearest2d"]),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), ["conv2d"]),
        (Scaled(), ["mul", "mul"]),
        (nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)), ["relu", "conv2d"]),
    ],
)
def test_it_passes_what_treats_all_channels_alike(between, left):
    after, _ = absorbed(Ordered(viewed, between))
    found = [name for name in operations(after) if name != "sym_size"]
    assert found == ["sigmoid", *left, "conv2d"]


def test_sums_of_equally_ordered_tensors_are_summed_as_they_lie():
    class Summed(nn.Module):
        def __init__(self, second):
            super().__init__()
            self.second, self.last = second, nn.Conv2d(8, 4, 1)

        def forward(self, x):
            return self.last(viewed(x.relu()) + self.second(x.sigmoid()))

    after, _ = absorbed(Summed(viewed))
    assert operations(after) == ["relu", "sigmoid", "add", "conv2d"]
    before, _ = graph(Summed(nn.Tanh()))
    assert absorb_channel_order(before)[0] is before


def test_a_shuffle_of_partial_channels_leaves_the_slices_alone():
    """PC-DARTS: a quarter of the channels is operated on, the rest passes by, all are shuffled."""

    class Partial(nn.Module):
        def __init__(self):
            super().__init__()
            self.operation = nn.Sequential(nn.ReLU(), nn.Conv2d(2, 2, 3, padding=1))
            self.last = nn.Conv2d(16, 8, 1)

        def edge(self, x):
            x = x.roll(-1, 1)
            return viewed(torch.cat([self.operation(x[:, :2]), x[:, 2:]], 1).roll(1, 1))

        def forward(self, x):
            first = self.edge(x.sigmoid())
            return self.last(torch.cat([first, self.edge(first)], 1))

    after, _ = absorbed(Partial())
    found = operations(after)
    assert not {"view", "transpose", "roll", "reshape", "unflatten", "flatten"} & set(found)
    # In both edges some are picked to be operated on, and some to pass by.
    picked = [name for name in found if name in ("index_select", "slice")]
    assert len(picked) <= 4
    assert sorted(set(found) - set(picked)) == ["cat", "conv2d", "relu", "sigmoid"]


def test_a_convolution_makes_its_channels_in_the_order_they_are_wanted_in():
    class Making(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return viewed(self.first(x))

    after, report = absorbed(Making())
    assert operations(after) == ["conv2d"]
    assert report.changed == 1


class Divided(nn.Module):
    def __init__(self, rank=2):
        super().__init__()
        self.first = CONVOLUTIONS[rank](8, 8, 3, padding=1)

    def forward(self, x):
        left, right = self.first(x).split([3, 5], 1)
        return left.softmax(2), right.tanh()


def test_parts_of_what_a_convolution_makes_come_out_of_convolutions_of_their_own():
    before, x = graph(Divided())
    after, _ = absorb_channel_order(before)
    assert sorted(operations(after)) == ["conv2d", "conv2d", "softmax", "tanh"]
    for found, expected in zip(after(x), before(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Ordered(lambda x: x[:, 2:6], width=4), "it would read the other channels of sigmoid too"),
        (Ordered(viewed, groups=2), "it has groups"),
    ],
)
def test_what_would_cost_products_stays_with_the_reason(network, reason):
    before, _ = graph(network)
    same, report = absorb_channel_order(before)
    assert same is before
    assert reason in report.rejected[0].reason


def test_parts_of_volumes_are_sliced():
    before, _ = graph(Divided(3), 3)
    same, report = absorb_channel_order(before)
    assert same is before
    assert "would take longer than the slices" in report.rejected[0].reason


def test_an_order_that_something_else_reads_stays():
    class Read(nn.Module):
        def forward(self, x):
            return torch.stack([viewed(x.relu()).softmax(1), x], 1).mean(1)

    class Stacked(nn.Module):
        def forward(self, x):
            return torch.stack([viewed(x.relu()), x], 1).mean(1)

    for network in (Read(), Stacked()):
        before, _ = graph(network)
        assert absorb_channel_order(before)[0] is before


def test_weights_are_permuted_to_the_bit():
    torch.manual_seed(0)
    network = Ordered(ORDERS["flipped"], nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False))
    before, _ = graph(network)
    after, _ = absorb_channel_order(before)
    weights = [value for value in after.state_dict().values() if value.ndim == 4]
    assert any(torch.equal(value, network.last.weight.flip(1)) for value in weights)
    assert any(torch.equal(value, network.between.weight.flip(0)) for value in weights)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_network_of_shuffles_fuses_as_a_whole_and_settles(groups):
    class Unit(nn.Module):
        """As in ShuffleNet: half of the channels through convolutions, then all shuffled."""

        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(
                nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4),
                nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
            )  # fmt: skip

        def forward(self, x):
            left, right = x.chunk(2, 1)
            n, c, h, w = x.shape
            y = torch.cat([left, self.branch(right)], 1).view(n, groups, c // groups, h, w)
            return y.transpose(1, 2).contiguous().view(n, c, h, w)

    before, x = graph_of(nn.Sequential(Unit(), Unit(), nn.Conv2d(8, 2, 1)), 2, 8, 6, 6)
    fused = fuse(before, (x,))
    assert_exact(before, fused.graph_module, x)
    found = operations(fused.graph_module)
    assert not {"view", "transpose", "contiguous", "clone", "batch_norm"} & set(found)
    assert fuse(fused.graph_module, (x,)).graph_module is fused.graph_module


def test_a_cell_of_the_search_keeps_no_shuffle():
    spec = CellSpec(8, 2, states=2)
    cell = SearchCell(spec, Architecture(spec))
    torch.nn.init.constant_(cell.exit.gamma, 0.5)
    before, x = graph_of(cell, 2, 8, 6, 6)
    after = fuse(before, (x,)).graph_module
    assert {"roll", "index_select"} <= set(operations(before))
    assert not {"roll", "index_select"} & set(operations(after))
    assert_exact(before, after, x)
