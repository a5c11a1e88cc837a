"""Minimality: which other circuits a certificate refutes, each by a witness, and what follows from that. Trusted base.

A circuit is a number whose bit i says that component i is kept; components are counted along the circuit's scope. Of a monotone
claim a refuted circuit refutes every smaller one: any faithful circuit keeps something of what the refuted one leaves out, so
its cost is at least that of the cheapest set that meets all these. Of other claims only the very circuits count that a witness
was tried on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs import patching
from verify.check.claim import Claim, Question
from verify.check.interval import Box, Rejected
from verify.check.program import Program, evaluate
from verify.check.witness import Witnesses

__all__ = ["LEVELS", "Refuted", "circuit_of", "circuits_in", "confirm_refuted", "costs_of", "covered", "dearer", "kept_of"]
__all__ += ["monotone", "of_circuit"]

LEVELS = ("none", "quasi", "local", "subset", "cardinal")
MAX_NODES = 300_000


@dataclass(frozen=True, slots=True)
class Refuted:
    """`circuit`, which is certified, and the circuits (`rows`) that are refuted. `costs`: of each component, exact."""

    circuit: int
    rows: frozenset[int]
    costs: tuple[Fraction, ...]
    monotone: bool

    def proves(self, level: str) -> bool:
        """Whether the circuit is minimal at a level, as these refutations show. Raises: Rejected: it takes too long to tell."""
        singles = list(map(self.refutes, self.singles()))
        if level == "none" or not singles:
            return level in LEVELS
        if level == "quasi":
            return any(singles)
        if not all(singles):
            return False
        if level == "cardinal":
            return self.bounds(self.cost(self.circuit))
        return level == "local" or (level == "subset" and (self.monotone or all(map(self.refutes, self.subsets()))))

    def bounds(self, lower: Fraction) -> bool:
        """Whether every faithful circuit costs at least `lower`. Raises: Rejected: it takes too long to tell."""
        if self.monotone:
            everything = (1 << len(self.costs)) - 1
            return dearer([everything & ~row for row in self.rows], self.costs, lower)
        return all(map(self.refutes, self.cheaper(lower)))

    def complete(self, listed: Sequence[int]) -> bool:
        """Whether these faithful circuits are all minimal ones of a monotone claim: nothing less than one of them is faithful,
        and every circuit contains one of them or is refuted. Raises: Rejected: it takes too long to tell."""
        everything = (1 << len(self.costs)) - 1
        minimal = all(self.refutes(row & ~(1 << i)) for row in listed for i in _members(row))
        return self.monotone and minimal and covered([everything & ~row for row in self.rows], listed)

    def core(self) -> list[int]:
        """Components that every faithful circuit of a monotone claim keeps, as these refutations show."""
        everything = (1 << len(self.costs)) - 1
        return [i for i in _members(everything) if self.monotone and self.refutes(everything & ~(1 << i))]

    def least(self) -> Fraction:
        """What every faithful circuit of a monotone claim costs at least, as far as can be told in no time."""
        everything, scale = (1 << len(self.costs)) - 1, math.lcm(*(cost.denominator for cost in self.costs))
        prices = [int(cost * scale) for cost in self.costs]
        return Fraction(_packed([everything & ~row for row in self.rows], prices, sum(prices)), scale)

    def cost(self, circuit: int) -> Fraction:
        return sum((cost for i, cost in enumerate(self.costs) if circuit >> i & 1), Fraction(0))

    def refutes(self, circuit: int) -> bool:
        """Whether a circuit is refuted."""
        return circuit in self.rows or (self.monotone and any(circuit & ~row == 0 for row in self.rows))

    def singles(self) -> Iterator[int]:
        """The circuit less one component."""
        return (self.circuit & ~(1 << i) for i in _members(self.circuit))

    def subsets(self) -> Iterator[int]:
        """All proper subsets of the circuit."""
        subset = self.circuit
        while subset:
            subset = (subset - 1) & self.circuit
            yield subset

    def cheaper(self, limit: Fraction) -> Iterator[int]:
        """All circuits that cost less than `limit`."""
        order = sorted(range(len(self.costs)), key=lambda i: self.costs[i])
        pending = [(0, 0, Fraction(0))] if limit > 0 else []
        while pending:
            circuit, start, cost = pending.pop()
            yield circuit
            for at in range(start, len(order)):
                more = cost + self.costs[order[at]]
                if more >= limit:
                    break
                pending.append((circuit | 1 << order[at], at + 1, more))


def dearer(clauses: Sequence[int], costs: Sequence[Fraction], limit: Fraction) -> bool:
    """Whether every set that meets all clauses costs at least `limit`: branch and bound over the members of a smallest clause
    that is not met. Raises: Rejected: more than a fixed number of branches."""
    scale = math.lcm(*(cost.denominator for cost in costs), limit.denominator)
    prices, least = [int(cost * scale) for cost in costs], int(limit * scale)
    pending, nodes = [(tuple(sorted(set(clauses), key=int.bit_count)), 0)], 0
    while pending:
        left, cost = pending.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejected(f"the cheapest set that meets {len(clauses)} others is not found within {MAX_NODES} branches")
        if cost + _packed(left, prices, least - cost) >= least:
            continue
        if not left:
            return False
        first, banned = min(left, key=int.bit_count), 0
        for i in _members(first):
            pending.append((tuple({clause & ~banned for clause in left if not clause >> i & 1}), cost + prices[i]))
            banned |= 1 << i
    return True


def covered(clauses: Sequence[int], listed: Sequence[int]) -> bool:
    """Whether every set that meets all clauses contains a listed one. Raises: Rejected: as `dearer`."""
    pending, nodes = [(0, tuple(set(clauses)))], 0
    while pending:
        inside, left = pending.pop()
        nodes += 1
        if nodes > MAX_NODES:
            raise Rejected(f"whether {len(listed)} circuits are all is not found within {MAX_NODES} branches")
        if any(row & ~inside == 0 for row in listed):
            continue
        if not left:
            return False
        banned = 0
        for i in _members(min(left, key=int.bit_count)):
            pending.append((inside | 1 << i, tuple({clause & ~banned for clause in left if not clause >> i & 1})))
            banned |= 1 << i
    return True


def _packed(clauses: Sequence[int], prices: Sequence[int], enough: int) -> int:
    """What meeting all clauses costs at least: each is paid as much as no member of it has been paid yet, which solves the dual
    linear program. A clause without members cannot be met."""
    rest, total = list(prices), 0
    for clause in sorted(clauses, key=int.bit_count):
        if not clause:
            return enough
        members = _members(clause)
        paid = min(rest[i] for i in members)
        for i in members:
            rest[i] -= paid
        total += paid
        if total >= enough:
            break
    return total


def _members(clause: int) -> list[int]:
    return [i for i in range(clause.bit_length()) if clause >> i & 1]


def confirm_refuted(question: Question, arrays: Mapping[str, NDArray[Any]]) -> Refuted:
    """The refutations in `refuted.*`, each confirmed. Raises: Rejected: one is none, and why."""
    rows, witness, costs = circuits_in(question, arrays, "refuted"), arrays.get("refuted.witness"), costs_of(question)
    if witness is None or witness.dtype.kind != "i" or witness.shape != (len(rows),):
        raise Rejected("the certificate does not say which witnesses refute")
    witnesses = Witnesses(question, arrays)
    for row, number in zip(rows, witness, strict=True):
        witnesses.confirm(int(number), kept_of(question, row))
    found = Refuted(circuit_of(question), frozenset(rows), costs, monotone(question))
    if found.refutes(found.circuit):
        raise Rejected("the certificate refutes what it proves")
    return found


def circuits_in(question: Question, arrays: Mapping[str, NDArray[Any]], name: str) -> list[int]:
    """The circuits in `NAME.kept`, each once. Raises: Rejected."""
    kept, count = arrays.get(f"{name}.kept"), len(costs_of(question))
    if kept is None or kept.dtype != np.uint8 or kept.ndim != 2 or kept.shape[1] != -(-count // 8):
        raise Rejected(f"the certificate holds no {name} circuits")
    rows = [int.from_bytes(bits.tobytes(), "little") for bits in kept]
    if len(set(rows)) < len(rows) or any(row >> count for row in rows):
        raise Rejected(f"a {name} circuit keeps what is not there, or is named twice")
    return rows


def of_circuit(question: Question, row: int) -> Question:
    """The same question about another circuit."""
    kept = kept_of(question, row)
    claims = (
        replace(claim, gates={site: replace(gate, kept=kept[site]) for site, gate in claim.gates.items()})
        for claim in question.claims
    )
    return replace(question, claims=tuple(claims))


def kept_of(question: Question, row: int) -> dict[str, NDArray[np.bool_]]:
    """The elements of each site that a circuit keeps."""
    kept: dict[str, NDArray[np.bool_]] = {}
    for site, granularity in question.circuit.scope.items():
        group, count = question.program.groups(site, str(granularity))
        kept[site] = np.array([bool(row >> i & 1) for i in range(count)], bool)[group]
        row >>= count
    return kept


def circuit_of(question: Question) -> int:
    """The question's own circuit."""
    found = start = 0
    for site, granularity in question.circuit.scope.items():
        group, count = question.program.groups(site, str(granularity))
        kept = question.claims[0].gates[site].kept
        found |= sum(1 << start + int(i) for i in np.unique(group[kept]))
        start += count
    return found


def costs_of(question: Question) -> tuple[Fraction, ...]:
    """What each component costs: 1 where the spec says nothing."""
    found: list[Fraction] = []
    for site, granularity in question.circuit.scope.items():
        count, given = question.program.groups(site, str(granularity))[1], question.spec.weights.get(site, 1.0)
        each = list(given) if isinstance(given, tuple) else [given] * count
        if len(each) != count or not all(math.isfinite(cost) and cost > 0 for cost in each):
            raise Rejected(f"the weights of site {site!r} are not one positive number a component")
        found += map(Fraction, each)
    return tuple(found)


def monotone(question: Question) -> bool:
    """Whether a faithful circuit is known to make every larger one faithful: when each component's value lies among those that
    it may be patched with, whatever is patched upstream, the smaller circuit can compute all that the larger one does."""
    closed = isinstance(question.spec.patching, patching.Closed)
    return all(closed or _stays(question.program, claim) for claim in question.claims)


def _stays(program: Program, claim: Claim) -> bool:
    if claim.second is not None:
        return False
    gates = {site: (np.zeros(1, bool), (gate.lower, gate.upper)) for site, gate in claim.gates.items()}
    known = evaluate(program, (claim.region.lower, claim.region.upper), gates)
    inside = [program.steps[site].op.image(*(known[x] for x in program.steps[site].inputs)) for site in gates]
    return all(_within(box, gate.lower, gate.upper) for box, gate in zip(inside, claim.gates.values(), strict=True))


def _within(box: Box, lower: Any, upper: Any) -> bool:
    return bool((box[0] >= lower).all() and (box[1] <= upper).all())
