"""A search for minimal circuits as it is run: what it knows at any moment, what it writes down, what it reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from specs.encode import Problem
from verify.ladder.round import Decision, Tally
from verify.minimize.choose import minimized
from verify.minimize.claims import ClaimsOracle
from verify.minimize.known import Known
from verify.minimize.oracle import Answer, Components, Level, Standing, State, implies
from verify.minimize.standing import standing
from verify.search.journal import Journal
from verify.verdict import Certified
from verify.work.budget import Budget
from verify.work.progress import Progress, Silent, Stage

__all__ = ["Core", "Moment", "Search", "harder"]

_FIRST_SHARE = 1 / 40
_FIRST_LEAST_S = 1.0
_HARDER = 4.0
_TRACED = 2000


@dataclass(frozen=True, slots=True)
class Moment:
    """The bracket at a time: seconds since the search began, cost of the best circuit, lower bound, circuits left open."""

    time_s: float
    upper: float
    lower: float
    unresolved: int


@dataclass(frozen=True, slots=True)
class Core:
    """Components that every faithful circuit keeps: those whose removal from everything is refuted. `complete`: no removal was
    left open, so there are no others."""

    members: Components
    complete: bool


@dataclass(slots=True, eq=False)
class Search:
    """One problem's search, its budget and its memory. Made by `Search.over`; run by `check` or `minimize`.

    Each question first gets a small share of the time. When all is done but for what stayed open, that is asked again with four
    times as much, and so on until the time is spent (`harder`). Stopped at any moment, `state` is what is known; `ended` says
    that the search came to its end, whatever stayed open.
    """

    problem: Problem
    oracle: ClaimsOracle
    known: Known
    budget: Budget
    progress: Progress
    journal: Journal | None = None
    state: State | None = None
    trace: list[Moment] = field(default_factory=list[Moment])
    began: float = field(default_factory=time.monotonic)
    resumed: int = 0
    ended: bool = False

    @classmethod
    def over(
        cls,
        problem: Problem,
        budget: Budget,
        *,
        question_s: float | None = None,
        backend: str = "auto",
        device: str = "cpu",
        seed: int = 0,
        tally: Tally | None = None,
        progress: Progress | None = None,
        journal: Journal | None = None,
    ) -> Search:
        """A search over a problem's circuits; what `journal` holds is known from the start."""
        first_s = max(_FIRST_LEAST_S, budget.remaining() * _FIRST_SHARE) if question_s is None else question_s
        oracle = ClaimsOracle(problem, budget, first_s, backend=backend, device=device, seed=seed, tally=tally)
        known = Known(oracle)
        made = cls(problem, oracle, known, budget, progress or Silent(), journal)
        oracle.notify = made._rung
        if journal is not None:
            made._resume(journal)
        return made

    def _resume(self, journal: Journal) -> None:
        self.known.learn(journal.learned.answers)
        self.oracle.decisions.update(journal.learned.decisions)
        self.resumed = len(journal.learned.answers)
        for claim, points in journal.learned.points:
            if 0 <= claim < len(self.oracle.ladders):
                self.oracle.ladders[claim].pool.add(points)
        for i, ladder in enumerate(self.oracle.ladders):
            ladder.pool.note = partial(journal.witnessed, i)
        self.known.note = self._noted

    def _noted(self, circuit: Components, answer: Answer) -> None:
        if self.journal is not None:
            self.journal.answered(circuit, answer, self.oracle.decisions.get(circuit) if answer is Answer.YES else None)

    def certified(self, circuit: Components, decisions: Sequence[Decision]) -> None:
        """Take in that a circuit was certified elsewhere."""
        self.known.learn([(circuit, Answer.YES)])
        self.oracle.decisions[circuit] = list(decisions)

    def begin(self, start: Components) -> list[Decision]:
        """Decide the claims about the circuit that a search starts from; the whole budget may go into that. Where all are
        certified, it is the best so far."""
        found = self.oracle.decided(start)
        if found is None:
            found = self.oracle.climbed(start)
            if all(isinstance(d.verdict, Certified) for d in found):
                self.certified(start, found)
                if self.journal is not None:
                    self.journal.answered(start, Answer.YES, found)
        if self.oracle.decided(start) is not None:
            self._told(State(start, self.oracle.cost(start)))
        return found

    def check(self, circuit: Components, level: Level, decisions: Sequence[Decision], limit: int = 1 << 22) -> bool:
        """Decide whether a circuit is minimal at a level; `decisions` are those that certified it. Returns as `minimize`."""
        self.certified(circuit, decisions)
        return self._run(lambda: standing(self.known, circuit, level, limit), circuit)

    def minimize(self, start: Components, level: Level, order: Sequence[int], algorithm: str = "auto") -> bool:
        """From a certified circuit to one minimal at a level. Returns whether nothing is left to resume: neither the time ran
        out nor anything stayed open. Raises: NotMonotone."""
        return self._run(lambda: minimized(self.known, self.best or start, level, order, algorithm), start)

    @property
    def best(self) -> Components | None:
        """The best circuit so far."""
        return None if self.state is None else self.state.best

    def _run(self, begin: Callable[[], Iterator[State]], start: Components) -> bool:
        if self.state is None:
            self._told(State(start, self.oracle.cost(start)))
        if self.known.monotone:
            # What every faithful circuit needs: the core, and a first lower bound.
            self.known.ask([self.oracle.everything - {v} for v in sorted(start)], thorough=False)
        while True:
            for state in begin():
                self._told(state)
                if self.budget.expired:
                    return False
            self.ended = True
            state = self.state
            assert state is not None
            if state.standing.smaller is not None or not state.standing.open:
                return True
            if self.oracle.question_s >= self.budget.remaining():
                return False
            self.oracle.question_s = harder(self.oracle.question_s, state.standing.open, self.budget.remaining())
            self.known.reopen()

    def _told(self, state: State) -> None:
        if self.state is not None and state.lower < self.state.lower:
            # A bound that was proven holds, whatever the search looks at again.
            state = replace(state, lower=min(self.state.lower, state.upper))
        self.state = state
        moment = Moment(time.monotonic() - self.began, state.upper, state.lower, state.standing.open)
        if not self.trace or (moment.upper, moment.lower, moment.unresolved) != _bracket(self.trace[-1]):
            if len(self.trace) < _TRACED:
                self.trace.append(moment)
            else:
                self.trace[-1] = moment
        self._rung("")

    def _rung(self, rung: str) -> None:
        state = self.state
        if state is not None:
            doing = "; ".join(part for part in (state.doing, rung) if part)
            self.progress.show(
                Stage(len(state.best), self.oracle.size, state.lower, state.upper, state.standing.open, self.known.asked, doing)
            )

    def core(self) -> Core | None:
        """What all faithful circuits share, as far as it is known, of a monotone claim; None of another, where single removals
        do not tell."""
        if not self.known.monotone or self.best is None:
            return None
        everything = self.oracle.everything
        answers = {v: self.known.known(everything - {v}) for v in self.best}
        found = frozenset(v for v, answer in answers.items() if answer is Answer.NO)
        return Core(found, None not in answers.values())

    def unresolved(self, level: Level) -> list[Components]:
        """The circuits that a level needs refuted and that are not. Those that the search has not come to are not listed, but
        for single removals."""
        state = self.state
        assert state is not None
        found = list(state.standing.unresolved)
        if implies(level, "local") and not implies(self.reached(), "local"):
            singles = [state.best - {v} for v in sorted(state.best)]
            found += [c for c in singles if self.known.known(c) is None and c not in found]
        return found

    def reached(self) -> Level:
        """The highest level that is proven of the best circuit."""
        state = self.state
        assert state is not None
        proven: Standing = state.standing
        level: Level = proven.level if proven.proven and proven.smaller is None else "none"
        singles = [self.known.known(state.best - {v}) for v in state.best]
        if all(answer is Answer.NO for answer in singles):
            shown: Level = "subset" if self.known.monotone else "local"
        else:
            shown = "quasi" if Answer.NO in singles else "none"
        return level if implies(level, shown) else shown


def harder(question_s: float, open_: int, remaining_s: float) -> float:
    """What a question may cost when `open_` of them are asked again: four times as much, and where no question could be asked
    once more after that, an equal share of all that remains, if that is more."""
    longer = _HARDER * question_s
    if (open_ + _HARDER) * longer > remaining_s:
        longer = max(longer, remaining_s / open_)
    return min(longer, max(remaining_s, 1e-6))


def _bracket(moment: Moment) -> tuple[float, float, int]:
    return moment.upper, moment.lower, moment.unresolved
