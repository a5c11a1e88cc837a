"""Whether a certified circuit is minimal at a level: proven, refuted by a smaller one, or relative to what stays open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from verify.minimize.exhaustive import smaller_circuits
from verify.minimize.hitting import hitting
from verify.minimize.oracle import Answer, Components, Level, Oracle, Standing, State

__all__ = ["reached", "singles", "standing"]


def standing(oracle: Oracle, circuit: Components, level: Level, limit: int = 1 << 22) -> Iterator[State]:
    """Decide whether a certified `circuit` is minimal at `level`. The last state's standing is the answer.

    `quasi`: some single removal is refuted. `local`: every one is. `subset`: every proper subset is; of a monotone claim that
    is `local`. `cardinal`: every circuit of less cost is; of a monotone claim by hitting sets. Of a claim that is not monotone
    subsets are looked at one by one, the witnesses at hand first, up to `limit` of them.
    """
    if level == "none":
        yield State(circuit, oracle.cost(circuit))
        return
    if level in ("quasi", "local") or (level == "subset" and oracle.monotone):
        found = singles(oracle, circuit, level)
        yield State(circuit, oracle.cost(circuit), 0.0, found)
        return
    one = singles(oracle, circuit, "local")
    if one.smaller is not None:
        yield State(circuit, oracle.cost(circuit), 0.0, Standing(level, False, smaller=one.smaller))
        return
    if oracle.monotone:
        for state in hitting(oracle, circuit):
            smaller = state.best if oracle.cost(state.best) < oracle.cost(circuit) else None
            proven = state.standing.proven and state.lower >= oracle.cost(circuit) and smaller is None
            found = Standing("cardinal", proven, state.standing.unresolved, smaller, state.standing.count)
            yield State(circuit, oracle.cost(circuit), state.lower, found, state.doing)
            if smaller is not None:
                return
        return
    for state in smaller_circuits(oracle, circuit, level, limit):
        yield state


def reached(oracle: Oracle, circuit: Components) -> Standing:
    """The highest level that single removals show of a certified circuit: `subset` of a monotone claim, else `local`; or
    `quasi`, or none."""
    found = singles(oracle, circuit, "subset" if oracle.monotone else "local")
    if found.smaller is None:
        return found
    found = singles(oracle, circuit, "quasi")
    return found if found.smaller is None else Standing("none", True)


def singles(oracle: Oracle, circuit: Components, level: Level = "local") -> Standing:
    """What single removals say. For `quasi` one refuted removal is enough; for more, all must be."""
    order = sorted(circuit)
    if not order:
        return Standing(level, True)
    candidates = [circuit - {v} for v in order]
    answers = oracle.ask(candidates, thorough=False)
    if level == "quasi" and Answer.NO in answers:
        return Standing(level, True)
    for i, answer in enumerate(answers):
        if answer is Answer.OPEN:
            answers[i] = oracle.ask([candidates[i]])[0]
        if answers[i] is Answer.YES and level != "quasi":
            return Standing(level, False, smaller=candidates[i])
        if answers[i] is Answer.NO and level == "quasi":
            return Standing(level, True)
    return _summed(candidates, answers, level)


def _summed(candidates: Sequence[Components], answers: Sequence[Answer], level: Level) -> Standing:
    certified = next((c for c, answer in zip(candidates, answers, strict=True) if answer is Answer.YES), None)
    open_ = tuple(c for c, answer in zip(candidates, answers, strict=True) if answer is Answer.OPEN)
    if level == "quasi":
        # None is refuted: minimal only if what is open is unfaithful.
        return Standing(level, False, open_, certified if not open_ else None)
    return Standing(level, not open_, open_, certified)
