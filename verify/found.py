"""What a search for circuits gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from verify.report import Report
    from verify.search.run import Search

__all__ = ["Found"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """A circuit with its report. The report's verdict is on that very circuit: certified, unless not even the circuit that
    the search started from is. `search` is what it rests on: all that was proven and refuted on the way."""

    circuit: Circuit
    report: Report
    search: Search | None = field(default=None, repr=False)

    def _repr_html_(self) -> str:
        """What a notebook shows: the report's page."""
        return self.report._repr_html_()  # pyright: ignore[reportPrivateUsage]
