"""report.html: what a run did and what may be claimed of it, for a person."""

from __future__ import annotations

from pathlib import Path

from surgeon.errors import RunError
from surgeon.files import write_text

from .figures import Drawn, draw_all, write_figures
from .html import Html, join, paragraph, tag
from .reading import Record, read_record
from .sections import sections
from .style import STYLE
from .verdict import verdict_section

__all__ = ["write_report"]


def write_report(run_dir: str | Path, export_dir: str | Path | None = None) -> Path:
    """Write `report.html` and `figures/` of a finished run.

    The page needs no network and no other file. What the run did not record is left out with a sentence.

    Args:
        run_dir: the RUN folder; `report.json` is needed, `history.jsonl`, `genotype.json` and
            `samples.npz` are used where they are.
        export_dir: the folder of an export of this run, whose `export.json` adds a section.

    Returns:
        the path of `report.html`.

    Raises:
        RunError: the folder or `report.json` is missing, or a file is broken.
    """
    record = read_record(run_dir, export_dir)
    drawn = draw_all(record)
    try:
        page = _page(record, drawn)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RunError(
            f"report.json, or export.json, holds something unexpected: {error!r}",
            where=str(record.path),
            fix="restore the files as the run and the export wrote them",
        ) from error
    write_figures(drawn, record.path / "figures")
    write_text(record.path / "report.html", page)
    return record.path / "report.html"


def _page(record: Record, drawn: dict[str, Drawn]) -> str:
    name = str(record.part("host").get("name") or (record.plan.host if record.plan else "host"))
    title = f"{name}: implant report"
    body = [
        tag("header", paragraph("Implant report", class_="eyebrow"), tag("h1", name)),
        verdict_section(record),
        tag("nav", *(tag("a", heading, href=f"#{anchor}") for anchor, heading, _, _ in sections())),
    ]
    for anchor, heading, line, write in sections():
        body.append(
            tag(
                "section", tag("h2", heading), paragraph(line, class_="lead"), write(record, drawn), id=anchor
            )
        )
    head = join((Html('<meta charset="utf-8">'), _viewport(), tag("title", title), tag("style", Html(STYLE))))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{tag("main", *body)}</body></html>\n'


def _viewport() -> Html:
    return Html('<meta name="viewport" content="width=device-width, initial-scale=1">')
