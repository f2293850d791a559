"""The same inputs at another batch and another size."""

from __future__ import annotations

import torch

from surgeon.tracing import as_example, image_shapes
from surgeon.tracing.inputs import other_sizes, with_batch, with_sizes


def test_one_tensor_becomes_one_positional_input():
    x = torch.rand(1, 2, 8)
    assert as_example(x).args == (x,)
    assert as_example([x]).args == (x,)


def test_the_image_is_the_input_of_the_largest_rank():
    example = as_example((torch.rand(1, 3, 8), torch.rand(1, 4, 8, 8)))
    assert image_shapes(example) == [(1, 4, 8, 8), (1, 3, 8)]


def test_whole_numbers_are_no_image():
    example = as_example((torch.rand(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.int64)))
    assert image_shapes(example) == [(1, 1, 8, 8)]


def test_what_shares_the_batch_grows_with_it():
    x, step, table = torch.rand(1, 1, 4, 4), torch.tensor([5]), torch.rand(7, 2)
    grown = with_batch(as_example((x, step, table)), 3).args
    assert [tuple(t.shape) for t in grown] == [(3, 1, 4, 4), (3,), (7, 2)]


def test_items_of_a_grown_batch_differ():
    x = torch.rand(1, 1, 4, 4)
    grown = with_batch(as_example(x), 2).args[0]
    assert torch.equal(grown[:1], x)
    assert not torch.equal(grown[1:], x)


def test_images_of_the_same_size_are_resized_together():
    x, mask, hint = torch.rand(1, 2, 8, 8), torch.rand(1, 1, 8, 8), torch.rand(1, 1, 2, 2)
    resized = with_sizes(as_example((x, mask, hint)), (12, 8)).args
    assert [tuple(t.shape) for t in resized] == [(1, 2, 12, 8), (1, 1, 12, 8), (1, 1, 2, 2)]


def test_a_complex_image_stays_complex_when_resized():
    resized = with_sizes(as_example(torch.rand(1, 1, 8, 8, dtype=torch.complex64)), (16, 8)).args[0]
    assert resized.dtype is torch.complex64
    assert tuple(resized.shape) == (1, 1, 16, 8)


def test_other_sizes_begin_with_the_cheapest():
    assert list(other_sizes((16, 16))) == [(24, 16), (32, 16), (32, 32)]
    assert list(other_sizes((15,))) == [(30,)]
