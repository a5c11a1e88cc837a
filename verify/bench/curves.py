"""What rows say over time: mean sizes and bounds of searches, and how many runs were done by when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from verify.bench.row import Row

__all__ = ["Bracket", "brackets", "moments", "solved"]


@dataclass(frozen=True, slots=True)
class Bracket:
    """Means over runs at a time: the smallest certified circuit so far, and the proven lower bound."""

    time_s: float
    lower: float
    upper: float


def moments(rows: Sequence[Row], count: int = 60) -> list[float]:
    """Times on a logarithmic scale, from a hundredth of a second to the end of the longest search."""
    last = max((row.search_s or 0.0 for row in rows), default=0.0)
    last = max(last, 0.1)
    return [0.01 * (last / 0.01) ** (i / (count - 1)) for i in range(count)]


def brackets(rows: Sequence[Row], times: Sequence[float]) -> list[Bracket]:
    """The mean bracket at each time. A search counts from the moment it has told something as far as all have; before that
    everything is kept, and nothing is known to be needed."""
    told = [row for row in rows if row.trace and row.scope_size is not None]
    found: list[Bracket] = []
    for time_s in times if told else ():
        ends = [_at(row, time_s) for row in told]
        found.append(Bracket(time_s, sum(low for low, _ in ends) / len(told), sum(high for _, high in ends) / len(told)))
    return found


def _at(row: Row, time_s: float) -> tuple[float, float]:
    low, high = 0.0, float(row.scope_size or 0)
    for moment, lower, upper in row.trace:
        if moment > time_s:
            break
        low, high = lower, upper
    done = row.search_s is not None and time_s >= row.search_s
    return (row.lower, row.upper) if done and row.lower is not None and row.upper is not None else (low, high)


def solved(rows: Sequence[Row]) -> list[float]:
    """When each run that was proven was done, counted for itself, sorted: the cactus plot's curve."""
    return sorted(row.time_s for row in rows if row.proven)
