"""How close two outputs are."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from surgeon.parity import compare, tensors_in


def test_equal_outputs_are_equal_to_the_bit():
    x = torch.rand(1, 2, 4)
    found = compare(x, x.clone())
    assert found.to_dict() == {
        "largest": 0.0,
        "relative": 0.0,
        "argmax_agreement": 1.0,
        "dice": 1.0,
        "equal": True,
    }


def test_the_largest_difference_is_also_told_relative_to_the_largest_value():
    a = torch.tensor([[[4.0, 1.0]]])
    found = compare(a, a + torch.tensor([0.0, 0.5]))
    assert found.largest == 0.5
    assert found.relative == 0.125
    assert not found.equal


def test_a_small_output_is_not_judged_by_the_range_of_a_large_one():
    large, small = torch.full((1, 2), 1000.0), torch.tensor([[0.5, 0.25]])
    found = compare((large, small), (large, small + torch.tensor([[0.0, 0.25]])))
    assert found.largest == 0.25
    assert found.relative == 0.5


def test_an_output_that_is_zero_but_for_rounding_has_no_range_of_its_own():
    large, zero = torch.full((1, 2), 1000.0), torch.zeros(1, 2)
    assert compare((large, zero), (large, zero + 1e-6)).relative == pytest.approx(1e-3)


def test_an_infinity_does_not_make_other_differences_small():
    a = torch.tensor([[[float("-inf"), 2.0]]])
    assert compare(a, a + 1).relative == 0.5


def test_agreement_counts_positions_with_the_same_largest_channel():
    a = torch.tensor([[[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])  # channel 0 wins everywhere
    b = a.clone()
    b[0, 1, 0] = 2.0  # but at one of four positions
    assert compare(a, b).argmax_agreement == 0.75


def test_agreement_of_one_channel_is_that_of_the_sign():
    assert compare(torch.tensor([[[1.0, -1.0]]]), torch.tensor([[[1.0, 1.0]]])).argmax_agreement == 0.5


def test_equal_infinities_do_not_differ():
    x = torch.tensor([[[float("inf"), 1.0]]])
    assert compare(x, x.clone()).largest == 0.0


def test_not_a_number_is_as_far_as_it_gets():
    assert compare(torch.zeros(1, 1, 2), torch.tensor([[[0.0, float("nan")]]])).largest > 1e300


def test_outputs_of_different_form_are_refused():
    with pytest.raises(ValueError, match=r"outputs differ in form: \[\(1, 2\)\] against \[\(2, 1\)\]"):
        compare(torch.zeros(1, 2), torch.zeros(2, 1))


def test_tensors_are_found_in_any_nest():
    @dataclass
    class Output:
        logits: torch.Tensor
        extra: object

    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    assert [t.numel() for t in tensors_in(Output(a, {"x": [b, "text", None], "y": (c,)}))] == [1, 2, 3]


def test_dice_is_the_mean_over_the_classes_that_occur():
    a, b = torch.zeros(1, 3, 1, 4), torch.zeros(1, 3, 1, 4)
    a[0, [0, 0, 1, 1], 0, range(4)] = 1.0
    b[0, [0, 0, 0, 1], 0, range(4)] = 1.0
    assert compare(a, b).dice == pytest.approx((2 * 2 / 5 + 2 * 1 / 3) / 2)


def test_whole_numbers_are_labels():
    a, b = torch.tensor([[[1, 1, 2, 0]]]), torch.tensor([[[1, 1, 2, 2]]])
    assert compare(a, b).argmax_agreement == 0.75
