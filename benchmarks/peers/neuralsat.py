"""NeuralSAT 0.2.17."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.peers.base import Output, Peer, Verdict
from benchmarks.peers.witness import assignment

__all__ = ["NeuralSat"]

_VERDICTS: dict[str, Verdict] = {
    "sat": "sat",
    "unsat": "unsat",
    "unknown": "unknown",
    "timeout": "timeout",
    "early_stop": "unknown",
    "invalid_counterexample": "unknown",
}

_BOUND = re.compile(r"Iteration: \d+ .*?Bound: ([-+\d.e]+)")

_TORCHVISION = '"""Stands in for torchvision, whose builds need CUDA; imported for one operator of object detectors."""'


class NeuralSat(Peer):
    """Its package has no command: `main.py` in its `site-packages/src` is run from there, on the CPU. It reads no disjunction
    but `(or (and …) …)`, and passes over lines that it cannot read, which is an error here."""

    name = "neuralsat"

    @property
    def _packages(self) -> Path:
        found = sorted(self.home.glob("lib/python3*/site-packages"))
        return found[0] if found else self.home / "lib" / "site-packages"

    @property
    def executable(self) -> Path:
        return self._packages / "src" / "main.py"

    @property
    def cwd(self) -> Path | None:
        return self.executable.parent

    @property
    def requirements(self) -> tuple[tuple[str, ...], ...]:
        return (
            ("--no-deps", "neuralsat==0.2.17"),
            (
                "beartype>=0.16.4", "coloredlogs>=15.0.1", "gurobipy>=11.0.0", "numpy>=1.24.2", "onnx>=1.15.0",
                "onnxsim>=0.4.36", "onnxruntime>=1.16.3", "Pillow>=9.3.0", "protobuf<6.0,>=4.25.1", "psutil>=5.9.6",
                "requests>=2.28.1", "sortedcontainers>=2.4.0", "tqdm>=4.66.1", "termcolor>=2.4.0", "joblib>=1.4.2",
                "scipy>=1.10.1",
            ),
        )  # fmt: skip

    def finish(self) -> None:
        (self._packages / "torchvision.py").write_text(_TORCHVISION + "\n")

    def command(self, onnx: Path, vnnlib: Path, timeout_s: float, folder: Path) -> list[str]:
        asked = [str(self.python), str(self.executable), "--net", str(onnx), "--spec", str(vnnlib), "--device", "cpu"]
        asked += ["--timeout", f"{timeout_s:g}", "--verbosity", "1", "--export_cex"]
        return [*asked, "--result_file", str(folder / "result")]

    def bound(self, output: Output) -> float | None:
        return max(map(float, _BOUND.findall(output.out + output.err)), default=None)

    def read(self, output: Output, folder: Path) -> tuple[Verdict, str, tuple[float, ...] | None]:
        if "Skipped parsing line" in output.out + output.err:
            return "error", "it passed over a line of the VNN-LIB file", None
        result = folder / "result"
        said = result.read_text() if result.exists() else ""
        first, _, rest = said.partition("\n")
        verdict = _VERDICTS.get(first.strip().lower())
        if verdict is None:
            return "error", output.last_line, None
        note = first.strip() if first.strip().lower() in ("early_stop", "invalid_counterexample") else ""
        return verdict, note, assignment(rest) if verdict == "sat" else None
