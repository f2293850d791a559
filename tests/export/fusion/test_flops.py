import pytest
import torch
from surgeon.export.fusion.flops import FlopCounter
from torch import nn
from torch.nn import functional as F

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def count(run, *inputs: torch.Tensor) -> int:
    with torch.no_grad(), FlopCounter() as counter:
        run(*inputs)
    return counter.total


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_counts_its_taps_and_its_bias(rank, groups):
    x = torch.ones(3, 4, *[8] * rank)
    layer = CONVOLUTIONS[rank](4, 6, 5, stride=2, padding=2, groups=groups)
    values = 3 * 6 * 4**rank
    assert count(layer, x) == values * (2 * (4 // groups) * 5**rank + 1)


def test_a_transposed_convolution_counts_a_kernel_for_each_value_it_reads():
    layer = nn.ConvTranspose2d(4, 6, 2, stride=2, bias=False)
    assert count(layer, torch.ones(1, 4, 5, 5)) == 2 * (4 * 5 * 5) * (6 * 2 * 2)


def test_products_count_what_is_multiplied():
    assert count(torch.matmul, torch.ones(2, 3, 5), torch.ones(5, 7)) == 2 * 2 * 3 * 5 * 7
    assert count(nn.Linear(5, 7), torch.ones(3, 5)) == 3 * 7 * (2 * 5 + 1)


@pytest.mark.parametrize("biased", [False, True])
def test_attention_counts_what_its_parts_count(biased):
    query, key, bias = torch.ones(1, 2, 6, 8), torch.ones(1, 2, 9, 8), torch.ones(1, 2, 6, 9)

    def in_parts(query, key, bias):
        scores = query @ key.mT
        return (scores + bias if biased else scores).softmax(-1) @ key

    def at_once(query, key, bias):
        return F.scaled_dot_product_attention(query, key, key, bias if biased else None)

    assert count(at_once, query, key, bias) == count(in_parts, query, key, bias) > 0


def test_what_is_neither_convolution_nor_product_counts_by_its_values():
    x = torch.ones(1, 4, 6, 6)
    for run, each in (
        (nn.BatchNorm2d(4).eval(), 2),
        (nn.GroupNorm(2, 4), 7),
        (nn.MaxPool2d(3, stride=1, padding=1), 9),
        (nn.AvgPool2d(3, stride=1, padding=1), 9),
        (nn.Softmax(1), 5),
        (torch.relu, 1),
        (lambda x: x * 0.5, 1),
        (lambda x: x + x, 1),
        (lambda x: x.mean((2, 3)), 1),
    ):
        assert count(run, x) == each * x.numel()
    assert count(nn.Upsample(scale_factor=2, mode="bilinear"), x) == 6 * 4 * x.numel()


def test_copies_and_views_count_nothing():
    x = torch.ones(1, 4, 6, 6)
    for run in (lambda x: x.transpose(1, 2).clone(), lambda x: torch.cat([x, x], 1), lambda x: x.double()):
        assert count(run, x) == 0
    assert count(nn.Upsample(scale_factor=2), x) == 0
