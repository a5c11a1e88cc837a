"""Certificates of what a run found: made, and confirmed by the independent checker, in a folder that is then thrown away."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs.write import write_circuit, write_whole
from verify.branch.leaves import NotCovered, Refused
from verify.certificate import Files, attest, attest_minimality
from verify.check.certificate import confirm
from verify.refutations import confirmed
from verify.verdict import TIME_UP
from verify.work.budget import Budget, TimeUp

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.encode import Problem
    from specs.model import Model
    from specs.spec import Spec
    from verify.report import Minimality
    from verify.search.run import Search

__all__ = ["attested"]


def attested(
    circuit: Circuit, spec: Spec, model: Model, budget_s: float, search: Search | None = None, said: Minimality | None = None
) -> dict[str, Any]:
    """What a row says of the certificate of a certified circuit and, where a `search` found it, of what was `said` of its
    minimality: `checked_level` and `checked_lower` are what the certificate holds of it.

    `checked` is `confirmed`; `refused` where the checker does not follow the proof to its end; `unfinished` where time was up
    first: nothing is certified then; `not supported` where the checker does not read such claims: what was found stands.
    `certificate_s` is the time of making it, `check_s` that of `certify check` but for reading the model.
    Cost: at most `budget_s` for making it, and the checker's.
    """
    from specs.encode import encode

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = Files(str(folder / "circuit.json"), str(folder / "spec.json"), model.source, str(folder / "certificate"))
        write_circuit(circuit, files.circuit)
        write_whole(spec.model_dump_json(exclude_none=True, warnings=False), files.spec)
        budget, problem = Budget(budget_s, hard=True), encode(circuit, spec, model)
        try:
            with budget.enforced():
                trees = attest(problem, files, lambda: budget.expired)
        except NotCovered as error:
            return {"checked": "not supported", "check_note": str(error)}
        except (Refused, TimeUp) as error:
            late = isinstance(error, TimeUp) or budget.expired
            return _withdrawn("unfinished" if late else "refused", TIME_UP if late else str(error), said is not None)
        told: dict[str, Any] = {"checked": "confirmed"}
        if search is not None and said is not None:
            told |= _levels(_shown(problem, files, trees, search, said, budget))
        told["certificate_s"] = time.monotonic() - began
        began = time.monotonic()
        confirm(Path(files.folder))
        told["check_s"] = time.monotonic() - began
        told["certificate_bytes"] = sum(file.stat().st_size for file in Path(files.folder).iterdir())
        return told


def _shown(problem: Problem, files: Files, trees: Any, search: Search, said: Minimality, budget: Budget) -> Minimality:
    """What the certificate shows of minimality."""
    try:
        with budget.enforced():
            return attest_minimality(problem, files, trees, search, said, budget)
    except (Refused, TimeUp) as error:
        return confirmed(said, why=str(error) or TIME_UP)


def _levels(minimality: Minimality) -> dict[str, Any]:
    return {"checked_level": minimality.reached, "checked_lower": minimality.lower, "check_note": minimality.reason}


def _withdrawn(checked: str, why: str, searched: bool) -> dict[str, Any]:
    """What is left of a certified verdict without a certificate."""
    told = {"verdict": "unknown", "reason": f"proven, but there is no certificate: {why}", "margin": None, "checked": checked}
    levels = {"reached": "none", "status": "relative", "lower": None, "upper": None} if searched else {}
    return {**told, "check_note": why, **levels}
