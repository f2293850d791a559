from __future__ import annotations

import pytest
import torch
from surgeon.search.operations import (
    GROUPED,
    OPERATIONS,
    BatchNorm,
    check_operations,
    with_operations,
)
from torch import nn

from surgeon.errors import InputError

SIZES = {1: (9,), 2: (9, 7), 3: (5, 6, 7)}


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_shape_in_one_to_three_dimensions(name, spatial_dims, affine):
    x = torch.randn(2, 5, *SIZES[spatial_dims])
    assert OPERATIONS[name](5, spatial_dims, affine)(x).shape == x.shape


def test_the_table_holds_the_published_operations_and_pointwise():
    published = {"none", "identity", "max3", "avg3", "sep3", "sep5", "dil3", "dil5"}
    assert set(OPERATIONS) == published | {"pointwise"}


def test_none_gives_zeros_even_where_the_input_is_not_a_number():
    assert torch.equal(
        OPERATIONS["none"](3, 2, False)(torch.full((1, 3, 4, 4), torch.nan)), torch.zeros(1, 3, 4, 4)
    )


def test_an_average_at_the_border_does_not_count_the_padding():
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(OPERATIONS["avg3"](1, 2, True)(ones), ones)


@pytest.mark.parametrize(("name", "expected"), [("max3", True), ("avg3", True), ("identity", False)])
def test_a_pool_is_normalised_in_the_search_cell_alone(name, expected):
    def norms(affine):
        return [m for m in OPERATIONS[name](4, 2, affine).modules() if isinstance(m, BatchNorm)]

    assert bool(norms(False)) is expected
    assert not norms(True)


# 2 channels, 2-D. A depthwise k x k filter has k * k * 2 weights, a pointwise one 4, an affine norm 4.
@pytest.mark.parametrize(
    ("name", "weights"),
    [("sep3", 2 * (18 + 4 + 4)), ("sep5", 2 * (50 + 4 + 4)), ("dil3", 18 + 4 + 4), ("pointwise", 4 + 4)],
)
def test_convolutions_have_the_published_number_of_weights(name, weights):
    assert sum(p.numel() for p in OPERATIONS[name](2, 2, True).parameters()) == weights


@pytest.mark.parametrize(("name", "reach"), [("sep3", 2), ("sep5", 4), ("dil3", 2), ("dil5", 4), ("max3", 1)])
def test_an_operation_sees_as_far_as_its_kernel_and_dilation_say(name, reach):
    operation = OPERATIONS[name](1, 1, True).eval()
    for module in operation.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.ones_(module.weight)
    x = torch.zeros(1, 1, 21)
    x[..., 10] = 1
    touched = operation(x)[0, 0].nonzero().flatten() - 10
    assert (int(touched.min()), int(touched.max())) == (-reach, reach)


@pytest.mark.parametrize("name", GROUPED)
def test_copies_side_by_side_do_not_see_each_other(name):
    operation = GROUPED[name](3, 2, False, copies=2).eval()
    x = torch.randn(1, 6, 8, 8)
    other = x.clone()
    other[:, 3:] += 1
    assert torch.equal(operation(x)[:, :3], operation(other)[:, :3])
    assert not torch.equal(operation(x)[:, 3:], operation(other)[:, 3:])


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_batch_norm_averages_the_first_batches_as_torch_does_without_momentum(spatial_dims):
    theirs = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[spatial_dims - 1](4, momentum=None)
    ours = BatchNorm(4)
    for _ in range(5):
        x = torch.randn(3, 4, *SIZES[spatial_dims])
        assert torch.equal(ours(x), theirs(x))
    assert torch.allclose(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-6)


def test_batch_norm_gives_later_batches_the_weight_of_its_momentum():
    """Ten batches of mean 0 and one of mean 1: the running mean is 0.1; begun anew it is 1."""
    norm = BatchNorm(1, momentum=0.1)
    for _ in range(12):
        norm(torch.zeros(2, 1, 3))
    norm(torch.ones(2, 1, 3))
    assert norm.running_mean.item() == pytest.approx(0.1)
    norm.restart()
    norm(torch.ones(2, 1, 3))
    assert norm.running_mean.item() == 1.0


def test_batch_norm_takes_the_running_statistics_for_a_single_value():
    norm = BatchNorm(2)
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    out = norm(torch.tensor([[[[3.0]], [[5.0]]]]))
    assert torch.allclose(out.flatten(), torch.tensor([1.0, 2.0]), atol=1e-4)
    assert norm.running_mean.tolist() == [1.0, 1.0]


def test_a_users_own_operation_joins_the_table_and_leaves_the_published_one_alone():
    table = with_operations({"tanh": lambda channels, spatial_dims, affine: nn.Tanh()})
    assert list(table)[-1] == "tanh"
    assert "tanh" not in OPERATIONS


def test_a_users_own_operation_cannot_take_a_known_name():
    with pytest.raises(InputError, match="operation names already taken: sep3"):
        with_operations({"sep3": OPERATIONS["sep5"]})


def test_an_unknown_operation_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="unknown operation 'sep7'") as caught:
        check_operations(("sep3", "sep7"), OPERATIONS)
    assert "dil5" in caught.value.fix
