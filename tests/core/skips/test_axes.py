"""The algebra of axes: which factors of a reshaped tensor are batch, channels and space."""

from __future__ import annotations

from surgeon.skips.axes import (
    Factor,
    Tag,
    axis,
    broadcast,
    channel_axis,
    channels_first,
    permuted,
    positions,
    regrouped,
    resized,
    spread,
)

N, C, S = Tag.BATCH, Tag.CHANNEL, Tag.SPACE


def f(size, tag):
    return Factor(size, tag)


def test_an_image_has_batch_channels_and_space():
    assert channels_first((2, 3, 8, 4)) == ((f(2, N),), (f(3, C),), (f(8, S),), (f(4, S),))


def test_an_axis_of_one_has_no_factors():
    assert channels_first((1, 1, 8)) == ((), (), (f(8, S),))


def test_resolution_is_the_number_of_positions():
    assert positions(channels_first((2, 3, 8, 4))) == 32
    assert positions(channels_first((2, 3, 2, 3, 4))) == 24


def test_flattening_space_keeps_the_resolution():
    tokens = regrouped(channels_first((2, 3, 8, 4)), (2, 3, 32))
    assert tokens == ((f(2, N),), (f(3, C),), (f(8, S), f(4, S)))
    assert positions(tokens) == 32


def test_tokens_have_their_channels_last():
    tokens = permuted(regrouped(channels_first((1, 6, 4, 4)), (1, 6, 16)), (0, 2, 1))
    assert channel_axis(tokens) == 2


def test_windows_move_space_into_the_batch():
    # (1, 8, 8, 3) -> windows of 4 by 4: (4, 16, 3)
    image = ((), (f(8, S),), (f(8, S),), (f(3, C),))
    split = regrouped(image, (1, 2, 4, 2, 4, 3))
    windows = regrouped(permuted(split, (0, 1, 3, 2, 4, 5)), (4, 16, 3))
    assert windows == ((f(2, S), f(2, S)), (f(4, S), f(4, S)), (f(3, C),))
    assert positions(windows) == 64
    assert channel_axis(windows) == 2


def test_heads_are_channels():
    heads = regrouped(((), (f(16, S),), (f(6, C),)), (1, 16, 2, 3))
    assert heads == ((), (f(16, S),), (f(2, C),), (f(3, C),))
    assert channel_axis(heads) is None


def test_patch_merging_folds_space_into_an_axis_that_is_not_of_channels_alone():
    merged = regrouped(((), (f(4, S),), (f(2, S),), (f(6, C),)), (1, 4, 12))
    assert merged == ((), (f(4, S),), (f(2, S), f(6, C)))
    assert channel_axis(merged) is None
    assert spread(merged) == merged


def test_a_depth_to_space_turns_channels_into_positions():
    # (1, 4, 4, 2, 6): pairs of channels become pairs of positions along the second axis
    folded = regrouped(((), (f(4, S),), (f(4, S),), (f(2, C),), (f(6, C),)), (1, 4, 8, 6))
    assert positions(folded) == 16
    assert positions(spread(folded)) == 32
    assert channel_axis(spread(folded)) == 3


def test_sizes_that_do_not_divide_cannot_be_followed():
    assert regrouped(channels_first((1, 3, 5)), (1, 5, 3)) is None
    assert regrouped(channels_first((1, 3, 5)), (1, 3, 4)) is None
    assert regrouped(channels_first((1, 3, 5)), (1, 3)) is None


def test_an_axis_that_keeps_its_size_keeps_its_factors():
    tokens = ((), (f(4, S), f(4, S)), (f(6, C),))
    assert resized(tokens, (1, 16, 12)) == ((), (f(4, S), f(4, S)), (f(12, C),))
    assert resized(tokens, (1, 17, 6)) == ((), (f(17, S),), (f(6, C),))


def test_another_number_of_axes_cannot_be_resized():
    assert resized(channels_first((1, 2, 3)), (1, 2, 3, 4)) is None


def test_a_new_axis_of_an_image_is_space():
    assert resized(channels_first((1, 1, 1, 1)), (2, 3, 4, 5)) == channels_first((2, 3, 4, 5))


def test_elementwise_results_have_the_axes_of_the_input_of_their_shape():
    image, gate = channels_first((1, 3, 8, 4)), channels_first((1, 3, 1, 1))
    found = broadcast([(gate, (1, 3, 1, 1)), (image, (1, 3, 8, 4))], (1, 3, 8, 4))
    assert found == image


def test_shapes_that_grow_in_both_are_aligned_at_the_right():
    rows, columns = channels_first((1, 2, 8, 1)), ((f(4, S),),)
    found = broadcast([(rows, (1, 2, 8, 1)), (columns, (4,))], (1, 2, 8, 4))
    assert found == channels_first((1, 2, 8, 4))


def test_a_size_that_no_input_has_cannot_be_broadcast():
    assert broadcast([(channels_first((1, 2, 8)), (1, 2, 8))], (1, 2, 9)) is None


def test_axis_of_size_one_is_empty():
    assert axis(1, S) == ()
    assert axis(2, S) == (f(2, S),)
