"""Questions of a stated size, and their answers: transformers with MLPs, of random weights.

A seed is a model, of any size, and nothing about it is tuned to be provable. The tolerance follows from the model: twice the
largest deviation that an attack finds, four times where patched values vary too.
"""

from __future__ import annotations

import math
import signal
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

import onnx
import torch

from benchmarks.models.transformer import Transformer, written
from benchmarks.transformers.ask import said, spec_of
from specs.encode import Problem, encode_scope
from specs.model import Model, load_model
from verify.ladder.choice import chosen
from verify.ladder.decide import Ladder
from verify.minimize.orders import importance
from verify.search.run import Search
from verify.verdict import Certified, Falsified, Unknown
from verify.witness.attack import attack
from verify.witness.evidence import Evidence
from verify.work.budget import Budget, TimeUp

__all__ = ["BASE", "KINDS", "LATE", "PER_HEAD", "VOCABULARY", "Answer", "Outcome", "Size", "ask", "problem_of"]

VOCABULARY, PER_HEAD = 4, 8
"""Tokens; width of a head."""

Answer: TypeAlias = Literal["proven", "refuted", "open"]

KINDS = {
    "tokens": "all token sequences, zero patching, all heads but one",
    "ball": "ball around a sequence, mean patching, all heads but one",
    "closed": "the same ball, `closed` patching over it, all heads but one",
    "reachable": "the same ball, `reachable` patching from it, all heads but one",
    "edges": "the same ball, zero patching, all edges but one",
    "minimality": "the same ball, zero patching, a circuit of heads found and locally minimal",
}


@dataclass(frozen=True, slots=True)
class Size:
    """Of a question: layers, width of the residual stream, positions, radius around the one-hot rows."""

    depth: int = 2
    width: int = 16
    context: int = 4
    radius: float = 0.01


BASE = Size()
LATE = 1.1
"""An answer counts that comes after so many times the limit."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question's answer: whether the claim was proven or refuted, by what, and in how many seconds of this process's own
    time."""

    kind: str
    size: Size
    limit_s: float
    answer: Answer
    by: str
    cpu_s: float
    wall_s: float

    @property
    def proven(self) -> bool:
        """Whether the claim was proven, and in time."""
        return self.answer == "proven" and self.cpu_s <= LATE * self.limit_s


@dataclass(frozen=True, slots=True)
class _Own(Budget):
    """A budget of this process's own seconds: on a machine that others use too, it says what one core alone would."""

    began: float = field(default_factory=time.process_time)

    @property
    def elapsed(self) -> float:
        return time.process_time() - self.began

    def part(self, share: float) -> Budget:
        return _Own(max(self.remaining() * share, 1e-6))


def _model(size: Size) -> Model:
    torch.manual_seed(0)
    made = Transformer(VOCABULARY, size.context, size.width, size.width // PER_HEAD, size.depth, hidden=2 * size.width)
    with torch.no_grad():
        for writes in (*made.out, *made.back):
            writes /= math.sqrt(2 * size.depth)
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(written(made, "scale"), str(Path(folder) / "scale.onnx"))
        return load_model("scale.onnx", shown="scale.onnx", where="", base=Path(folder))


def problem_of(kind: str, size: Size) -> tuple[Problem, int]:
    """The claim of a kind at a size, and the component whose removal is asked about: the one that is missed least."""
    model = _model(size)
    tokens = [[p % VOCABULARY] for p in range(size.context)]
    ball = {"kind": "tokens", "positions": tokens, "epsilon": size.radius}
    if kind == "edges":
        scope = dict.fromkeys([read.consumer for read in model.edges()], "edge")
    else:
        scope = {f"blocks.{layer}.attn.hook_z": "head" for layer in range(size.depth)}
    patching: dict[str, Any] = {"kind": "zero"}
    if kind == "ball":
        every = torch.nn.functional.one_hot(torch.randint(0, VOCABULARY, (256, size.context)), VOCABULARY).double()
        read = model.graph.evaluate(every.unsqueeze(1), keep=frozenset(scope))
        patching = {"kind": "mean", "mean": {site: read[site].mean(0).tolist() for site in scope}}
    elif kind in ("closed", "reachable"):
        patching = {"kind": kind, kind: ball}
    region = {"kind": "tokens", "positions": "all"} if kind == "tokens" else ball

    def problem(tolerance: float) -> Problem:
        agreement = {"metric": "logits", "tolerance": tolerance}
        return encode_scope(scope, spec_of(input=region, patching=patching, agreement=agreement), model, file="scale")

    exact = problem(0.0)
    least = int(importance(exact, exact.claims[0], "removal").argmin())
    found = attack(
        Evidence(exact, exact.claims[0], "cpu", 0, False).attackable, _without(exact, least), seed=0, restarts=8, steps=16
    )
    factor = 4 if kind in ("closed", "reachable") else 2
    return problem(factor * max(-float(found.margin[0]), 1e-6)), least


def _without(problem: Problem, component: int) -> torch.Tensor:
    mask = torch.ones(1, len(problem.components), dtype=torch.bool)
    mask[0, component] = False
    return mask


def ask(kind: str, size: Size, limit_s: float) -> Outcome:
    """Ask one question; reading the model and choosing the tolerance are in nobody's time."""
    problem, least = problem_of(kind, size)
    began, at, budget = time.process_time(), time.monotonic(), _Own(limit_s)
    answer: Answer = "open"
    by = "unknown, cut off"
    with suppress(TimeUp), _cut_off(LATE * limit_s):
        if kind == "minimality":
            proven, by = _minimal(problem, budget)
            answer = "proven" if proven else "open"
        else:
            ladder = Ladder(problem, problem.claims[0], chosen("auto", "cpu"), split=True, skip_refusals=True)
            decision = ladder.decide(_without(problem, least), budget)[0]
            answer = _ANSWERS[type(decision.verdict)]
            by = ", ".join(said(decision)[0::2])
    return Outcome(kind, size, limit_s, answer, by, time.process_time() - began, time.monotonic() - at)


@contextmanager
def _cut_off(cpu_s: float) -> Generator[None, None, None]:
    """Raise `TimeUp` inside the block after so many seconds of the process's own."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _minimal(problem: Problem, budget: Budget) -> tuple[bool, str]:
    search = Search.over(problem, budget)
    everything = frozenset(range(len(problem.components)))
    search.begin(everything)
    if search.best is None:
        return False, "the model itself is not proven to be near itself"
    search.minimize(everything, "local", range(len(everything)))
    reached = search.reached()
    return reached in ("local", "subset", "cardinal"), f"{len(search.best)} of {len(everything)} heads, {reached} proven"


_ANSWERS: dict[type, Answer] = {Certified: "proven", Falsified: "refuted", Unknown: "open"}
