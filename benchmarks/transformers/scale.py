"""How far proofs reach: the largest depth, width, context and radius at which each kind of claim is proven in a given time.

    python -m benchmarks.transformers.scale [KIND ...] [--limit S] [--rows FILE]

From a base size one of the four is doubled until a claim is not proven within the limit; then one value between is tried.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from benchmarks.transformers.ask import table
from benchmarks.transformers.sizes import BASE, KINDS, LATE, PER_HEAD, VOCABULARY, Outcome, Size, ask
from specs.write import write_whole

__all__ = ["AXES", "reached", "read", "section", "told", "write"]

Axis: TypeAlias = Literal["depth", "width", "context", "radius"]
AXES: tuple[Axis, ...] = ("depth", "width", "context", "radius")

LEAST, MOST = Size(1, PER_HEAD, 2, 1e-4), Size(64, 512, 256, 10.0)

Known: TypeAlias = dict[tuple[str, Size, float], Outcome]
"""Answers by kind, size and limit."""


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
            answered = found.answer != "open" and found.cpu_s <= LATE * limit_s
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
