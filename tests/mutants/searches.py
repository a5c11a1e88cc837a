"""Searches that say more than was shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.mutants.planting import Patch, changed, mutant
from verify.minimize import ascending, exhaustive, hitting
from verify.minimize import standing as standings
from verify.minimize.known import Known
from verify.minimize.oracle import Answer, Components, Oracle, Standing, State


@mutant("search")
def open_taken_for_certified(patch: Patch) -> None:
    def wrong(self: Oracle, circuit: Components) -> bool:
        return self.ask([circuit])[0] is not Answer.NO

    patch.setattr(Oracle, "faithful", wrong)


@mutant("search")
def open_taken_for_refuted(patch: Patch) -> None:
    def wrong(original: Any, candidates: Sequence[Components], answers: Sequence[Answer], level: Any) -> Standing:
        return original(candidates, [Answer.NO if a is Answer.OPEN else a for a in answers], level)

    changed(patch, standings, "_summed", wrong)


@mutant("search")
def every_claim_taken_for_monotone(patch: Patch) -> None:
    def wrong(original: Any, self: Known, *given: Any) -> None:
        original(self, *given)
        self.monotone = True

    changed(patch, Known, "__init__", wrong)


@mutant("search")
def certificates_carried_to_smaller_circuits(patch: Patch) -> None:
    def wrong(original: Any, self: Known, circuit: Components) -> Answer | None:
        larger = self.monotone and any(circuit < other for other in self._yes)
        return Answer.YES if larger and circuit not in self._exact else original(self, circuit)

    changed(patch, Known, "known", wrong)


@mutant("search")
def a_size_skipped(patch: Patch) -> None:
    def wrong(original: Any, members: Sequence[int], size: int, width: int) -> Iterable[Any]:
        return iter(()) if size == 1 else original(members, size, width)

    for owner in (exhaustive, ascending):
        changed(patch, owner, "of_size", wrong)


@mutant("search")
def a_bound_that_rests_on_open_circuits(patch: Patch) -> None:
    def wrong(original: Any, *given: Any) -> Iterable[State]:
        for state in original(*given):
            found = Standing("cardinal", True) if state.standing.unresolved else state.standing
            yield State(state.best, state.upper, state.upper if found is not state.standing else state.lower, found)

    from verify.minimize import choose

    changed(patch, choose, "hitting", wrong)
    changed(patch, hitting, "hitting", wrong)
