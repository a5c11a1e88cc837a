"""Rows of one network and method taken together: sizes, proven shares with intervals, levels, brackets, times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from statistics import mean, median

from verify.bench.row import Row
from verify.bench.statistics import holm, mcnemar, wilson

__all__ = ["CHECKED", "Group", "Line", "groups", "lines"]

_TOGETHER = 0.05
_LEVELS = ("cardinal", "subset", "local", "quasi", "none")
CHECKED = ("confirmed", "refused", "unfinished", "not supported")


@dataclass(frozen=True, slots=True)
class Group:
    """All rows of an experiment, network, radius and tolerance: the methods that are compared, on the same inputs."""

    experiment: str
    network: str
    epsilon_factor: float
    tolerance_factor: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A method on a network. Shares are of the runs that gave an answer (`count`; `failed` did not).

    `share` are the ends of the Wilson interval of `certified / count`, at a confidence such that those of all methods beside
    each other hold together at 95 % (Bonferroni). `p_value`: McNemar's, exact, on the same inputs, against the first method,
    corrected by Holm; None for the first. `proven`: minimal at the level asked (None: none was). `levels`: runs by the highest
    level proven. `closed`: brackets of the smallest size that are closed. `bracketed`: no lower bound was above an upper one.
    Times are means and medians of seconds; `search_s` is the method's own, `certify_s` that of certifying what it ended with.
    `checked`: certified circuits by what came of their certificates (empty: none were asked for); of those confirmed
    `check_share` is the checker's time as a share of the method's and its certification's, `certificate_bytes` the mean size,
    `checked_levels` runs by the highest level of minimality that is in the certificate.
    """

    experiment: str
    network: str
    method: str
    epsilon_factor: float
    tolerance_factor: float
    epsilon: float | None
    tolerance: float | None
    budget_s: float | None
    count: int
    failed: int
    scope_size: int | None
    size: float | None
    certified: int
    falsified: int
    unknown: int
    share: tuple[float, float] | None
    p_value: float | None
    proven: int | None
    levels: dict[str, int]
    closed: int | None
    bracketed: bool
    monotone: bool | None
    search_s: float | None
    certify_s: float | None
    median_s: float | None
    checked: dict[str, int]
    checked_levels: dict[str, int]
    check_share: float | None
    certificate_bytes: float | None


def groups(rows: Sequence[Row]) -> list[Group]:
    """In the order of the rows' first."""
    found: dict[tuple[str, str, float, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.experiment, row.network, row.epsilon_factor, row.tolerance_factor), []).append(row)
    return [Group(*key, tuple(members)) for key, members in found.items()]


def lines(group: Group, methods: Sequence[str]) -> list[Line]:
    """A line each of those methods that have rows; the first is what the others are compared with."""
    by_method = {name: [row for row in group.rows if row.method == name] for name in methods}
    there = [name for name in methods if by_method[name]]
    values = [_against(by_method[there[0]], by_method[name]) for name in there[1:]]
    corrected = [None, *holm(values)]
    return [_line(group, name, by_method[name], len(there), p) for name, p in zip(there, corrected, strict=True)]


def _against(first: Sequence[Row], second: Sequence[Row]) -> float:
    ours = {(row.index, row.seed): row.verdict == "certified" for row in first if row.error is None}
    pairs = [
        (ours[row.index, row.seed], row.verdict == "certified")
        for row in second
        if row.error is None and (row.index, row.seed) in ours
    ]
    return mcnemar(sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs))


def _line(group: Group, method: str, rows: Sequence[Row], several: int, p_value: float | None) -> Line:
    told = [row for row in rows if row.error is None]
    searched = [row for row in told if row.level is not None]
    leveled = [row for row in searched if row.level != "none"]
    verdicts = [row.verdict for row in told]
    certified = verdicts.count("certified")
    first = told[0] if told else None
    confirmed = [row for row in told if row.checked == "confirmed"]
    return Line(
        experiment=group.experiment,
        network=group.network,
        method=method,
        epsilon_factor=group.epsilon_factor,
        tolerance_factor=group.tolerance_factor,
        epsilon=first.epsilon if first else None,
        tolerance=first.tolerance if first else None,
        budget_s=first.budget_s if first else None,
        count=len(told),
        failed=len(rows) - len(told),
        scope_size=first.scope_size if first else None,
        size=_mean([row.size for row in told]),
        certified=certified,
        falsified=verdicts.count("falsified"),
        unknown=verdicts.count("unknown"),
        share=wilson(certified, len(told), 1 - _TOGETHER / several) if told else None,
        p_value=p_value,
        proven=sum(row.proven for row in leveled) if leveled else None,
        levels={level: n for level in _LEVELS if (n := sum(row.reached == level for row in searched))},
        closed=sum(_closed(row) for row in searched) if searched else None,
        bracketed=all(_bracketed(row) for row in searched),
        monotone=all(row.monotone for row in told) if told else None,
        search_s=_mean([row.search_s for row in told]),
        certify_s=_mean([row.certify_s for row in told]),
        median_s=median(row.time_s for row in told) if told else None,
        checked={name: n for name in CHECKED if (n := sum(row.checked == name for row in told))},
        checked_levels={level: n for level in _LEVELS if (n := sum(row.checked_level == level for row in confirmed))},
        check_share=_share(confirmed),
        certificate_bytes=_mean([row.certificate_bytes for row in confirmed]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _share(confirmed: Sequence[Row]) -> float | None:
    engine_s = sum(row.time_s for row in confirmed)
    return sum(row.check_s or 0.0 for row in confirmed) / engine_s if engine_s > 0 else None


def _closed(row: Row) -> bool:
    return row.verdict == "certified" and row.lower is not None and row.upper is not None and isclose(row.lower, row.upper)


def _bracketed(row: Row) -> bool:
    moments = [(low, high) for _, low, high in row.trace]
    if row.lower is not None and row.upper is not None:
        moments.append((row.lower, row.upper))
    return all(low <= high for low, high in moments)
