import pytest
import torch
from surgeon.export.naming import axis_names, input_names, output_names, rename_symbols, simplify_size

from surgeon.tracing import Example


def test_a_single_input_is_called_input():
    assert input_names(Example((torch.zeros(1, 1, 4),), {}), ("x",)) == ("input",)


def test_several_inputs_are_called_as_the_forward_calls_them():
    example = Example((torch.zeros(1, 1, 4), 3), {"mask": torch.zeros(1, 1, 4)})
    assert input_names(example, ("x", "steps", "mask")) == ("x", "mask")
    assert input_names(example, ("x",)) == ("input_0", "input_1")


def test_outputs_are_called_by_their_keys_or_numbers():
    x = torch.zeros(1)
    assert output_names(x) == ("output",)
    assert output_names([x, x]) == ("output_0", "output_1")
    assert output_names({"out": x, "aux": x}) == ("out", "aux")


@pytest.mark.parametrize(
    ("rank", "names"),
    [
        (3, ("batch", "channels", "length")),
        (4, ("batch", "channels", "height", "width")),
        (5, ("batch", "channels", "depth", "height", "width")),
        (1, ("batch",)),
    ],
)
def test_axes_have_names_a_person_expects(rank, names):
    assert axis_names(rank) == names


def test_symbols_are_renamed_as_whole_words():
    assert rename_symbols("2*((s1 - 1)//2) + s10", {"s1": "height"}) == "2*((height - 1)//2) + s10"


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("4*(((height - 1)//4)) + 4", "height"),
        ("(height//2)", "(height//2)"),
        ("height + width", "height + width"),
        ("Max(1, height)", "Max(1, height)"),
        ("height", "height"),
    ],
)
def test_a_size_that_is_the_axis_itself_is_written_as_the_axis(text, simple):
    assert simplify_size(text) == simple
