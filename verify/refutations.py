"""What a certificate says of minimality: the refuted circuits that a search leaves behind, each with a witness that the checker
confirms, and the strongest level and bound that it derives from these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from verify.certificate import Arrays, stacked
from verify.check.claim import Question
from verify.check.interval import Rejected
from verify.check.minimality import Refuted, circuit_of, costs_of, kept_of, monotone
from verify.check.witness import Witnesses
from verify.minimize.oracle import LEVELS, Components, Level, Masks, implies
from verify.report import Minimality
from verify.search.findings import Findings
from verify.search.run import Search
from verify.witness.evidence import Evidence
from verify.witness.falsify import Witness, replay
from verify.work.budget import Budget

__all__ = ["Backing", "Numbers", "backing", "confirmed", "shown"]

_LIMIT = 1 << 14
"""Refuted circuits that a certificate holds at most; the checker takes some milliseconds for each."""

_TOGETHER = 1 << 10


@dataclass(frozen=True, slots=True, eq=False)
class Backing:
    """Refuted circuits and witnesses, as a certificate holds them; the level that they prove, and the cost of every faithful
    circuit that they bound from below."""

    arrays: Arrays
    level: Level
    lower: float

    @property
    def stated(self) -> dict[str, Any]:
        """What the manifest says of it."""
        return {"level": self.level, "lower": self.lower}


def backing(search: Search, question: Question, level: Level, lower: float, budget: Budget) -> Backing:
    """The backing of what a search proved of its best circuit: at most `level`, and at most the bound `lower`.

    Cost: for each refuted circuit that these need, a look at the witnesses at hand and the checker's replay; what
    time cuts off is left out.
    """
    numbers = Numbers(search, question)
    arrays: Arrays = {}
    rows: list[int] = []
    found: list[int] = []
    masks = numbers.masks(_wanted(search, question, numbers, level, lower))
    which, witnesses = _witnessed(search, masks, budget)
    if lost := [frozenset(np.flatnonzero(mask).tolist()) for mask, number in zip(masks, which, strict=True) if number < 0]:
        search.oracle.ask(lost, thorough=False)  # witnesses that the pool had no room for are looked for anew
        which, witnesses = _witnessed(search, masks, budget)
    if witnesses:
        arrays = stacked(question, witnesses)
        checker = Witnesses(question, arrays)
        for mask, number in zip(masks, which, strict=True):
            if budget.expired:
                break
            row = numbers.row(mask)
            if number >= 0 and _confirmed(checker, number, kept_of(question, row)):
                rows.append(row)
                found.append(number)
    refuted = Refuted(circuit_of(question), frozenset(rows), costs_of(question), monotone(question))
    arrays["refuted.kept"] = numbers.packed(rows)
    arrays["refuted.witness"] = np.array(found, np.int32)
    return Backing(arrays, _level(refuted, level), _lower(refuted, lower))


def confirmed(said: Minimality, level: Level = "none", lower: float = 0.0, why: str = "") -> Minimality:
    """What a report says of minimality, cut down to the level and the bound that a certificate holds."""
    short = [] if said.lower is None or lower >= said.lower else [f"a lower bound of {said.lower:g}"]
    proven = said.proven and implies(level, said.level)
    short += [f"minimal at level {said.level}"] if said.proven and not proven else []
    changes: dict[str, Any] = {"proven": proven, "lower": int(lower) if lower.is_integer() else lower}
    changes["reached"] = said.reached if implies(level, said.reached) else level
    if said.proven and not proven:
        changes["status"] = "relative"
    if short:
        changes["reason"] = f"{' and '.join(short)}: found, but not in the certificate{why and f' ({why})'}"
    return said.model_copy(update=changes)


def shown(found: Findings, by: Minimality | str) -> Findings:
    """Findings as a certificate shows them; or, where it says nothing of minimality, why."""
    minimality = found.minimality
    if minimality is not None:
        minimality = by if isinstance(by, Minimality) else confirmed(minimality, why=by)
    return replace(found, minimality=minimality)


class Numbers:
    """Components as the search counts them, and as the checker does."""

    def __init__(self, search: Search, question: Question) -> None:
        start: dict[str, int] = {}
        self.size = 0
        for site, granularity in question.circuit.scope.items():
            start[site] = self.size
            self.size += question.program.groups(site, str(granularity))[1]
        self.theirs = [start[site] + index for site, index in search.problem.components]
        self.ours = {at: v for v, at in enumerate(self.theirs)}

    def row(self, mask: NDArray[np.bool_]) -> int:
        return sum(1 << self.theirs[v] for v in np.flatnonzero(mask))

    def of(self, circuit: Components) -> int:
        return sum(1 << self.theirs[v] for v in circuit)

    def packed(self, rows: Sequence[int]) -> NDArray[np.uint8]:
        """Circuits as a certificate holds them."""
        width = -(-self.size // 8)
        bits = [np.frombuffer(row.to_bytes(width, "little"), np.uint8) for row in rows]
        return np.stack(bits) if bits else np.zeros((0, width), np.uint8)

    def masks(self, rows: Sequence[int]) -> Masks:
        masks = np.zeros((len(rows), self.size), bool)
        for mask, row in zip(masks, rows, strict=True):
            mask[[self.ours[at] for at in range(self.size) if row >> at & 1]] = True
        return masks


def _wanted(search: Search, question: Question, numbers: Numbers, level: Level, lower: float) -> list[int]:
    """The circuits whose refutation a level and a bound need, as far as they are known to be refuted."""
    if monotone(question):
        return [numbers.of(circuit) for circuit in search.known.falsified]
    probe = Refuted(circuit_of(question), frozenset(), costs_of(question), False)
    circuits: dict[int, None] = dict.fromkeys(probe.singles())
    for needed in _further(probe, level, lower):
        more = list(islice(needed, _LIMIT + 1))
        if len(more) <= _LIMIT:  # more than that is not worth a certificate: the level below is stated
            circuits.update(dict.fromkeys(more))
    return list(circuits)


def _further(probe: Refuted, level: Level, lower: float) -> Iterator[Iterator[int]]:
    if level in ("subset", "cardinal"):
        yield probe.subsets()
    if lower > 0:
        yield probe.cheaper(Fraction(lower))


def _witnessed(search: Search, masks: Masks, budget: Budget) -> tuple[list[int], list[tuple[int, Witness]]]:
    """For each circuit the number of a witness that refutes it (-1: none is at hand), and the witnesses."""
    numbered: dict[tuple[int, int], int] = {}
    witnesses: list[tuple[int, Witness]] = []
    which = [-1] * len(masks)
    for claim, ladder in enumerate(search.oracle.ladders):
        evidence = ladder.evidence
        left = [i for i, number in enumerate(which) if number < 0]
        for part in (left[at : at + _TOGETHER] for at in range(0, len(left), _TOGETHER)):
            if evidence.pool.points is None or budget.expired:
                break
            asked = torch.from_numpy(masks[part])
            worst, where = evidence.pool.worst(evidence.attackable, asked)
            for i, mask, margin, at in zip(part, asked, worst.tolist(), where.tolist(), strict=True):
                if not margin < 0:
                    continue
                if (claim, at) not in numbered:
                    witness = _witness(search, evidence, mask, at)
                    numbered[claim, at] = len(witnesses) if witness is not None else -1
                    witnesses += [] if witness is None else [(claim, witness)]
                which[i] = numbered[claim, at]
    return which, witnesses


def _witness(search: Search, evidence: Evidence, mask: torch.Tensor, at: int) -> Witness | None:
    points = evidence.pool.points
    assert points is not None
    seen = replay(search.problem, evidence.claim, mask, points[at : at + 1], evidence.library)
    return None if seen is None else seen.witness


def _confirmed(checker: Witnesses, number: int, kept: dict[str, NDArray[np.bool_]]) -> bool:
    try:
        checker.confirm(number, kept)
    except Rejected:
        return False
    return True


def _level(refuted: Refuted, level: Level) -> Level:
    """The highest level, no higher than `level`, that the checker derives."""
    for at in range(LEVELS.index(level), 0, -1):
        try:
            if refuted.proves(LEVELS[at]):
                return LEVELS[at]
        except Rejected:
            continue
    return "none"


def _lower(refuted: Refuted, lower: float) -> float:
    """The greatest bound, no greater than `lower`, that the checker derives."""
    for tried in (lower, lower * (1 - 1e-12)):
        try:
            if refuted.bounds(Fraction(tried)):
                return tried
        except Rejected:
            break
    return float(refuted.least()) * (1 - 1e-12) if refuted.monotone else 0.0
