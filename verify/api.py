"""`certify` for programs: from files or objects to a report. Nothing here prints, exits or reads arguments."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.account import account
from verify.ladder.choice import BACKENDS, check_device, chosen, splits
from verify.verdict import INTERRUPTED, Certified, Falsified, Unknown, conjunction
from verify.work.budget import Budget, timer_is_free
from verify.work.progress import Progress, Silent, Step

if TYPE_CHECKING:
    import torch

    from bounds.backends.base import Backend
    from specs.circuit import Circuit
    from specs.encode import Problem
    from specs.model import Model
    from specs.spec import Spec
    from verify.certificate import Arrays, Files
    from verify.ladder.round import Decision, Round, Tally
    from verify.report import Minimality, Report
    from verify.search.findings import Findings
    from verify.search.run import Search

    Path_ = str | os.PathLike[str]

__all__ = ["SEARCHED", "Interrupted", "Path_", "Request", "certify"]

SEARCHED = 0.7
"""Share of the time for searches of which a certificate is asked for: the certificate takes time too."""


class Interrupted(KeyboardInterrupt):
    """Stopped from outside. `report` holds what was known by then; `circuit`, where one was searched for, the best so far."""

    def __init__(self, report: Report, circuit: Circuit | None = None) -> None:
        super().__init__(INTERRUPTED)
        self.report, self.circuit = report, circuit


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What is asked, and how it may be answered. `budget_s` is counted from when the question is read: model loaded and
    checked."""

    circuit: Circuit
    spec: Spec
    budget_s: float
    device: str = "cpu"
    backend: str = "auto"
    seed: int = 0
    hard: bool = False
    began: float = field(default_factory=time.monotonic)
    float32: bool = False


def certify(
    circuit: Path_ | Circuit,
    spec: Path_ | Spec,
    model: Path_ | Model | torch.nn.Module | None = None,
    *,
    timeout_s: float | None = None,
    device: str = "cpu",
    backend: str = "auto",
    seed: int = 0,
    allow_code: bool = False,
    progress: Progress | None = None,
    journal: str | None = None,
    resume: bool = False,
    certificate: Path_ | None = None,
    float32: bool = False,
    hard: bool | None = None,
    began: float | None = None,
) -> Report:
    """Decide whether a circuit agrees with its model over all that a spec allows, and whether it is minimal, where it asks so.

    `circuit` and `spec` are files or records; `model`, where given, stands for the one that the circuit names. `timeout_s`
    overrides the spec's budget. `journal` names a file that takes down what is learned of smaller circuits; with `resume` what
    it holds is not asked again. `certificate` names a directory for a proof, or a witness, that `certify check` confirms;
    circuit, spec and model must then be files, and a verdict of which there is no certificate within the budget is unknown; of
    minimality no more is said than the certificate shows.
    With `float32` a certified claim holds for every float32 evaluation of model and circuit (`verify.float32`), not only for
    the real-number functions of their weights. `hard` interrupts steps that overrun the budget, by the process's interval
    timer: by default in the main thread, where nothing else has set that timer. `began` is when the reported time starts to
    count (of `time.monotonic`, default now).
    Guarantees: as `verify.ladder.decide.Ladder`. Raises: InputError; BackendUnavailable; BackendRefusal (where `backend`
    names one); Interrupted (a KeyboardInterrupt) with what was found by then; SoundnessAlarm.
    """
    began = time.monotonic() if began is None else began
    from specs.load import read_circuit, read_spec

    read = read_circuit(circuit) if isinstance(circuit, str | os.PathLike) else circuit
    asked = read_spec(spec) if isinstance(spec, str | os.PathLike) else spec
    budget_s = asked.budget.time_s if timeout_s is None else timeout_s
    if not 0 < budget_s < math.inf:
        raise InputError("timeout", "", f"{budget_s} s", "a finite number greater than 0")
    if asked.minimality != "none":
        from verify.search.journal import check_fresh

        check_fresh(journal, resume)
    if float32 and asked.minimality != "none":
        raise InputError(asked.file, "$.minimality", asked.minimality, "'none' together with --float32", "leave one out")
    hard = timer_is_free() if hard is None else hard
    request = Request(read, asked, budget_s, device, backend, seed, hard, began, float32)
    files = None
    if certificate is not None:
        from verify.certificate import asked_files

        files = asked_files(circuit, spec, model, read.model.path, read.file, os.fspath(certificate), float32)
    run = _Run(request, files)
    try:
        check_device(device)
        backends = chosen(backend, device)
        run.problem = _problem(request, model, allow_code)
        if float32:
            from verify.float32 import in_float32

            run.problem = in_float32(run.problem)
        budget = Budget(request.budget_s, request.hard)
        if run.files is not None:
            from verify.certificate import check_covered

            check_covered(run.problem, run.files)
        run.decide(run.problem, backends, budget, progress or Silent())
        run.attest(run.problem, budget, progress or Silent())
        run.minimality(run.problem, budget, progress, journal, resume)
        run.attest_minimality(run.problem, budget)
    except KeyboardInterrupt:
        raise Interrupted(run.report(interrupted=True)) from None
    return run.report()


class _Run:
    """One run: what is known of each claim at any moment."""

    def __init__(self, request: Request, files: Files | None = None) -> None:
        self.request, self.files, self.attested = request, files, False
        self.problem: Problem | None = None
        self.tally: Tally | None = None
        self.rounds: list[tuple[Round, float]] = []
        self.climbing: tuple[Round, float] | None = None
        self.search: Search | None = None
        self.trees: Arrays | None = None
        self.shown: Minimality | str = INTERRUPTED
        """What a certificate shows of minimality, or why it shows nothing."""

    def decide(self, problem: Problem, backends: tuple[tuple[str, Backend], ...], budget: Budget, progress: Progress) -> None:
        from verify.ladder.decide import Ladder
        from verify.ladder.round import Round, Tally

        request = self.request
        self.tally = Tally()
        skip = request.backend == BACKENDS[0]
        for i, claim in enumerate(problem.claims):
            ladder = Ladder(
                problem,
                claim,
                backends,
                seed=request.seed,
                device=request.device,
                tally=self.tally,
                skip_refusals=skip,
                measure=True,
                split=splits(request.backend),
            )
            if i == 0 and not skip:
                ladder.open()
            climbing = Round(problem.mask)
            self.climbing = climbing, time.monotonic()

            def notify(rung: str, i: int = i, label: str = claim.label, climbing: Round = climbing) -> None:
                progress.show(Step(i, len(problem.claims), label, rung, climbing.bounds[0], climbing.deviations[0]))

            ladder.climb(climbing, budget.part(1 / (len(problem.claims) - i)), notify)
            self._close()
        progress.show(Step(len(problem.claims), len(problem.claims), "", "done", -math.inf, None))

    def attest(self, problem: Problem, budget: Budget, progress: Progress) -> None:
        """The certificate of what was decided, where one was asked for. Without one the verdict is unknown."""
        files = self.files
        if files is None:
            return
        from verify.certificate import attempted, attest, attest_witness

        verdicts = [climbing.decisions()[0].verdict for climbing, _ in self.rounds]
        worst = conjunction(verdicts)
        progress.show(Step(len(verdicts), len(verdicts), "", "certificate", -math.inf, None))
        if isinstance(worst, Unknown):
            return
        if isinstance(worst, Falsified):
            number, witness = verdicts.index(worst), worst.witness
            made = attempted(lambda: attest_witness(problem, files, number, witness), budget)
        else:
            made = attempted(lambda: attest(problem, files, lambda: budget.expired), budget)
        if isinstance(made, str):
            self._withdraw(made)
        else:
            self.attested, self.trees = True, made

    def _withdraw(self, why: str) -> None:
        """Take back what was decided."""
        for climbing, _ in self.rounds:
            if climbing.verdicts[0] is not None:
                said = "proven" if isinstance(climbing.verdicts[0], Certified) else "a witness was found"
                climbing.reason = f"{said}, but there is no certificate: {why}"
                climbing.verdicts[0], climbing.rungs[0] = None, None

    def minimality(
        self, problem: Problem, budget: Budget, progress: Progress | None, journal: str | None, resume: bool
    ) -> None:
        """Where every claim is certified and the spec asks for a level: whether the circuit is minimal at it."""
        from verify.search.fingerprint import fingerprint
        from verify.search.journal import Journal
        from verify.search.run import Search

        request = self.request
        level = request.spec.minimality
        decisions = [climbing.decisions()[0] for climbing, _ in self.rounds]
        if level == "none" or not all(isinstance(decision.verdict, Certified) for decision in decisions):
            return
        notes = Journal(journal, fingerprint(problem), resume) if journal is not None else None
        done = False
        try:
            self.search = Search.over(
                problem,
                budget if self.files is None else budget.part(SEARCHED),
                backend=request.backend,
                device=request.device,
                seed=request.seed,
                tally=self.tally,
                progress=progress,
                journal=notes,
            )
            done = self.search.check(frozenset(problem.mask[0].nonzero().flatten().tolist()), level, decisions)
        finally:
            if notes is not None:
                notes.close(remove=done)

    def attest_minimality(self, problem: Problem, budget: Budget) -> None:
        """What was found of minimality, added to the certificate where one was asked for."""
        if self.files is None or self.search is None or self.trees is None:
            return
        from verify.certificate import attempted, attest_minimality
        from verify.listed import attest_listed

        files, trees, search = self.files, self.trees, self.search
        said = self._findings().minimality
        assert said is not None
        self.shown = attempted(lambda: attest_minimality(problem, files, trees, search, said, budget), budget)
        smaller = search.state and search.state.standing.smaller
        if smaller is not None and not isinstance(self.shown, str):
            made = attempted(lambda: attest_listed(problem, files, search, [smaller], False, budget), budget)
            if isinstance(made, str) or not made[0]:
                why = f"{self.shown.reason or ''} the smaller circuit: found, but not in the certificate".strip()
                self.shown = self.shown.model_copy(update={"reason": why})

    def _findings(self) -> Findings:
        from verify.search.findings import findings

        assert self.search is not None
        return findings(self.search, self.request.spec.minimality, "check")

    def _close(self) -> None:
        if self.climbing is not None:
            climbing, began = self.climbing
            self.rounds.append((climbing, time.monotonic() - began))
            self.climbing = None

    def report(self, interrupted: bool = False) -> Report:
        stopped_at = len(self.rounds) if self.climbing is not None else None
        self._close()
        if interrupted and self.files is not None and not self.attested:
            self._withdraw(INTERRUPTED)
        decisions: list[tuple[Decision, float]] = []
        for i, (climbing, time_s) in enumerate(self.rounds):
            stopped = interrupted and i == stopped_at
            decisions.append((climbing.decisions(INTERRUPTED if stopped else None)[0], time_s))
        found = self._findings() if self.search is not None else None
        if found is not None and self.files is not None:
            from verify.refutations import shown

            found = shown(found, self.shown)
        made = account(self.request, self.problem, decisions, self.tally, interrupted, found)
        return made if self.files is None or not self.attested else made.model_copy(update={"certificate": self.files.folder})


def _problem(request: Request, model: Path_ | Model | torch.nn.Module | None, allow_code: bool) -> Problem:
    from specs.encode import encode
    from verify.model import model_of

    circuit = request.circuit
    return encode(circuit, request.spec, model_of(circuit, request.spec, model, allow_code))
