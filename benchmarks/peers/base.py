"""What every peer is: a virtual environment, a command line, and an answer that is checked."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias

from benchmarks.peers.witness import Replay, replayed

__all__ = ["GRACE_S", "Answer", "Output", "Peer", "Verdict", "run"]

Verdict: TypeAlias = Literal["sat", "unsat", "unknown", "timeout", "error"]

GRACE_S = 5.0
"""How long after its limit a process is ended: every tool, ours too, is told the limit, and needs time to start and report."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said of "is there a counterexample": `sat`, there is one; `unsat`, there is none.

    `time_s` is wall time, start-up included. `witness` is the flat input that came with `sat`; `replay` what onnxruntime shows
    there (None: nothing to check). `bound` is the best lower bound that it printed of the least output; None where it prints
    none.
    """

    verdict: Verdict
    time_s: float
    note: str = ""
    witness: tuple[float, ...] | None = None
    replay: Replay | None = None
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What a process left: exit code (None where it was ended for overrunning), both streams, wall seconds."""

    code: int | None
    out: str
    err: str
    time_s: float

    @property
    def last_line(self) -> str:
        """The last line said, errors first: what a note may quote."""
        lines = [line.strip() for text in (self.out, self.err) for line in text.splitlines() if line.strip()]
        return lines[-1][:160] if lines else "nothing said"


def run(command: Sequence[str], limit_s: float, folder: Path, cwd: Path | None = None) -> Output:
    """Run a command on one thread, in a process group of its own that is killed whole after `limit_s`. `folder` takes what it
    says. Never raises for what the command does. Raises: OSError: it cannot be started."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    hidden = {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": "", "TQDM_DISABLE": "1"}
    out, err = folder / "stdout", folder / "stderr"
    began = time.monotonic()
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file, cwd=cwd,
            env=os.environ | threads | hidden, start_new_session=True,
        )  # fmt: skip
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(limit_s)
        finally:
            time_s = time.monotonic() - began
            _end(process)
    texts = [path.read_bytes().decode(errors="replace") for path in (out, err)]
    return Output(code, texts[0], texts[1], time_s)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group: also children of a process that ended by itself."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Peer(ABC):
    """A verifier in the virtual environment `home`."""

    name: ClassVar[str]
    torch: ClassVar[bool] = True
    """Whether it needs torch, which is installed before all else."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.home / "bin" / "python"

    @property
    @abstractmethod
    def executable(self) -> Path:
        """What must be there for it to run."""

    @property
    def installed(self) -> bool:
        return self.python.exists() and self.executable.exists()

    @property
    @abstractmethod
    def requirements(self) -> tuple[tuple[str, ...], ...]:
        """Arguments of `pip install`, one call after another."""

    def finish(self) -> None:  # noqa: B027  # most need nothing more
        """What is left to do after the requirements are installed."""

    @abstractmethod
    def command(self, onnx: Path, vnnlib: Path, timeout_s: float, folder: Path) -> list[str]:
        """The command line for one query. `folder` is the call's own, for what it writes."""

    @abstractmethod
    def read(self, output: Output, folder: Path) -> tuple[Verdict, str, tuple[float, ...] | None]:
        """Verdict, note and witness of a call that ended by itself."""

    def bound(self, output: Output) -> float | None:
        """The best bound that it printed on its way, also where it was ended."""
        return None

    @property
    def cwd(self) -> Path | None:
        """The directory that it must be started in."""
        return None

    def solve(self, onnx: Path, vnnlib: Path, timeout_s: float) -> Answer:
        """Ask one query: a fresh process each time. It is told `timeout_s` and ended `GRACE_S` later.

        Guarantees: `sat` with a witness was replayed; what the process does is in the answer, never an exception. Raises:
        ValueError: the VNN-LIB file is malformed.
        """
        with tempfile.TemporaryDirectory(prefix=f"{self.name}-") as made:
            folder = Path(made)
            try:
                asked = self.command(onnx.absolute(), vnnlib.absolute(), timeout_s, folder)
                output = run(asked, timeout_s + GRACE_S, folder, self.cwd)
            except OSError as error:
                return Answer("error", 0.0, f"could not be started ({error.strerror})")
            if output.code is None:
                return Answer("timeout", output.time_s, "ended by us", bound=self.bound(output))
            verdict, note, witness = self.read(output, folder)
        if verdict != "sat":
            return Answer(verdict, output.time_s, note, bound=self.bound(output))
        if witness is None:
            return Answer(verdict, output.time_s, note or "no witness given")
        seen = replayed(onnx, vnnlib, witness)
        return Answer(verdict, output.time_s, "; ".join(filter(None, (note, seen.note))), witness, seen)
