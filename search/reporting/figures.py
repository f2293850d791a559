"""The figures of a report: drawn once, kept as files, put into the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from surgeon.errors import RunError
from surgeon.figures.canvas import render
from surgeon.figures.picture import u_figure
from surgeon.files import whole_file

from .charts import cases_figure, training_figure, weights_figure
from .drawing import cell_figure
from .html import Html, inline_png, inline_svg
from .images import picture_figure
from .reading import Record
from .trade import front_figure, trade_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure as bytes.

    Attributes:
        name: file name under `figures/`.
        content: the bytes of the SVG or PNG.
        label: what it shows.
    """

    name: str
    content: bytes
    label: str

    @property
    def html(self) -> Html:
        """The figure as part of a page."""
        if self.name.endswith(".svg"):
            return inline_svg(self.content, self.label, self.name.removesuffix(".svg"))
        return inline_png(self.content, self.label)


def draw_all(record: Record) -> dict[str, Drawn]:
    """Draw everything that the record has data for.

    Returns:
        figures by name without suffix: `anatomy`, `dice_by_case`, `training`, and for each cell or case
        `cell_...`, `weights_...`, `case_...`.

    Raises:
        RunError: `genotype.json` or `history.jsonl` holds something that cannot be drawn.
    """
    drawn: dict[str, Drawn] = {}

    def keep(name: str, figure: Figure | None, label: str, suffix: str = "svg") -> None:
        if figure is not None:
            drawn[name] = Drawn(f"{name}.{suffix}", render(figure, suffix), label)

    if record.plan is not None:
        keep("anatomy", u_figure(record.part("anatomy")), "the U of the host with its skips")
    finalists = record.part("finalists")
    if finalists:
        front = front_figure(finalists["rows"], finalists["host_validation_dice"])
        keep("front", front, "validation Dice of the finalists against what they cost")
    compared = record.part("comparison").get("rows") or ()
    if compared:
        keep("trade", trade_figure(compared), "Dice against cost")
    host, implanted = case_scores(record, "host"), case_scores(record, "implanted")
    if host.keys() & implanted.keys():
        keep("dice_by_case", cases_figure(host, implanted), "Dice of each test case before and after")
    try:
        _draw_search(record, keep)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(
            f"genotype.json or history.jsonl cannot be drawn: {error!r}",
            where=str(record.path),
            fix="restore the files as the search wrote them",
        ) from error
    for index, picture in enumerate(record.pictures):
        keep(f"case_{index}", picture_figure(picture), f"case {picture.case_id} with outlines", "png")
    return drawn


def _draw_search(record: Record, keep: Any) -> None:
    if _told(record.history):
        keep("training", training_figure(_told(record.history)), "losses and validation Dice over the epochs")
    for name in weight_names(record):
        keep(f"weights_{name}", weights_figure(record.history, name), f"operation weights of cell {name}")
    genotype = record.genotype or {}
    for name, cell in (genotype.get("cells") or {}).items():
        if cell and cell.get("form", "cell") == "cell":
            inputs = 2 if genotype.get("inputs") == "both" else 1
            figure = cell_figure(cell, inputs=inputs, states=int(genotype.get("states", 0)))
            keep(f"cell_{name}", figure, f"the operations of cell {name}")


def _told(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out the phases of finalists and of a comparison: a column for each would not be legible."""
    return [row for row in history if row["phase"].partition("-")[0] not in ("try", "compare")]


def weight_names(record: Record) -> tuple[str, ...]:
    """List the cells whose architecture weights were recorded."""
    return tuple(dict.fromkeys(name for row in record.history for name in row.get("alphas") or {}))


def case_scores(record: Record, network: str) -> dict[str, float]:
    """Return the mean Dice of each test case; cases without a number are left out."""
    cases = (record.part("scores").get(network) or {}).get("per_case") or {}
    means = {name: case_mean(case) for name, case in cases.items()}
    return {name: value for name, value in means.items() if value is not None}


def case_mean(case: Mapping[str, Any]) -> float | None:
    """Return the mean Dice of one case over its classes."""
    dice = case.get("dice")
    values = list(dice.values()) if isinstance(dice, Mapping) else [dice]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return fmean(numbers) if numbers else None


def write_figures(drawn: Mapping[str, Drawn], folder: Path) -> None:
    """Write the figures as files, each whole, and remove figures of an earlier report."""
    for figure in drawn.values():
        with whole_file(folder / figure.name) as part:
            part.write_bytes(figure.content)
    kept = {figure.name for figure in drawn.values()}
    for pattern in ("cell_*.svg", "weights_*.svg", "case_*.png"):
        for old in folder.glob(pattern):
            if old.name not in kept:
                old.unlink()
