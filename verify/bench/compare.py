"""Two results of a suite held against each other: what became worse, what better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from verify.bench.row import Row

__all__ = ["Change", "Comparison", "compared", "said"]

_LEVELS = ("none", "quasi", "local", "subset", "cardinal")
_LEAST_S = 0.5
"""Medians that differ by less are noise."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is different, and whether it is worse."""

    what: str
    worse: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """`both`: runs that both have; `only_before`, `only_after`: runs that one has."""

    both: int
    only_before: int
    only_after: int
    changes: tuple[Change, ...]


def compared(before: Sequence[Row], after: Sequence[Row], slower: float = 1.5) -> Comparison:
    """Run by run: a lost proof, a contradiction, a lower level, a wider bracket, a new failure, a run that is gone. Method by
    method: a median time that is `slower` times as long. A contradiction (certified here, falsified there, of the same
    circuit, radius and tolerance) is worse in both directions: one of them is wrong."""
    old, new = {row.key: row for row in before}, {row.key: row for row in after}
    shared = [key for key in old if key in new]
    changes = [change for key in shared for change in _run(old[key], new[key])]
    changes += [Change(f"{_name(old[key])}: no such run any more", True) for key in old if key not in new]
    changes += _times([(old[key], new[key]) for key in shared], slower)
    return Comparison(len(shared), len(old) - len(shared), len(new) - len(shared), tuple(changes))


def _run(a: Row, b: Row) -> list[Change]:
    name = _name(a)
    if a.error is not None or b.error is not None:
        if (a.error is None) == (b.error is None):
            return []
        return [Change(f"{name}: {'fails now: ' + b.error if b.error else 'fails no more'}", b.error is not None)]
    if (a.epsilon, a.tolerance) != (b.epsilon, b.tolerance) or a.model_sha256 != b.model_sha256:
        return [Change(f"{name}: another question (model, radius or tolerance)", True)]
    found: list[Change] = []
    if a.verdict != b.verdict:
        contradicts = a.kept == b.kept and {a.verdict, b.verdict} == {"certified", "falsified"}
        worse = contradicts or a.verdict == "certified" or (a.verdict == "falsified" and b.verdict == "unknown")
        end = ", of the same circuit: one of them is wrong" if contradicts else ""
        found.append(Change(f"{name}: {a.verdict}, now {b.verdict}{end}", worse))
    if a.reached != b.reached and a.reached in _LEVELS and b.reached in _LEVELS:
        worse = _LEVELS.index(b.reached) < _LEVELS.index(a.reached)
        found.append(Change(f"{name}: {a.reached} minimality proven, now {b.reached}", worse))
    if a.lower is not None and a.upper is not None and b.lower is not None and b.upper is not None:
        if b.lower > a.upper or a.lower > b.upper:
            said_ = f"[{a.lower:g}, {a.upper:g}] and [{b.lower:g}, {b.upper:g}]"
            found.append(Change(f"{name}: brackets {said_} of the same least size do not meet: one of them is wrong", True))
        elif b.upper - b.lower != a.upper - a.lower:
            worse = b.upper - b.lower > a.upper - a.lower
            found.append(Change(f"{name}: bracket [{a.lower:g}, {a.upper:g}], now [{b.lower:g}, {b.upper:g}]", worse))
    return found


def _times(pairs: Sequence[tuple[Row, Row]], slower: float) -> list[Change]:
    by_method: dict[tuple[str, str, str], list[tuple[Row, Row]]] = {}
    for a, b in pairs:
        if a.error is None and b.error is None:
            by_method.setdefault((a.experiment, a.network, a.method), []).append((a, b))
    found: list[Change] = []
    for key, members in by_method.items():
        was, now = median(a.time_s for a, _ in members), median(b.time_s for _, b in members)
        if max(was, now) > slower * min(was, now) and abs(was - now) > _LEAST_S:
            found.append(Change(f"{': '.join(key)}: median {was:.2f} s, now {now:.2f} s", now > was))
    return found


def _name(row: Row) -> str:
    factors = "" if row.epsilon_factor == row.tolerance_factor == 1 else f" {row.epsilon_factor:g}ε {row.tolerance_factor:g}δ"
    return f"{row.experiment}: {row.network}[{row.index}]{factors}: {row.method}"


def said(found: Comparison) -> str:
    """A line each change, worse ones first, and a count."""
    order = sorted(found.changes, key=lambda change: not change.worse)
    lines = [f"{'worse' if change.worse else 'better'}  {change.what}" for change in order]
    worse = sum(change.worse for change in found.changes)
    end = f"{found.both} runs compared: {worse} worse, {len(order) - worse} better; {found.only_after} new"
    return "\n".join([*lines, end])
