"""The part `queries`: questions on mnist 256x2 that general verifiers were seen to leave open, to every tool alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.decide.cases import SEQUENCE
from benchmarks.decide.question import Question, spec_document, write_question, write_region
from benchmarks.decide.rows import Row, Rows
from benchmarks.decide.tools import OURS, ask_certify, ask_peer, export
from benchmarks.peers.base import Peer

__all__ = ["DECIDED", "LIMITS_S", "PART", "measure", "read_questions"]

PART = "queries"
LIMITS_S = (12.0, 40.0)
DECIDED = frozenset({"certified", "falsified"})


def read_questions(data: Path, out: Path) -> dict[str, Question]:
    """The questions of `queries/siamese_256x2.json` as files under `out`, by name. Raises: OSError: data is missing."""
    from dataclasses import replace

    stated = json.loads((data / "queries" / "siamese_256x2.json").read_text())
    case = SEQUENCE["mnist_vnncomp_256x2"]
    model = case.load(data)
    scope = case.scope(model)
    found: dict[str, Question] = {}
    for number, query in enumerate(stated["queries"], 1):
        name = f"{number}: {query['circuit']}, ε {query['epsilon']:g}, δ {query['tolerance']:.4g}"
        folder = out / PART / str(number)
        ends = replace(case, epsilon=query["epsilon"]).ends(data, model.graph.input_shape)
        spec = spec_document(write_region(folder, ends), case.agreement(query["tolerance"]))
        kept = dict(zip(scope, stated["kept_neurons_per_relu_layer"][query["circuit"]], strict=True))
        found[name] = write_question(folder, case.paths(data)[0], scope, kept, spec)
    return found


def measure(
    data: Path, peers: Sequence[Peer], out: Path, rows: Rows, limits_s: Sequence[float], say: Callable[[str], None]
) -> None:
    """Ask every tool every question, shorter limits first; a question that a tool has decided it is not asked again."""
    missing = SEQUENCE["mnist_vnncomp_256x2"].missing(data)
    if missing is None and not (data / "queries" / "siamese_256x2.json").is_file():
        missing = data / "queries" / "siamese_256x2.json"
    if missing is not None:
        say(f"{PART}: no {missing}: skipped")
        return
    for name, question in read_questions(data, out).items():
        exported = export(question) if peers else None
        if exported is not None and exported.refusal:
            say(f"{PART}: {name}: {exported.refusal}: peers are not asked")
        for limit_s in sorted(limits_s):
            for peer in (None, *peers):
                tool = OURS if peer is None else peer.name
                if rows.find(part=PART, case="", query=name, tool=tool, limit_s=limit_s) or _decided(rows, name, tool):
                    continue
                if peer is None:
                    found = ask_certify(question, limit_s)
                elif exported is None or exported.refusal:
                    continue
                else:
                    found = ask_peer(peer, exported, limit_s, question.tolerance)
                row: Row = {"part": PART, "case": "", "query": name, "tolerance": question.tolerance, **found}
                rows.add(row)
                say(f"{PART}: {name}: {tool}, {limit_s:g} s: {row['verdict']} after {row['time_s']:.1f} s")


def _decided(rows: Rows, query: str, tool: str) -> bool:
    return any(row["verdict"] in DECIDED for row in rows.some(part=PART, query=query, tool=tool))
