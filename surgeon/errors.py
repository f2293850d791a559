"""What can go wrong, each with what, where and how to mend it.

SurgeonError                 exit code
├── InputError               2   an option, a tensor or a file that cannot be used
│   ├── HostError            2   the network cannot be found, imported or built
│   ├── CheckpointError      2   the weights cannot be read or do not fit
│   ├── DataError            2   images, labels or splits cannot be used
│   └── RunError             2   a RUN folder is missing, unfinished or of another host
├── GateError                1   a check refused the result
│   ├── TraceError           1   no graph of the host could be proved equal to it
│   ├── SpliceError          1   a cell cannot be spliced into a skip
│   ├── ExportError          1   the export could not be written or proved
│   └── WorseError           1   the implanted network is worse than its host
└── Stopped                  130 stopped by the user, resumable
"""

from __future__ import annotations


class SurgeonError(Exception):
    """A failure that a user can understand and mend.

    Args:
        what: what went wrong, in one sentence.
        where: the file, skip, node or option it concerns.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        rows = (self.what, self.where and f"  where: {self.where}", self.fix and f"  fix: {self.fix}")
        return "\n".join(row for row in rows if row)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix)


def _rebuild(kind: type[SurgeonError], what: str, where: str, fix: str) -> SurgeonError:
    return kind(what, where=where, fix=fix)


class InputError(SurgeonError):
    """An option, a tensor or a file that cannot be used."""


class HostError(InputError):
    """The network cannot be found, imported or built."""


class CheckpointError(InputError):
    """The weights cannot be read or do not fit the network."""


class DataError(InputError):
    """Images, labels or splits cannot be used."""


class RunError(InputError):
    """A RUN folder is missing, unfinished or belongs to another host."""


class GateError(SurgeonError):
    """A check refused the result."""

    exit_code = 1


class TraceError(GateError):
    """No graph of the host could be proved equal to it."""


class SpliceError(GateError):
    """A cell cannot be spliced into a skip."""


class ExportError(GateError):
    """The export could not be written or proved."""


class WorseError(GateError):
    """The implanted network is worse than its host."""


class Stopped(SurgeonError):  # noqa: N818 - not an error of anybody's
    """The user stopped the work; it can be resumed."""

    exit_code = 130
