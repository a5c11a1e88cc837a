"""Marabou 2.0 through its Python package."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.peers.base import Output, Peer, Verdict
from benchmarks.peers.vnnlib import read_property

__all__ = ["Marabou"]

_CALL = Path(__file__).with_name("marabou_call.py")


class Marabou(Peer):
    """Run by a script of ours in its environment: the box as variable bounds, one disjunct after another, as its own robustness
    check goes through the classes; each gets what is left of the time."""

    name = "marabou"
    torch = False

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "Marabou"

    @property
    def requirements(self) -> tuple[tuple[str, ...], ...]:
        return (("maraboupy==2.0.0", "numpy<2", "onnx<2", "onnxruntime<2"),)

    def command(self, onnx: Path, vnnlib: Path, timeout_s: float, folder: Path) -> list[str]:
        asked = read_property(vnnlib)
        stated = {
            "lower": asked.lower.tolist(),
            "upper": asked.upper.tolist(),
            "disjuncts": [(a.tolist(), b.tolist()) for a, b in asked.disjuncts],
            "onnx": str(onnx),
            "timeout_s": timeout_s,
            "result": str(folder / "result.json"),
        }
        question = folder / "question.json"
        question.write_text(json.dumps(stated))
        return [str(self.python), "-P", str(_CALL), str(question)]

    def read(self, output: Output, folder: Path) -> tuple[Verdict, str, tuple[float, ...] | None]:
        result = folder / "result.json"
        if not result.exists():
            return "error", output.last_line, None
        said = json.loads(result.read_text())
        witness = said.get("witness")
        return said["verdict"], said.get("note", ""), None if witness is None else tuple(witness)
