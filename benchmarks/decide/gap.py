"""The part `gap`: how far proven bounds lie above the worst deviation found, and which rung decides."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decide.cases import Case
from benchmarks.decide.question import write_region
from benchmarks.decide.rows import Row, Rows
from benchmarks.decide.walk import problem_of

if TYPE_CHECKING:
    from torch import Tensor

    from specs.encode import Problem

__all__ = ["BOUNDS", "FACTORS", "PART", "SHARES", "Plan", "circuits", "measure"]

PART = "gap"
SHARES = (0.01, 0.03, 0.1, 0.3, 0.6)
BOUNDS = ("siamese", "linear", "difference", "optimised")
"""CROWN on circuit and model side by side, by auto_LiRPA where it is installed; our backward linear bounds, which start from
intervals of the difference too; intersected with the difference domain's; slopes and mixing weights optimised on top."""

FACTORS = (1.25, 2.0)
"""Tolerances of the questions for the ladder: so many times the worst deviation found."""

_LEAST = 1e-4
"""The tolerance where no deviation was found."""

_TRIES = (64, 200)
"""Restarts and steps of the search for the worst deviation."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`circuits` drawn for each share; `limit_s` for each question to the ladder."""

    circuits: int = 3
    limit_s: float = 12.0
    shares: tuple[float, ...] = SHARES


def circuits(size: int, share: float, count: int) -> Tensor:
    """Circuits that lack `share` of the components, at least one: always the same ones. Shape: `(count, size)`."""
    import torch

    generator = torch.Generator().manual_seed(round(1000 * share))
    masks = torch.ones((count, size), dtype=torch.bool)
    for mask in masks:
        mask[torch.randperm(size, generator=generator)[: max(1, round(share * size))]] = False
    return masks


def measure(case: Case, data: Path, rows: Rows, plan: Plan, say: Callable[[str], None]) -> None:
    """Bound and attack each circuit, then ask the ladder. Skips what the rows have already."""
    missing = case.missing(data)
    if missing is not None:
        say(f"{PART}: {case.name}: no {missing}: skipped")
        return
    with tempfile.TemporaryDirectory(prefix="region-") as made:
        # Read into memory when the question is encoded.
        region = write_region(Path(made), case.ends(data, case.load(data).graph.input_shape))
        problem = problem_of(case, data, region, 0.0)
        for share in plan.shares:
            for number, mask in enumerate(circuits(len(problem.components), share, plan.circuits)):
                key = {"part": PART, "case": case.name, "query": f"{share:g}/{number}"}
                row: Row | None = rows.find(**key, tool="bounds")
                if row is None:
                    row = {**key, "tool": "bounds", "share": share, **_bounds(problem, mask)}
                    rows.add(row)
                    found = ", ".join(f"{name} {row[name]:.4g}" for name in BOUNDS if row[name] is not None)
                    say(f"{PART}: {case.name}: {row['query']}: seen {row['seen']:.4g}; {found}")
                for factor in FACTORS:
                    tolerance = max(factor * row["seen"], _LEAST)
                    known = {**key, "tool": f"ladder x{factor:g}", "limit_s": plan.limit_s}
                    if rows.find(**known) is None:
                        asked = problem_of(case, data, region, tolerance)
                        rows.add({**known, "share": share, "tolerance": tolerance, **_decided(asked, mask, plan.limit_s)})


def _bounds(problem: Problem, mask: Tensor) -> dict[str, Any]:
    """The worst deviation found, and the upper bound and seconds of each kind (None where a backend will not or cannot). The
    claim's tolerance is 0, so that the margin is the deviation's negative."""
    from bounds.backends.base import BackendRefusal, BackendUnavailable
    from bounds.backends.lirpa import Lirpa
    from bounds.backends.native import Native
    from verify.branch.run import Branching
    from verify.witness.attack import attack

    query, masks = problem.claims[0].query, mask.unsqueeze(0)
    found: dict[str, Any] = {}
    backends = (("siamese", Lirpa(method="crown")), ("linear", Native("linear")), ("difference", Native("difference")))
    for name, backend in backends:
        began = time.monotonic()
        try:
            found[name] = -float(backend.open(query).bound(masks).margin)
        except (BackendRefusal, BackendUnavailable):
            found[name] = None
        found[f"{name}_s"] = time.monotonic() - began
    began = time.monotonic()
    # Also an optimised bound is intersected with what it started from.
    found["optimised"] = min(found["difference"], -Branching(query, masks).root().bound)
    found["optimised_s"] = time.monotonic() - began
    # The search stops at what violates the claim: it is given one that cannot be violated.
    beyond = 2 * found["linear"] + 1
    held = replace(query, margins=replace(query.margins, offset=query.margins.offset + beyond))
    restarts, steps = _TRIES
    found["seen"] = max(0.0, beyond - float(attack(held, masks, seed=0, restarts=restarts, steps=steps).margin))
    return found


def _decided(problem: Problem, mask: Tensor, limit_s: float) -> dict[str, object]:
    """What the ladder makes of one circuit, and which rung did it."""
    from verify.ladder.choice import chosen, splits
    from verify.ladder.decide import Ladder
    from verify.ladder.round import Tally
    from verify.work.budget import Budget

    tally = Tally()
    ladder = Ladder(
        problem, problem.claims[0], chosen("auto", "cpu"), skip_refusals=True, split=splits("auto"), tally=tally
    )  # fmt: skip
    began = time.monotonic()
    decision = ladder.decide(mask.unsqueeze(0), Budget(limit_s))[0]
    return {
        "verdict": decision.verdict.name,
        "rung": decision.rung,
        "time_s": time.monotonic() - began,
        "rungs": {name: round(count.time_s, 3) for name, count in tally.rungs.items()},
    }
