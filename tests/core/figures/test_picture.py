"""The U as a file."""

import pytest

from surgeon.errors import InputError
from surgeon.figures import anatomy_figure

from .anatomies import make_anatomy, make_skip, mixed_u, no_skips, plain_u


@pytest.mark.parametrize(
    "anatomy", [plain_u(1), plain_u(12), mixed_u(), no_skips()], ids=["one", "12", "mixed", "none"]
)
def test_a_figure_is_written_as_svg_and_png(anatomy, tmp_path):
    svg = anatomy_figure(anatomy, tmp_path / "new folder" / "u.svg")
    png = anatomy_figure(anatomy, tmp_path / "u.PNG")
    assert svg.read_text("utf-8").rstrip().endswith("</svg>")
    assert png.read_bytes().startswith(b"\x89PNG")


def test_the_same_anatomy_gives_the_same_file(tmp_path):
    first, second = (anatomy_figure(mixed_u(), tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second


def test_a_crowded_level_is_drawn_whole(tmp_path):
    crowd = make_anatomy(make_skip(i, level=0) for i in range(40))
    assert anatomy_figure(crowd, tmp_path / "u.png").stat().st_size > 10_000


@pytest.mark.parametrize(("name", "found"), [("u.pdf", "'.pdf'"), ("u", "no suffix")])
def test_another_suffix_is_refused_before_anything_is_drawn(name, found, tmp_path):
    with pytest.raises(InputError, match=rf"written as .svg or .png, the path has {found}") as caught:
        anatomy_figure(plain_u(), tmp_path / name)
    assert caught.value.fix == "name it u.svg"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="the figure cannot be written"):
        anatomy_figure(plain_u(), tmp_path / "file" / "u.svg")


def test_matplotlib_is_left_as_it_was(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    anatomy_figure(plain_u(), tmp_path / "u.svg")
    assert dict(matplotlib.rcParams) == before
