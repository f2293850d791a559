"""Windows over large images."""

from __future__ import annotations

import pytest
import torch

from surgeon.data import Preparation, Window
from surgeon.errors import DataError
from surgeon.scores.windows import slide


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("placing", ["even", "stride"])
@pytest.mark.parametrize("weights", ["gaussian", "constant"])
@pytest.mark.parametrize("size", [(5, 6), (17, 9), (16, 30)])
def test_what_does_not_depend_on_its_surroundings_is_seen_as_a_whole(
    size: tuple[int, int], weights: str, placing: str
) -> None:
    x = image(2, 1, *size)
    window = Window((8, 8), weights=weights, placing=placing, mirror=(0, 1))
    assert torch.allclose(slide(lambda p: torch.cat([p, -p], 1), x, window), torch.cat([x, -x], 1), atol=1e-5)


def test_windows_lie_evenly_from_border_to_border() -> None:
    seen = []

    def look(patch: torch.Tensor) -> torch.Tensor:
        seen.append((int(patch[0, 0, 0]), int(patch[0, 0, -1])))
        return patch

    slide(look, torch.arange(110.0)[None, None], Window((64,)))
    assert seen == [(0, 63), (23, 86), (46, 109)]  # the example in nnU-Net's own comment


def test_a_mirrored_window_is_the_mean_over_all_flips() -> None:
    x = image(1, 1, 4, 4)
    ramp = torch.arange(16.0).reshape(4, 4)
    found = slide(lambda p: p + ramp, x, Window((4, 4), mirror=(0, 1)))
    assert torch.allclose(found, x + ramp.mean(), atol=1e-5)


def test_a_window_travels_as_toml(tmp_path) -> None:
    from surgeon.data import read_preparation

    how = Preparation(spacing=(1.0, 1.0, 2.0), resampling="cubic", window=Window((4, 8, 8), mirror=(1,)))
    (tmp_path / "p.toml").write_text(how.to_toml())
    assert read_preparation(tmp_path / "p.toml") == how
    assert Preparation.from_dict(how.to_dict()) == how
    assert how.window is not None
    assert how.window.unmirrored().mirror == ()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"size": [0, 4]}, r"size of \[0, 4\] cannot be used"),
        ({"size": []}, "size of"),
        ({"size": "64"}, "size of"),
        ({"size": [4], "overlap": 1}, "overlap of 1"),
        ({"size": [4], "mirror": [1]}, r"mirror axes \[1\] of a window with 1 axes"),
        ({"size": [4], "placing": "random"}, "placing of 'random'"),
        ({"size": [4], "weights": "round"}, "weights of 'round'"),
        ({"size": [4], "step": 3}, "the window of the preparation cannot be used"),
        ({}, "the window of the preparation cannot be used"),
        ([4], "the window of the preparation cannot be used"),
    ],
)
def test_a_window_that_cannot_be_used_is_refused(values, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Preparation.from_dict({"window": values})
