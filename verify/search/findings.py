"""From a search to what a report says of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from specs.encode import Problem
from verify.minimize.marco import Item
from verify.minimize.oracle import Components, Level, implies
from verify.report import Enumeration, Minimality, SearchReport
from verify.report import Moment as MomentReport
from verify.search.run import Search

__all__ = ["Findings", "enumerated", "findings", "kept_of", "masked", "named"]

_LISTED = 100
"""Unresolved circuits that a report lists; `unresolved_count` counts all."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What was searched for, as a report has it. Each is None where it was not asked for."""

    minimality: Minimality | None = None
    search: SearchReport | None = None
    enumeration: Enumeration | None = None


def findings(
    search: Search, level: Level, algorithm: str, order: str | None = None, found: Enumeration | None = None
) -> Findings:
    """What a search knows by now of its best circuit and of `level`. Asks nothing."""
    return Findings(_minimality(search, level), _searched(search, algorithm, order), found)


def kept_of(problem: Problem, circuit: Components) -> dict[str, list[int]]:
    """What a circuit keeps, site by site."""
    kept: dict[str, list[int]] = {gate.tensor: [] for gate in problem.gates.gates}
    for v in sorted(circuit):
        site, index = problem.components[v]
        kept[site].append(index)
    return kept


def masked(problem: Problem, circuit: Components) -> Problem:
    """The problem with a circuit's components kept."""
    mask = problem.mask.new_zeros(problem.mask.shape)
    mask[0, sorted(circuit)] = True
    return replace(problem, mask=mask)


def named(problem: Problem, members: Collection[int]) -> list[str]:
    """Components as `site[index]`."""
    return [f"{site}[{index}]" for site, index in (problem.components[v] for v in sorted(members))]


def _minimality(search: Search, level: Level) -> Minimality:
    state, problem = search.state, search.problem
    assert state is not None
    standing, core = state.standing, search.core()
    reached = search.reached()
    lower = max(state.lower, 0.0 if core is None else search.oracle.cost(core.members))
    if state.lower >= state.upper or (standing.level == "cardinal" and standing.proven):
        lower, reached = state.upper, "cardinal"
    unresolved = search.unresolved(level)
    removals = [state.best - circuit for circuit in unresolved if circuit < state.best]
    others = [circuit for circuit in unresolved if not (circuit < state.best and len(state.best - circuit) == 1)]
    proven = standing.smaller is None and implies(reached, level)
    status = "proven" if proven else "refuted" if standing.smaller is not None else "relative"
    return Minimality(
        level=level,
        proven=proven,
        status=status,
        reached=reached,
        lower=_plain(lower),
        upper=_plain(state.upper),
        unresolved=named(problem, frozenset[int]().union(*removals)) if not proven else [],
        unresolved_count=0 if proven else max(standing.open, len(unresolved)),
        ended=search.ended,
        unresolved_circuits=[] if proven else [kept_of(problem, circuit) for circuit in others[:_LISTED]],
        smaller=kept_of(problem, standing.smaller) if standing.smaller is not None else None,
        core=None if core is None else named(problem, core.members),
        core_complete=core is not None and core.complete,
    )


def _searched(search: Search, algorithm: str, order: str | None) -> SearchReport:
    trace = [
        MomentReport(time_s=m.time_s, lower=_plain(m.lower), upper=_plain(m.upper), unresolved=m.unresolved)
        for m in search.trace
    ]
    known, oracle = search.known, search.oracle
    return SearchReport(
        algorithm=algorithm,
        order=order,
        asked=known.asked,
        proofs=known.passed,
        evaluated=oracle.evaluated,
        resumed=search.resumed,
        trace=trace,
    )


def enumerated(problem: Problem, items: Sequence[Item], complete: bool) -> Enumeration:
    """What an enumeration found. `complete`: it came to its end and left nothing open."""
    circuits = [item for item in items if item.kind == "circuit"]
    members = [item.members for item in circuits]
    core = frozenset.intersection(*members) if members else frozenset[int]()
    return Enumeration(
        complete=complete,
        circuits=[kept_of(problem, circuit) for circuit in members],
        proven=[item.proven for item in circuits],
        core=named(problem, core),
        union=named(problem, frozenset[int]().union(*members)),
        blocking=[named(problem, item.members) for item in items if item.kind == "blocking"],
        open=sum(item.kind == "open" for item in items),
    )


def _plain(cost: float) -> int | float:
    """A count as an integer."""
    return int(cost) if float(cost).is_integer() else cost
