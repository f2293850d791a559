import pytest
import torch
import torch.nn.functional as F
from surgeon.export import Freedom
from surgeon.export.fusion import cpu_passes, fuse, needs_attention
from surgeon.export.fusion.attention import join_attention
from torch import nn

from .graphs import assert_exact, graph_of, operations


class Windows(nn.Module):
    """Attention in windows of a sequence `(N, C, L)`, as Swin transformers write it."""

    def __init__(self, channels=6, heads=2, window=128, masked=True, turned=True):
        super().__init__()
        self.heads, self.window, self.masked, self.turned = heads, window, masked, turned
        self.qkv = nn.Linear(channels, 3 * channels)
        self.bias = nn.Parameter(torch.randn(heads, window, window))

    def mask(self, windows):
        """Hide the first half of the last window from the second."""
        region = torch.zeros(windows, self.window, dtype=self.bias.dtype)
        region[-1, self.window // 2 :] = 1.0
        return (region[:, None] - region[:, :, None]).ne(0) * -100.0

    def added(self, scores, batch):
        scores = scores + self.bias.unsqueeze(0)
        if self.masked:
            apart = scores.view(batch, -1, *scores.shape[1:])
            apart = apart + self.mask(apart.shape[1])[None, :, None]
            scores = apart.view(-1, *scores.shape[1:])
        return scores

    def forward(self, x):
        batch, channels, length = x.shape
        rows = x.mT.reshape(-1, self.window, channels)
        query, key, value = (
            self.qkv(rows).view(-1, self.window, 3, self.heads, channels // self.heads).permute(2, 0, 3, 1, 4)
        )
        key = key.transpose(-2, -1) if self.turned else key.permute(0, 1, 3, 2)
        weights = self.added((query * 0.5) @ key, batch).softmax(-1)
        return (weights @ value).transpose(1, 2).reshape(batch, length, channels).mT


def check(network, *shape):
    before, x = graph_of(network, *shape)
    after, report = join_attention(before)
    assert report.changed == 1
    assert_exact(before, after, x, sizes=(0, 128))
    return before, after


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_attention_with_bias_and_mask_becomes_one_operation(masked, turned):
    before, after = check(Windows(masked=masked, turned=turned), 2, 6, 256)
    assert "softmax" in operations(before)
    assert {"softmax", "matmul"}.isdisjoint(operations(after))
    assert operations(after).count("scaled_dot_product_attention") == 1
    assert needs_attention(after.graph)
    again, report = join_attention(after)
    assert again is after
    assert report.changed == 0


def test_the_sum_with_the_bias_on_either_side_is_found():
    class Reversed(Windows):
        def added(self, scores, batch):
            return self.bias.unsqueeze(0) + scores

    check(Reversed(), 2, 6, 256)


def test_few_scores_stay_as_they_are():
    before, _ = graph_of(Windows(window=16), 2, 6, 64)
    same, report = join_attention(before)
    assert same is before
    assert "too few scores" in report.rejected[0].reason
    assert not needs_attention(before.graph)


class Plain(Windows):
    def added(self, scores, batch):
        return scores


class Read(Windows):
    """Somebody looks at the weights as well."""

    def forward(self, x):
        rows = x.mT.unsqueeze(1)
        weights = (rows @ rows.mT + self.bias[:1]).softmax(-1)
        return (weights @ rows).squeeze(1).mT + weights.mean()


class OverQueries(Windows):
    def forward(self, x):
        rows = x.mT.unsqueeze(1)
        return ((rows @ rows.mT + self.bias[:1]).softmax(-2) @ rows).squeeze(1).mT


@pytest.mark.parametrize("network", [Plain, Read, OverQueries])
def test_what_is_other_than_biased_attention_is_not_looked_at(network):
    before, _ = graph_of(network(masked=False), 2, 6, 128, freedom=Freedom.BATCH)
    same, report = join_attention(before)
    assert same is before
    assert report.rejected == ()


class OneHead(Windows):
    """Scores without heads."""

    def forward(self, x):
        rows = x.mT
        return ((rows @ rows.mT + self.bias[:1]).softmax(-1) @ rows).mT


class Shared(Windows):
    """Keys that all heads share."""

    def forward(self, x):
        rows = x.mT.unsqueeze(1)
        queries = torch.cat([rows, 2 * rows], 1)
        return ((queries @ rows.mT + self.bias[None]).softmax(-1) @ rows).sum(1).mT


class PerImage(Windows):
    """A mask of each image."""

    def added(self, scores, batch):
        scores = scores + self.bias.unsqueeze(0)
        apart = scores.view(batch, -1, *scores.shape[1:])
        apart = apart + torch.ones(batch, 1, 1, 1, 1, dtype=scores.dtype)
        return apart.view(-1, *scores.shape[1:])


@pytest.mark.parametrize(
    ("network", "why"), [(OneHead, "heads, positions"), (Shared, "broadcast"), (PerImage, "mask")]
)
def test_attention_of_another_shape_stays_with_a_reason(network, why):
    before, _ = graph_of(network(masked=False), 2, 6, 128, freedom=Freedom.BATCH)
    same, report = join_attention(before)
    assert same is before
    assert why in report.rejected[0].reason


def test_attention_of_a_host_asks_for_its_operator_set_where_something_is_added():
    class Own(Windows):
        def forward(self, x):
            rows = x.mT.unsqueeze(1)
            bias = self.bias[None, :1] if self.masked else None
            return F.scaled_dot_product_attention(rows, rows, rows, bias).squeeze(1).mT

    assert needs_attention(graph_of(Own(), 1, 6, 128, freedom=Freedom.BATCH)[0].graph)
    assert not needs_attention(graph_of(Own(masked=False), 1, 6, 128, freedom=Freedom.BATCH)[0].graph)


@pytest.mark.slow
def test_the_attention_of_a_transformer_of_volumes_is_found_among_all_passes():
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(1, 2, feature_size=12, depths=(2, 1, 1, 1))
    before, x = graph_of(network, 1, 1, 64, 64, 64)
    fused = fuse(before, (x,), passes=cpu_passes(32))
    assert next(report for report in fused.passes if report.name == "join_attention").changed == 4
