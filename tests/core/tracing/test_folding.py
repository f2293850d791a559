import math

import pytest
import sympy
from torch.utils._sympy.functions import CeilToInt, FloorDiv, IntTrueDiv, Mod

from surgeon.tracing.folding import folded_sizes


def forms(size, window):
    """Give a size's forms as networks write them, beside what each is in whole numbers."""
    padding = Mod(window - Mod(size, window), window)
    return (
        (size + padding, lambda n: -(-n // window) * window),
        (FloorDiv(size + padding, window), lambda n: -(-n // window)),
        (FloorDiv(FloorDiv(size, 2) + 1, 2), lambda n: (n // 2 + 1) // 2),
        (FloorDiv(FloorDiv(size, 3) - 2, 4), lambda n: (n // 3 - 2) // 4),
        (FloorDiv(FloorDiv(size, 2) + 1, window), lambda n: (n // 2 + 1) // window),
        (CeilToInt(IntTrueDiv(size, window)), lambda n: math.ceil(n / window)),
        (CeilToInt(IntTrueDiv(size + 1, size + 1)), lambda n: 1),
    )


@pytest.mark.parametrize("window", [2, 3, 7, 8])
def test_a_folded_size_is_the_size(window):
    size = sympy.Symbol(f"folded{window}", integer=True, positive=True)
    with folded_sizes():
        folded = forms(size, window)
    for number in range(1, 60):
        assert [form.subs(size, number) for form, _ in folded] == [right(number) for _, right in folded]


def test_whole_windows_divide_without_a_rest():
    size = sympy.Symbol("windows", integer=True, positive=True)
    with folded_sizes():
        padded = size + Mod(7 - Mod(size, 7), 7)
        assert padded == 7 * FloorDiv(size + 6, 7)
        assert Mod(padded, 7) == 0


def test_sympy_folds_nothing_outside_of_a_trace():
    with folded_sizes():
        pass
    size = sympy.Symbol("unfolded", integer=True, positive=True)
    assert FloorDiv(FloorDiv(size, 2) + 1, 2).args[0] != size + 2
