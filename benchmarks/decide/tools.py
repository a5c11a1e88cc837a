"""Who is asked, each as its interface allows: `certify` as the installed command, every peer on the exported query."""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.decide.question import Question
from benchmarks.peers.base import GRACE_S, Answer, Peer, run
from benchmarks.peers.base import Verdict as Said
from benchmarks.peers.witness import NEAR

__all__ = ["OURS", "Exported", "ask_certify", "ask_peer", "export"]

OURS = "certify"
_ROOT = Path(__file__).resolve().parents[2]
_EXPORT_LIMIT_S = 300.0
_OURS: dict[Said, str] = {"sat": "falsified", "unsat": "certified"}


def ask_certify(question: Question, limit_s: float) -> dict[str, Any]:
    """A cold call of the command: `verdict`, wall `time_s` with start-up, what was proven and seen, and the rungs' share.

    `proven` is the least upper bound of the deviation, `seen` the largest deviation met; either may be None. As every peer, it
    is told `limit_s` and ended `GRACE_S` later.
    """
    from specs.errors import InputError
    from verify.report import read_report

    with tempfile.TemporaryDirectory(prefix="certify-") as made:
        folder = Path(made)
        report = folder / "report.json"
        asked = [sys.executable, "-m", "verify.cli", str(question.circuit.absolute()), "--spec", str(question.spec.absolute())]
        output = run([*asked, "--timeout", f"{limit_s:g}", "--out", str(report), "--quiet"], limit_s + GRACE_S, folder, _ROOT)
        found: dict[str, Any] = {"tool": OURS, "limit_s": limit_s, "time_s": output.time_s}
        if output.code is None:
            return found | {"verdict": "timeout", "note": "ended by us"}
        try:
            said = read_report(report)
        except InputError:
            return found | {"verdict": "error", "note": output.last_line}
    return found | {
        "verdict": said.verdict,
        "proven": None if said.margin is None else question.tolerance - said.margin,
        "seen": said.deviation,
        "note": said.reason or "",
        "rung": said.claims[0].decided_by if said.claims else None,
        "rungs": {rung.name: round(rung.time_s, 3) for rung in said.rungs},
    }


@dataclass(frozen=True, slots=True)
class Exported:
    """A question as `query.onnx` and `query.vnnlib`, or why there is none in `refusal`."""

    folder: Path
    refusal: str = ""

    @property
    def onnx(self) -> Path:
        return self.folder / "query.onnx"

    @property
    def vnnlib(self) -> Path:
        return self.folder / "query.vnnlib"


def export(question: Question) -> Exported:
    """The same question for other verifiers, by `certify export vnnlib`; not part of anybody's time."""
    target = question.folder / "vnnlib"
    asked = [sys.executable, "-m", "verify.cli", "export", "vnnlib", str(question.circuit.absolute()), "--force"]
    with tempfile.TemporaryDirectory(prefix="export-") as made:
        asked += ["--spec", str(question.spec.absolute()), "--out", str(target.absolute())]
        output = run(asked, _EXPORT_LIMIT_S, Path(made), _ROOT)
    made_ = Exported(target)
    if output.code != 0 or not (made_.onnx.is_file() and made_.vnnlib.is_file()):
        return Exported(target, f"not exported: {output.last_line}")
    return made_


def ask_peer(peer: Peer, exported: Exported, limit_s: float, tolerance: float) -> dict[str, Any]:
    """One call of a peer, in the same fields. A `sat` whose witness holds within VNN-COMP's tolerance only is `near`, one whose
    witness does not hold at all `spurious`; `proven` where it says a bound of the margin."""
    answer: Answer = peer.solve(exported.onnx, exported.vnnlib, limit_s)
    verdict = _OURS.get(answer.verdict, answer.verdict)
    if answer.replay is not None and not answer.replay.confirmed:
        verdict = "near" if answer.replay.miss <= NEAR else "spurious"
    return {
        "tool": peer.name,
        "limit_s": limit_s,
        "time_s": answer.time_s,
        "verdict": verdict,
        "proven": None if answer.bound is None else tolerance - answer.bound,
        "note": answer.note,
    }
