"""`discover` for programs: from a model and a spec to a circuit that meets it, and what was shown of its minimality."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from specs.circuit import Circuit, ModelFile
from specs.errors import InputError, nearest
from specs.write import write_circuit
from verify.account import account
from verify.api import SEARCHED, Interrupted, Request
from verify.certificate import asked_files, attempted, attest, attest_minimality, attest_witness, check_found
from verify.found import Found
from verify.ladder.choice import check_device, chosen
from verify.listed import shown_list
from verify.minimize.ascending import ascending
from verify.minimize.choose import ALGORITHMS
from verify.minimize.marco import Item, marco
from verify.minimize.oracle import Components, NotMonotone
from verify.minimize.orders import ORDERS, order_of
from verify.model import model_of
from verify.refutations import shown
from verify.search.findings import Findings, enumerated, findings, kept_of, masked
from verify.search.fingerprint import fingerprint
from verify.search.journal import Journal, check_fresh
from verify.search.run import Search
from verify.start import based, default_scope, everything
from verify.verdict import INTERRUPTED, Certified, Falsified, Unknown
from verify.work.budget import Budget, timer_is_free
from verify.work.progress import Progress

if TYPE_CHECKING:
    import torch

    from specs.encode import Problem
    from specs.model import Model
    from specs.spec import Spec
    from verify.api import Path_
    from verify.certificate import Files
    from verify.ladder.round import Decision
    from verify.report import Enumeration, Minimality, Report

__all__ = ["default_scope", "discover"]


def discover(
    model: Path_ | Model | torch.nn.Module | None,
    spec: Path_ | Spec,
    *,
    start: Path_ | Circuit | None = None,
    algorithm: str = "auto",
    order: str = "removal",
    enumerate_all: bool = False,
    question_s: float | None = None,
    timeout_s: float | None = None,
    device: str = "cpu",
    backend: str = "auto",
    seed: int = 0,
    allow_code: bool = False,
    journal: str | None = None,
    resume: bool = False,
    out: Path_ | None = None,
    certificate: Path_ | None = None,
    progress: Progress | None = None,
    hard: bool | None = None,
    began: float | None = None,
) -> Found:
    """Find a circuit that provably meets a spec, minimal at the level that the spec asks for, as far as the budget goes.

    `model` stands for the one that the spec names. The search starts from `start`, or from everything in the spec's `scope`
    (left out: every site after an activation function, by channels where it has any). `algorithm` and `order` name how to
    search (`verify.minimize.choose`, `verify.minimize.orders`); `question_s` is what one question may cost at first.
    `enumerate_all` goes on to list all minimal circuits. `journal` names a file that takes down every answer; with `resume`
    what it holds is not asked again. `certificate` names a directory for a proof of the circuit that is found and of its
    minimality; spec and model must then be files, and the circuit is written to `out` first, which the certificate is about.
    Without a certificate within the budget the verdict is unknown then. Other arguments as in `certify`.
    Guarantees: the circuit is certified (`report.verdict`); every level and bound in `report.minimality` rests on certificates
    and on witnesses replayed on the original model; where many circuits are refuted at once, on a sample of them
    (`verify.minimize.claims.ClaimsOracle.refuted`). Raises: as `certify`; Interrupted carries the report, and `circuit`.
    """
    began = time.monotonic() if began is None else began
    from specs.load import read_circuit, read_spec

    asked = read_spec(spec) if isinstance(spec, str | os.PathLike) else spec
    budget_s = asked.budget.time_s if timeout_s is None else timeout_s
    if not 0 < budget_s < math.inf:
        raise InputError("timeout", "", f"{budget_s} s", "a finite number greater than 0")
    _check_name(algorithm, ("auto", *ALGORITHMS), "algorithm")
    _check_name(order, tuple(ORDERS), "order")
    check_fresh(journal, resume)
    given = read_circuit(start) if isinstance(start, str | os.PathLike) else start
    base = based(asked, given, model)
    hard = timer_is_free() if hard is None else hard
    request = Request(base, asked, budget_s, device, backend, seed, hard, began)
    run = _Run(request, algorithm, order)
    if certificate is not None:
        if out is None:
            raise InputError("out", "", "nothing, and a certificate is asked for", "a file for the circuit", "name one")
        run.files = asked_files(out, spec, model, base.model.path, asked.file, os.fspath(certificate))
    try:
        check_device(device)
        chosen(backend, device)
        run.read(model_of(base, asked, model, allow_code), given)
        run.find(question_s, enumerate_all, progress, journal, resume)
        run.attest(start)
    except KeyboardInterrupt:
        found = run.found(interrupted=True)
        raise Interrupted(found.report, found.circuit) from None
    finally:
        run.close()
    return run.found()


def _check_name(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        raise InputError(what, "", repr(name), f"one of {', '.join(known)}", nearest(name, known))


class _Run:
    """One search: what is known of it at any moment."""

    def __init__(self, request: Request, algorithm: str, order: str) -> None:
        self.request, self.algorithm, self.order = request, algorithm, order
        self.problem: Problem | None = None
        self.search: Search | None = None
        self.journal: Journal | None = None
        self.enumeration: Enumeration | None = None
        self.listed: list[Item] = []
        self.started: list[Decision] = []
        self.done = False
        self.files: Files | None = None
        self.budget: Budget | None = None
        self.shown: Minimality | str = INTERRUPTED
        """What a certificate shows of minimality, or why there is none."""
        self.refused: str | None = INTERRUPTED
        """Why there is no certificate, where one was asked for."""

    def read(self, model: Model, start: Circuit | None) -> None:
        """The problem: the model's scope with the start's components kept."""
        from specs.encode import encode

        request = self.request
        circuit = request.circuit
        if start is None:
            named = request.spec.model or ModelFile(path=model.source, sha256=model.sha256)
            circuit = everything(named, circuit.scope or default_scope(model), circuit.file)
        self.request = replace(request, circuit=circuit)
        self.problem = encode(circuit, request.spec, model)
        if self.files is not None:
            check_found(circuit, self.problem, self.files)

    def find(
        self, question_s: float | None, enumerate_all: bool, progress: Progress | None, journal: str | None, resume: bool
    ) -> None:
        """Search until the level is reached or the budget spent."""
        request, problem = self.request, self.problem
        assert problem is not None
        if journal is not None:
            self.journal = Journal(journal, fingerprint(problem), resume)
        self.budget = Budget(request.budget_s, request.hard)
        search = Search.over(
            problem,
            self.budget if self.files is None else self.budget.part(SEARCHED),
            question_s=question_s,
            backend=request.backend,
            device=request.device,
            seed=request.seed,
            progress=progress,
            journal=self.journal,
        )
        start = frozenset(problem.mask[0].nonzero().flatten().tolist())
        self.search, self.started = search, search.begin(start)
        if search.best is None:
            return
        order = order_of(problem, self.order, request.seed, request.device)
        try:
            self.done = search.minimize(start, request.spec.minimality, order, self.algorithm)
        except NotMonotone as error:
            reason = problem.claims[0].monotone.reason
            raise InputError("algorithm", "", f"{self.algorithm}: {error}", reason, "use auto or iterated") from None
        if enumerate_all:
            self.done = self._enumerate(search, order) and self.done

    def _enumerate(self, search: Search, order: list[int]) -> bool:
        """List all minimal circuits; whether these are all."""
        problem, items = search.problem, list[Item]()
        found = marco(search.known, order) if search.known.monotone else ascending(search.known)
        complete = False
        try:
            for item in found:
                items.append(item)
                if search.budget.expired:
                    break
            else:
                complete = not any(item.kind == "open" or not item.proven for item in items)
        finally:
            self.listed, self.enumeration = items, enumerated(problem, items, complete)
        return complete

    def attest(self, start: Path_ | Circuit | None) -> None:
        """The certificate of what was found, where one was asked for."""
        files, problem, search, budget = self.files, self.problem, self.search, self.budget
        if files is None or problem is None or search is None or budget is None:
            return
        if search.best is None:
            verdict = self.started[-1].verdict
            if isinstance(verdict, Falsified) and isinstance(start, str | os.PathLike):
                number, at = len(self.started) - 1, replace(files, circuit=os.fspath(start))
                made = attempted(lambda: attest_witness(problem, at, number, verdict.witness), budget)
                self.refused = made if isinstance(made, str) else None
            return
        circuit, best = self._circuit(search.best), masked(problem, search.best)
        said = findings(search, self.request.spec.minimality, self.algorithm).minimality
        assert said is not None

        def make() -> None:
            write_circuit(circuit, files.circuit)
            trees = attest(best, files, lambda: budget.expired)
            self.refused = None
            self.shown = attest_minimality(best, files, trees, search, said, budget)

        if isinstance(why := attempted(make, budget), str):
            self.shown = why
            self.refused = why if self.refused is not None else None
        if self.enumeration is not None and self.refused is None:
            complete = self.enumeration.complete and not isinstance(self.shown, str)
            self.enumeration, self.listed = shown_list(best, files, search, self.listed, complete, budget), []
        self.done = self.done and not isinstance(self.shown, str)

    def _circuit(self, best: Components) -> Circuit:
        """A circuit of the search as it is written."""
        request, problem = self.request, self.problem
        assert problem is not None
        kept = kept_of(problem, best)
        level = request.spec.minimality
        note = {"tool": "certify discover", "algorithm": self.algorithm, "order": self.order, "minimality": level}
        update = {"kept": {site: tuple(rows) for site, rows in kept.items()}, "provenance": note}
        return request.circuit.model_copy(update=update)

    def _withdrawn(self, decisions: list[Decision]) -> list[Decision]:
        """Without a certificate that was asked for nothing is said to be decided."""
        if self.files is None or self.refused is None:
            return decisions
        found: list[Decision] = []
        for decision in decisions:
            verdict = decision.verdict
            if not isinstance(verdict, Unknown):
                said = "proven" if isinstance(verdict, Certified) else "a witness was found"
                bound = verdict.margin if isinstance(verdict, Certified) else -math.inf
                verdict = Unknown(bound, f"{said}, but there is no certificate: {self.refused}")
            found.append(replace(decision, verdict=verdict))
        return found

    def close(self) -> None:
        """Let go of the journal; one of a search that has nothing left to do is removed."""
        if self.journal is not None:
            self.journal.close(remove=self.done)

    def found(self, interrupted: bool = False) -> Found:
        """The best circuit so far, and its report."""
        request, problem, search = self.request, self.problem, self.search
        level = request.spec.minimality
        if problem is None or search is None or search.best is None:
            decisions = [(d, 0.0) for d in self._withdrawn(self.started)]
            report = account(request, problem, decisions, search.oracle.tally if search is not None else None, interrupted)
            return Found(request.circuit, self._placed(report))
        circuit = self._circuit(search.best)
        decisions = self._withdrawn(search.oracle.decided(search.best) or [])
        told: Findings = findings(search, level, self.algorithm, self.order, self.enumeration)
        if self.files is not None:
            told = shown(told, self.shown)
            if told.enumeration is not None and self.listed:  # interrupted before its certificate was made
                told = replace(told, enumeration=told.enumeration.model_copy(update={"complete": False}))
        report = account(
            replace(request, circuit=circuit),
            masked(problem, search.best),
            [(d, 0.0) for d in decisions],
            search.oracle.tally,
            interrupted,
            told,
        )
        return Found(circuit, self._placed(report), search)

    def _placed(self, report: Report) -> Report:
        """With the certificate's place, where there is one."""
        if self.files is None or self.refused is not None:
            return report
        return report.model_copy(update={"certificate": self.files.folder})
