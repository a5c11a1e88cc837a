"""Exit codes: what a shell is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from verify.report import Report

__all__ = ["BAD_REQUEST", "BROKEN", "INTERRUPTED", "NO", "NOT_WRITTEN", "OPEN", "VERDICTS", "YES", "code_of"]

YES: Final = 0
"""Certified, confirmed, unsat: what was asked is so."""

NO: Final = 1
"""Falsified, rejected, sat: it is not."""

BAD_REQUEST: Final = 2
OPEN: Final = 3
"""Unknown within the budget."""

BROKEN: Final = 70
"""A fault in this program: none that stands for an answer."""

NOT_WRITTEN: Final = 74
"""There is an answer, and its report could not be written."""

INTERRUPTED: Final = 130

VERDICTS = {"certified": YES, "falsified": NO, "unknown": OPEN}
_MINIMAL = {"proven": YES, "refuted": NO, "relative": OPEN}


def code_of(report: Report) -> int:
    """The exit code of a report. Where minimality was asked of a certified circuit, it is that of the minimality: refuted, by a
    smaller circuit, counts as falsified, relative as unknown."""
    code = VERDICTS[report.verdict]
    return _MINIMAL[report.minimality.status] if report.minimality is not None and code == YES else code
