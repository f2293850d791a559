"""The drawing of the U, and the tables, as a terminal shows them."""

import io

import pytest
from rich.console import Console

from surgeon.figures import anatomy_summary, draw_u, plan_of, refusal_table, skip_table

from .anatomies import make_anatomy, make_skip, mixed_u, no_skips, plain_u


def shown(renderable, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def test_the_u_has_a_line_for_each_skip_and_narrows_as_it_descends():
    assert draw_u(plain_u(2)).text(60).plain.splitlines() == [
        "   input 1×3×64×64                          output 1×2×64×64",
        "   ▼                                                       ▲",
        "/1 ├─● s0 ── 16 ch ── 256×256 ────────────────────── cat ─▶┤",
        "   ╰──╮                                                 ╭──╯",
        "/2    ├─● s1 ── 32 ch ── 128×128 ──────────────── cat ─▶┤",
        "      ╰────────────────── bottleneck ───────────────────╯",
    ]


def test_a_network_without_skips_says_so():
    assert "no skips found" in shown(draw_u(no_skips()))


def test_several_skips_of_one_level_share_it():
    lines = str(draw_u(mixed_u())).splitlines()
    assert lines[2].startswith("/1 ├─● s0")
    assert lines[3].startswith("   ├─● s1")
    assert "dense" in lines[3]
    assert lines[3].rstrip().endswith("add ─▶┤")


def test_a_skip_that_takes_no_cell_is_dashed():
    line = next(line for line in str(draw_u(mixed_u())).splitlines() if "s3" in line)
    assert "╌╌ no cell ╌" in line


def test_a_skip_that_changes_size_shows_both():
    assert "64×64 → 32×32" in str(draw_u(mixed_u()))


def test_a_crowded_level_counts_what_it_leaves_out():
    crowd = make_anatomy(make_skip(i, level=0) for i in range(13))
    text = str(draw_u(crowd))
    assert "… 3 more at this level" in text
    assert "s9" in text
    assert "s10" not in text


@pytest.mark.parametrize("levels", [1, 3, 12])
@pytest.mark.parametrize("width", [20, 36, 60, 80, 200])
def test_the_drawing_fits_any_terminal(levels, width):
    lines = draw_u(plain_u(levels)).text(width).plain.splitlines()
    assert max(map(len, lines)) <= max(36, min(width, 110))
    assert all(f" s{i} " in "\n".join(lines) for i in range(levels))


def test_one_and_three_dimensions_and_tokens_are_drawn():
    from surgeon.skips import Layout

    one = make_anatomy([make_skip(0, size=(512,), stride=(1,))])
    three = make_anatomy([make_skip(0, size=(8, 16, 16), stride=(1, 2, 2))])
    tokens = make_anatomy(
        [
            make_skip(
                0, merge_shape=(1, 196, 32), source_shape=(1, 196, 32), layout=Layout.TOKENS, stride=(4, 4)
            )
        ]
    )
    assert "512 ─" in str(draw_u(one))
    assert str(draw_u(three)).splitlines()[2].startswith("/1×2×2 ├─● s0 ── 16 ch ── 8×16×16")
    assert "32 ch ── 196 tokens" in str(draw_u(tokens))


def test_plain_ascii_where_the_terminal_knows_nothing_else():
    assert draw_u(mixed_u()).text(80, ascii_only=True).plain.isascii()


def test_the_drawing_reads_the_json_of_an_anatomy_as_well():
    assert plan_of(mixed_u().to_dict()) == plan_of(mixed_u())


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_names_everything(width):
    text = shown(skip_table(plain_u()), width)
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "id",
        "level",
        "stride",
        "size",
        "merge",
        "kind",
        "128×128",
        "encoder.layer3",
        "decoder.up3",
        "yes",
    ):
        assert word in text


def test_the_table_shows_what_a_cell_would_cost():
    text = shown(skip_table(mixed_u(), cell_parameters={"s0": 1234}, cell_flops={"s0": 5_000_000}), 110)
    first = next(line for line in text.splitlines() if line.startswith("s0"))
    assert first.split()[-2:] != ["–", "–"]
    assert "1.23 k" in first
    assert "5 M" in first


def test_the_table_says_why_a_skip_takes_no_cell():
    assert "s3 takes no cell: the operand is complex" in shown(skip_table(mixed_u()))


def test_refused_merges_come_with_their_reason_and_brackets_stay():
    text = shown(refusal_table(mixed_u()), 120)
    assert "encoder.block[0]" in text
    assert "same lowest resolution: a residual" in text


def test_the_summary_says_how_it_was_traced_and_what_sizes_go_in():
    text = shown(anatomy_summary(mixed_u()))
    assert "467 k parameters" in text
    assert "in steps of 16, any batch" in text
    assert "torch.export, free batch and sizes" in text
    assert "two outputs: the larger one was followed" in text
