import pytest
import torch
from surgeon.search.cells.products import multiply, multiply_across, subtract

POSITIONS = (16384, 16383, 100)  # taken side by side; not a multiple; too few


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize(("channels", "columns"), [(4, 4), (4, 8), (8, 4), (3, 2), (4, 1), (4, 5), (16, 16)])
def test_products_are_those_of_torch(positions, channels, columns):
    rows, matrix, others = drawn(positions, channels), drawn(channels, columns), drawn(positions, columns)
    with torch.no_grad():
        torch.testing.assert_close(multiply(rows, matrix), rows @ matrix, rtol=0, atol=1e-12)
        torch.testing.assert_close(multiply_across(rows, others), rows.t() @ others, rtol=0, atol=1e-9)


def test_rows_that_are_not_whole_and_those_of_half_precision_are_taken_as_they_are():
    wide = drawn(16384, 8)
    with torch.no_grad():
        torch.testing.assert_close(multiply(wide[:, :4], wide[:4, :4]), wide[:, :4] @ wide[:4, :4])
        torch.testing.assert_close(multiply_across(wide[:, :4], wide), wide[:, :4].t() @ wide)
        torch.testing.assert_close(multiply_across(wide, wide[:, :4]), wide.t() @ wide[:, :4])
        half = wide.bfloat16()
        assert multiply(half, half[:8, :4]).dtype is torch.bfloat16


def test_a_product_has_gradients_and_without_them_is_nobodys_view():
    rows, matrix = drawn(8192, 4).requires_grad_(), drawn(4, 4).requires_grad_()
    found = torch.autograd.grad(multiply(rows, matrix).square().sum(), (rows, matrix))
    wanted = torch.autograd.grad((rows @ matrix).square().sum(), (rows, matrix))
    torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        assert not multiply(rows, matrix)._is_view()


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("channels", [4, 5, 16])
def test_a_value_for_each_channel_is_subtracted_in_place_or_not(positions, channels):
    rows, values = drawn(positions, channels), drawn(channels)
    kept = rows.clone()
    assert torch.equal(subtract(rows, values), kept - values)
    assert torch.equal(rows, kept)
    assert subtract(rows, values, in_place=True) is rows
    assert torch.equal(rows, kept - values)


def test_half_precision_is_subtracted_from_in_its_own_type():
    rows, mean = drawn(8192, 4).bfloat16(), drawn(4).float()
    found = subtract(rows, mean)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, torch.sub(rows, mean).bfloat16())
