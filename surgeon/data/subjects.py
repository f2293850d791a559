"""Which cases belong to one subject, said from outside: a pattern or a table."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

from surgeon.errors import DataError

from .case import Case
from .found import Found
from .functions import SPLITS

_CASE_COLUMNS = ("case", "id", "name", "image", "file")
_SUBJECT_COLUMNS = ("subject", "patient", "subject_id", "patient_id", "patientid", "group")
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xls", ".ods")


def group_cases(found: Found, subjects: str | Path) -> Found:
    """Give cases their subjects, and maybe their strata and splits.

    Args:
        found: cases to group.
        subjects: a regular expression found in the case id, whose first group (or whole match) is the
            subject; or a CSV file with a column `case` and a column `subject`, and maybe a column `stratum`
            (such as the hospital: splits hold equal shares of each) and a column `split` (train, validation
            or test).

    Raises:
        DataError: the pattern is no regular expression or fits nowhere in a case id, or the table lacks a
            column or a case.
    """
    if isinstance(subjects, Path) or subjects.lower().endswith(_TABLES):
        return _from_table(found, Path(subjects))
    try:
        pattern = re.compile(subjects)
    except re.error as error:
        raise DataError(
            f"the pattern for subjects is no regular expression: {error}", where=subjects
        ) from error
    cases = tuple(dataclasses.replace(case, subject=_match(pattern, case)) for case in found.cases)
    return dataclasses.replace(found, cases=cases)


def _from_table(found: Found, file: Path) -> Found:
    table = _read_table(file)
    rows = {case.id: _look_up(table, case, file) for case in found.cases}
    cases = tuple(
        dataclasses.replace(case, subject=rows[case.id]["subject"], stratum=rows[case.id]["stratum"])
        for case in found.cases
    )
    if not any(row["split"] for row in rows.values()):
        return dataclasses.replace(found, cases=cases)
    splits: dict[str, tuple[str, ...]] = dict.fromkeys(SPLITS, ())
    for name, row in rows.items():
        split = next((split for split, words in SPLITS.items() if row["split"].lower() in words), None)
        if split is None:
            raise DataError(
                f"case {name!r} is in the split {row['split']!r}",
                where=str(file),
                fix="write train, validation or test",
            )
        splits[split] += (name,)
    return dataclasses.replace(found, cases=cases, splits=splits)


def _match(pattern: re.Pattern[str], case: Case) -> str:
    match = pattern.search(case.id)
    if match is None:
        raise DataError(
            f"the pattern for subjects fits nowhere in the case {case.id!r}",
            where=pattern.pattern,
            fix=r"give a pattern that finds the subject, such as '^(\w+?)_'",
        )
    return str(match[1] if pattern.groups else match[0])


def _read_table(file: Path) -> dict[str, dict[str, str]]:
    if not file.is_file():
        raise DataError("no such table of subjects", where=str(file))
    rows = _rows(file)
    columns = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    case = next((columns[name] for name in _CASE_COLUMNS if name in columns), None)
    subject = next((columns[name] for name in _SUBJECT_COLUMNS if name in columns), None)
    if case is None or subject is None:
        raise DataError(
            "the table of subjects lacks a column", where=str(file), fix="name two columns case and subject"
        )
    others = {name: columns.get(name, "") for name in ("stratum", "split")}
    table: dict[str, dict[str, str]] = {}
    for row in rows:
        found = {name: (row.get(column) or "").strip() for name, column in others.items()}
        found["subject"] = (row[subject] or "").strip()
        if table.setdefault((row[case] or "").strip(), found) != found:
            raise DataError(
                f"the table of subjects says two things of the case {row[case]!r}",
                where=str(file),
                fix="keep one of its rows",
            )
    return table


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"the table of subjects is no text in UTF-8: {error.reason}",
            where=str(file),
            fix="save it as CSV in UTF-8",
        ) from error
    # Office programs write semicolons where a comma is part of numbers.
    comma = max(",;\t", key=(lines[0] if lines else "").count)
    return list(csv.DictReader(lines, delimiter=comma, skipinitialspace=True))


def _look_up(table: dict[str, dict[str, str]], case: Case, file: Path) -> dict[str, str]:
    # A row may name the case, its file, or the end of the file's path.
    paths = ("/".join(image.parts[-depth:]) for image in case.images[:1] for depth in (1, 2, 3))
    for name in (case.id, *paths):
        if table.get(name, {}).get("subject"):
            return table[name]
    raise DataError(f"the table of subjects has no case {case.id!r}", where=str(file), fix="add a row for it")
