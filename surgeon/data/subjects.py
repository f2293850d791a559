"""Which cases belong to one subject, said from outside: a pattern or a table."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

from surgeon.errors import DataError

from .cohort import Case

_CASE_COLUMNS = ("case", "id", "name", "image", "file")
_SUBJECT_COLUMNS = ("subject", "patient", "group")


def group_cases(cases: tuple[Case, ...], subjects: str | Path) -> tuple[Case, ...]:
    """Give cases their subjects.

    Args:
        cases: to group.
        subjects: a regular expression found in the case id, whose first group (or whole match) is the
            subject, or a CSV file with a column `case` and a column `subject`.

    Raises:
        DataError: the pattern is no regular expression or fits nowhere in a case id, or the table lacks a
            column or a case.
    """
    if isinstance(subjects, Path) or subjects.lower().endswith(".csv"):
        table = _read_table(Path(subjects))
        return tuple(dataclasses.replace(case, subject=_look_up(table, case, subjects)) for case in cases)
    try:
        pattern = re.compile(subjects)
    except re.error as error:
        raise DataError(
            f"the pattern for subjects is no regular expression: {error}", where=subjects
        ) from error
    return tuple(dataclasses.replace(case, subject=_match(pattern, case)) for case in cases)


def _match(pattern: re.Pattern[str], case: Case) -> str:
    match = pattern.search(case.id)
    if match is None:
        raise DataError(
            f"the pattern for subjects fits nowhere in the case {case.id!r}",
            where=pattern.pattern,
            fix=r"give a pattern that finds the subject, such as '^(\w+?)_'",
        )
    return str(match[1] if pattern.groups else match[0])


def _read_table(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise DataError("no such table of subjects", where=str(file))
    with file.open(newline="", encoding="utf-8-sig") as content:
        rows = list(csv.DictReader(content))
    columns = {name.strip().lower(): name for name in (rows[0] if rows else {})}
    case = next((columns[name] for name in _CASE_COLUMNS if name in columns), None)
    subject = next((columns[name] for name in _SUBJECT_COLUMNS if name in columns), None)
    if case is None or subject is None:
        raise DataError(
            "the table of subjects lacks a column", where=str(file), fix="name two columns case and subject"
        )
    return {row[case]: row[subject] for row in rows}


def _look_up(table: dict[str, str], case: Case, file: str | Path) -> str:
    for name in (case.id, case.images[0].name):
        if table.get(name):
            return table[name]
    raise DataError(f"the table of subjects has no case {case.id!r}", where=str(file), fix="add a row for it")
