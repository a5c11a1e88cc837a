"""Model and circuit at points, in interval arithmetic: at all points of a finite region that proves a claim. Trusted base."""

from __future__ import annotations

from collections.abc import Mapping

from verify.check.agreement import deviation
from verify.check.claim import Claim, Gate, Question
from verify.check.interval import Array, Box, Rejected
from verify.check.program import Program, evaluate
from verify.check.tokens import MAX_POINTS, Tokens

__all__ = ["confirm_all", "counted", "outputs"]

_NUMBERS = 1 << 23


def outputs(program: Program, gates: Mapping[str, Gate], x: Array, second: Box | None) -> tuple[Box, Box]:
    """What the model and the circuit compute at points. Gates that take a second run's values take those on `second`. Shapes:
    `(..., size)`; ends `(..., outputs)`."""
    again = evaluate(program, second) if second is not None else {}
    patched = {site: (gate.kept, again[site] if gate.reached else (gate.lower, gate.upper)) for site, gate in gates.items()}
    return evaluate(program, (x, x))[program.output], evaluate(program, (x, x), patched)[program.output]


def counted(claim: Claim, tokens: Tokens) -> int:
    """How many points there are, with those of the second region. Raises: Rejected: too many."""
    count = tokens.count * (claim.second.count if isinstance(claim.second, Tokens) else 1)
    if count > MAX_POINTS:
        raise Rejected(f"claim {claim.label!r}: {count} points are more than the checker's {MAX_POINTS}")
    return count


def confirm_all(question: Question, claim: Claim, tokens: Tokens) -> int:
    """Show that a claim holds at every point of its region, and every one of the second region; of a second region that is not
    finite, at whatever each of its elements can be. Returns the number of points. Raises: Rejected: it is not shown."""
    program, record, second, count = question.program, question.spec.agreement, claim.second, counted(claim, tokens)
    step = max(1, _NUMBERS // sum(s.size for s in program.steps.values()))
    for i in range(count // tokens.count):
        again = None if second is None else (second.lower, second.upper)
        if isinstance(second, Tokens):
            again = second.rows(i, i + 1)[0], second.rows(i, i + 1)[0]
        for start in range(0, tokens.count, step):
            x = tokens.rows(start, start + step)
            held = deviation(record, *outputs(program, claim.gates, x, again))[1] <= record.tolerance
            if not held.all():
                raise Rejected(f"claim {claim.label!r}: sequence {start + int(held.argmin())} does not agree")
    return count
