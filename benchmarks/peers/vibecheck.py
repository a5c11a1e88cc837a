"""vibecheck-nn 1.1.0. GPL: it is run as a command, never imported."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.peers.base import Output, Peer, Verdict
from benchmarks.peers.witness import assignment

__all__ = ["Vibecheck"]

_VERDICTS: dict[str, Verdict] = {
    "sat": "sat",
    "unsat": "unsat",
    "unknown": "unknown",
    "timed-out": "timeout",
    "timeout": "timeout",
}

_BOUND = re.compile(r"crown[a-z-]*: worst=([-+\d.e]+)")


class Vibecheck(Peer):
    """Its own command, `vibecheck verify`, on the CPU. The verdict is the first line of standard output, a witness follows."""

    name = "vibecheck"

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "vibecheck"

    @property
    def requirements(self) -> tuple[tuple[str, ...], ...]:
        # onnx2torch wants torchvision, whose builds bring CUDA; it is only used for quantised networks.
        return (
            ("--no-deps", "vibecheck-nn==1.1.0", "onnx2torch"),
            ("numpy", "scipy", "onnx==1.21.0", "gurobipy", "onnxsim", "onnxruntime==1.26.0"),
        )

    def command(self, onnx: Path, vnnlib: Path, timeout_s: float, folder: Path) -> list[str]:
        asked = [str(self.executable), "verify", str(vnnlib), "--network", f"N={onnx}"]
        return [*asked, "--timeout", f"{timeout_s:g}", "--device", "cpu"]

    def bound(self, output: Output) -> float | None:
        return max(map(float, _BOUND.findall(output.err)), default=None)

    def read(self, output: Output, folder: Path) -> tuple[Verdict, str, tuple[float, ...] | None]:
        first, _, rest = output.out.strip().partition("\n")
        verdict = _VERDICTS.get(first.strip())
        if verdict is None:
            return "error", output.last_line, None
        return verdict, "", assignment(rest) if verdict == "sat" else None
