"""How far proofs reach: the largest depth, width, context and radius at which each kind of claim is proven in a given time.

    python -m benchmarks.transformers.scale [KIND ...] [--limit S] [--rows FILE]

From a base size one of the four is doubled until a claim is not proven within the limit; then one value between is tried.
Models are transformers with MLPs, of random weights: a seed is a model, of any size, and nothing about it is tuned to be
provable. The tolerance follows from the model: twice the largest deviation that an attack finds, four times where patched
values vary too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import tempfile
import textwrap
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeAlias

import onnx
import torch

from benchmarks.models.transformer import Transformer, written
from benchmarks.transformers.ask import said, spec_of, table
from specs.encode import Problem, encode_scope
from specs.model import Model, load_model
from specs.write import write_whole
from verify.ladder.choice import chosen
from verify.ladder.decide import Ladder
from verify.minimize.orders import importance
from verify.search.run import Search
from verify.verdict import Certified, Falsified, Unknown
from verify.witness.attack import attack
from verify.witness.evidence import Evidence
from verify.work.budget import Budget, TimeUp

__all__ = ["AXES", "BASE", "KINDS", "Outcome", "Size", "ask", "problem_of", "reached", "read", "section", "told", "write"]

VOCABULARY, PER_HEAD = 4, 8
"""Tokens; width of a head."""

Answer: TypeAlias = Literal["proven", "refuted", "open"]
Axis: TypeAlias = Literal["depth", "width", "context", "radius"]
AXES: tuple[Axis, ...] = ("depth", "width", "context", "radius")

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
_LATE = 1.1
"""An answer counts that comes after so many times the limit."""

LEAST, MOST = Size(1, PER_HEAD, 2, 1e-4), Size(64, 512, 256, 10.0)


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
        return self.answer == "proven" and self.cpu_s <= _LATE * self.limit_s


Known: TypeAlias = dict[tuple[str, Size, float], Outcome]
"""Answers by kind, size and limit."""


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
    with suppress(TimeUp), _cut_off(_LATE * limit_s):
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


def _scaled(size: Size, axis: Axis, factor: float) -> Size:
    """The size with one measure that many times as large, as far as it goes in whole heads, layers, positions."""
    value = getattr(size, axis) * factor
    step = PER_HEAD if axis == "width" else 1
    return replace(size, **{axis: value if axis == "radius" else step * max(1, round(value / step))})


def reached(kind: str, axis: Axis, limit_s: float, known: Known) -> Iterator[Outcome]:
    """The questions along an axis, as they are answered: doubled from the base (or halved, where not even that is proven) up to
    the first that is not proven, and one between. What is `known` is not asked again, nor what was answered in that time."""

    def told(size: Size) -> Outcome:
        key = kind, size, limit_s
        for found in list(known.values()):
            answered = found.answer != "open" and found.cpu_s <= _LATE * limit_s
            if answered and (found.kind, found.size) == (kind, size):
                known[key] = replace(found, limit_s=limit_s)
        if key not in known:
            known[key] = ask(kind, size, limit_s)
        return known[key]

    last = told(BASE)
    yield last
    factor = 2.0 if last.proven else 0.5
    while True:
        size = _scaled(last.size, axis, factor)
        if not getattr(LEAST, axis) <= getattr(size, axis) <= getattr(MOST, axis) or size == last.size:
            return
        found = told(size)
        yield found
        if found.proven == (factor < 1):
            between = _scaled(min(last.size, size, key=lambda s: getattr(s, axis)), axis, math.sqrt(2))
            if between not in (last.size, size):
                yield told(between)
            return
        last = found


def told(outcomes: Sequence[Outcome], kind: str, axis: Axis, limit_s: float) -> list[str]:
    """The largest proven (by what, in how many seconds) and the smallest beyond it that is not."""
    rest = [other for other in AXES if other != axis]
    mine = [
        o for o in outcomes
        if o.kind == kind and o.limit_s == limit_s and all(getattr(o.size, r) == getattr(BASE, r) for r in rest)
    ]  # fmt: skip
    if all(o.size == BASE and o.proven for o in mine):
        return ["not run", "not run"]
    proven = max((o for o in mine if o.proven), key=lambda o: getattr(o.size, axis), default=None)
    open_ = [o for o in mine if not o.proven and (proven is None or getattr(o.size, axis) > getattr(proven.size, axis))]
    beyond = min(open_, key=lambda o: getattr(o.size, axis), default=None)
    first = "none" if proven is None else f"{getattr(proven.size, axis):.3g} ({proven.by}, {proven.cpu_s:.1f} s)"
    return [first, "not tried" if beyond is None else f"{getattr(beyond.size, axis):.3g} ({beyond.by}, {beyond.cpu_s:.1f} s)"]


def _table(outcomes: Sequence[Outcome], limits: Sequence[float]) -> str:
    heads = ["claim", "varied", *(f"{what} in {limit:g} s" for limit in limits for what in ("largest proven", "not proven"))]
    rows: list[list[str]] = []
    for kind, words in KINDS.items():
        for axis in AXES:
            if any(o.kind == kind for o in outcomes) and (kind, axis) != ("tokens", "radius"):
                rows.append([words, axis, *(cell for limit in limits for cell in told(outcomes, kind, axis, limit))])
    return table(heads, rows)


def read(path: Path | None) -> Known:
    """The answers in a file, if it is there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path is not None and path.exists() else []
    read: list[dict[str, Any]] = [json.loads(line) for line in lines]
    found = [replace(Outcome(**row), size=Size(**row["size"])) for row in read]
    return {(o.kind, o.size, o.limit_s): o for o in found}


def write(known: Known, path: Path) -> None:
    """Answers, one JSON object a line. Raises: OSError."""
    write_whole("".join(json.dumps(asdict(outcome)) + "\n" for outcome in known.values()), path)


def section(_data: Path, kinds: Sequence[str] = tuple(KINDS), limit_s: float = 60, rows: Path | None = None) -> str:
    """The section on scale: what is in `rows` already, and what is asked now, which is added to it."""
    known = read(rows)
    for kind in kinds:
        for axis in AXES:
            if (kind, axis) == ("tokens", "radius"):
                continue  # there is none
            for outcome in reached(kind, axis, limit_s, known):
                size = ", ".join(f"{name} {value:.3g}" for name, value in asdict(outcome.size).items())
                print(f"{kind}: {axis}: {size}: {outcome.by}, {outcome.cpu_s:.1f} s ({outcome.wall_s:.0f} s)", flush=True)
                if rows is not None:
                    write(known, rows)
    limits = sorted({o.limit_s for o in known.values()})
    slowed = sum(o.wall_s for o in known.values()) / max(sum(o.cpu_s for o in known.values()), 1e-9)
    words = _TEXT.replace("\n", " ").format(
        load=os.getloadavg()[1], slowed=slowed, **asdict(BASE), vocabulary=VOCABULARY, head=PER_HEAD
    )
    return f"{textwrap.fill(words, 128)}\n\n{_table(list(known.values()), limits)}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], metavar="KIND", help=f"{', '.join(KINDS)} (default: all)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of the process's own time a question (default 60)")
    parser.add_argument("--rows", type=Path, help="file of answers: those in it are not asked again, new ones are added")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(section(Path(), given.kinds or tuple(KINDS), given.limit, given.rows))


_ANSWERS: dict[type, Answer] = {Certified: "proven", Falsified: "refuted", Unknown: "open"}

_TEXT = """Transformers with MLPs and random weights (seed 0; what writes into the stream is
scaled by one over the root of twice the depth, as in GPT-2), heads of width {head}, {vocabulary} tokens. From the base
(depth {depth}, width {width}, context {context}, radius {radius:g}) one is doubled until the claim is not proven within the
limit, and one between is tried then; where the base itself is not proven, it is halved. The claim: the circuit lacks the one
head (or edge) that is missed least, and no logit differs by more than twice the largest deviation that an attack of 8 restarts
finds (four times where patched values vary too). *Minimality* is a search for a circuit of heads, proven where it ends locally
minimal, with every refutation replayed. Seconds are the process's own, on one thread: the machine was shared, with a load of
{load:.0f} on two cores when this was written, and what took one second of its own took {slowed:.1f} by the clock."""


if __name__ == "__main__":
    main()
