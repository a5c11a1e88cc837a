"""From decisions to the report: what was asked, found and spent, in finite numbers."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from specs.agreement import Top1
from specs.sentence import sentence
from verify.ladder.round import Decision, Tally
from verify.report import CircuitSummary, ClaimReport, MonotoneReport, Queries, Report, Rung, WitnessReport
from verify.verdict import INTERRUPTED, Certified, Falsified, Unknown, Verdict, conjunction

if TYPE_CHECKING:
    from specs.encode import Claim, Problem
    from specs.spec import Spec
    from verify.api import Request
    from verify.search.findings import Findings
    from verify.witness.falsify import Witness

__all__ = ["account", "versions"]

DISTRIBUTION = "circuit-certify"
_LIBRARIES = {"native": DISTRIBUTION, "auto": DISTRIBUTION, "lirpa": "auto_LiRPA", "milp": "highspy"}


def account(
    request: Request,
    problem: Problem | None,
    decisions: Sequence[tuple[Decision, float]],
    tally: Tally | None,
    interrupted: bool = False,
    findings: Findings | None = None,
) -> Report:
    """The report on a run. `decisions` are those of the claims reached, in order, each with its seconds; claims that were not
    reached are unknown. `problem` and `tally` are None where the run was stopped before there were any; `findings` where
    nothing was searched for."""
    spec = request.spec
    asked = problem.claims if problem is not None else ()
    given = [*decisions, *[(_unreached(), 0.0)] * (len(asked) - len(decisions))]
    claims = [_claim(claim, decision, time_s, spec) for claim, (decision, time_s) in zip(asked, given, strict=True)]
    joined = conjunction(decision.verdict for decision, _ in given) if given else _unreached().verdict
    deviations = [claim.deviation for claim in claims if claim.deviation is not None]
    witness = None
    if isinstance(joined, Falsified):
        at = next(i for i, (decision, _) in enumerate(given) if decision.verdict is joined)
        witness = claims[at].witness
    return Report(
        verdict=joined.name,
        meaning=joined.meaning,
        statement=sentence(spec),
        margin=_margin(joined, spec),
        deviation=max(deviations, default=None),
        tolerance=spec.agreement.tolerance,
        reason=joined.reason if isinstance(joined, Unknown) else None,
        witness=witness,
        minimality=findings.minimality if findings is not None else None,
        search=findings.search if findings is not None else None,
        enumeration=findings.enumeration if findings is not None else None,
        claims=claims,
        circuit=_circuit(request, problem),
        spec=spec.file,
        model=problem.model.source if problem is not None else request.circuit.model.path,
        model_sha256=problem.model.sha256 if problem is not None else None,
        backend="native" if request.backend == "auto" else request.backend,
        device=request.device,
        seed=request.seed,
        queries=_queries(tally),
        rungs=_rungs(tally),
        budget_s=request.budget_s,
        time_s=time.monotonic() - request.began,
        interrupted=interrupted,
        float32=request.float32,
        versions=versions(request.backend),
    )


def versions(backend: str) -> dict[str, str | None]:
    """Versions of what had a part in the answer; null for what is not installed."""
    names = {"certify": DISTRIBUTION, "torch": "torch", "onnxruntime": "onnxruntime", "numpy": "numpy"}
    names["backend"] = _LIBRARIES.get(backend, backend)
    found: dict[str, str | None] = {"python": platform.python_version()}
    for key, name in names.items():
        try:
            found[key] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[key] = None
    return found


def _unreached() -> Decision:
    return Decision(Unknown(-math.inf, INTERRUPTED), None, None)


def _margin(verdict: Verdict, spec: Spec) -> float | None:
    if isinstance(verdict, Certified):
        return verdict.margin
    if isinstance(verdict, Falsified) or not math.isfinite(verdict.bound):
        return None
    # Below 0 the margin of a top1 claim bounds no deviation: it may be that of a class that is hardly not the first.
    return None if isinstance(spec.agreement, Top1) and verdict.bound < 0 else verdict.bound


def _claim(claim: Claim, decision: Decision, time_s: float, spec: Spec) -> ClaimReport:
    verdict = decision.verdict
    return ClaimReport(
        label=claim.label,
        verdict=verdict.name,
        margin=_margin(verdict, spec),
        deviation=decision.deviation,
        reason=verdict.reason if isinstance(verdict, Unknown) else None,
        decided_by=decision.rung,
        time_s=time_s,
        monotone=MonotoneReport(known=claim.monotone.known, reason=claim.monotone.reason),
        witness=_witness(claim, verdict.witness) if isinstance(verdict, Falsified) else None,
    )


def _witness(claim: Claim, witness: Witness) -> WitnessReport:
    return WitnessReport(
        claim=claim.label,
        deviation=witness.deviation if math.isfinite(witness.deviation) else None,
        input=_numbers(witness.input),
        patch={site: _numbers(values) for site, values in witness.patch.items()},
        model_output=_numbers(witness.model_output),
        circuit_output=_numbers(witness.circuit_output),
        patch_inputs=[_numbers(x) for x in witness.patch_inputs],
        patch_rows={site: [None if i < 0 else i for i in rows] for site, rows in witness.patch_rows.items()},
        center=None if claim.center is None else _numbers(claim.center),
    )


def _numbers(array: Any) -> Any:
    """Nested lists of an array's numbers; null for what is not finite."""

    def finite(value: object) -> object:
        if isinstance(value, list):
            return [finite(entry) for entry in cast("list[object]", value)]
        return value if not isinstance(value, float) or math.isfinite(value) else None

    return finite(array.tolist())


def _circuit(request: Request, problem: Problem | None) -> CircuitSummary | None:
    if problem is None:
        return None
    circuit = request.circuit
    kept: Mapping[str, Any] = circuit.kept
    return CircuitSummary(
        file=circuit.file,
        size=int(problem.mask.sum()),
        scope_size=len(problem.components),
        scope={site: str(granularity) for site, granularity in circuit.scope.items()},
        kept={site: entry if isinstance(entry, str) else list(entry) for site, entry in kept.items()},
        sizes={gate.tensor: gate.size for gate in problem.gates.gates},
    )


def _queries(tally: Tally | None) -> Queries:
    if tally is None:
        return Queries()
    return Queries(
        asked=tally.asked,
        by_witness_pool=tally.decided("pool"),
        by_attack=tally.decided("attack"),
        by_bound=tally.decided("bound"),
        by_split=tally.decided("split"),
        by_exact=tally.decided("exact"),
    )


def _rungs(tally: Tally | None) -> list[Rung]:
    if tally is None:
        return []
    return [
        Rung(name=name, asked=count.asked, decided=count.decided, time_s=count.time_s) for name, count in tally.rungs.items()
    ]
