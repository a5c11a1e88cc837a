"""What a search has learned, line by line in a file, so that a later run goes on where this one stopped."""

from __future__ import annotations

import base64
import fcntl
import json
import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from specs.errors import InputError
from verify.ladder.round import Decision
from verify.minimize.oracle import Answer, Components
from verify.verdict import Certified
from verify.witness.pool import Points

__all__ = ["JOURNAL_FORMAT", "Journal", "Learned", "check_fresh"]

JOURNAL_FORMAT = "certify.journal/1"
_MAX_BYTES = 2**31
_MAX_ARRAY = 2**28


@dataclass(slots=True, eq=False)
class Learned:
    """What a journal holds: decided circuits, the decisions behind what is certified (one a claim), and witnesses by claim."""

    answers: list[tuple[Components, Answer]] = field(default_factory=list[tuple[Components, Answer]])
    decisions: dict[Components, list[Decision]] = field(default_factory=dict[Components, "list[Decision]"])
    points: list[tuple[int, Points]] = field(default_factory=list[tuple[int, Points]])


def check_fresh(path: str | None, resume: bool) -> None:
    """Raises: InputError: there is a journal already, and it is not to be resumed."""
    if path is not None and not resume and os.path.exists(path) and os.path.getsize(path):
        said = "it holds answers of an earlier run", "no file, for a new run"
        raise InputError(path, "", *said, "--resume goes on from it; delete it to start anew")


class Journal:
    """One search's file of answers. A line is written whole, at once, as soon as an answer is known.

    A run that is killed leaves at most a last line without an end: it is cut off when the file is read again. The file is
    locked for as long as a run writes it. It is this tool's own memory, not evidence for others: those check a certificate.
    """

    def __init__(self, path: str, question: str, resume: bool) -> None:
        """`question` is the fingerprint of what is asked. Raises: InputError: the file is of another question, damaged, used by
        another run, or there without `resume`."""
        self.path = path
        self.learned = Learned()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise InputError(path, "", f"it cannot be written ({error.strerror})", "a file to write", "") from None
        try:
            self._begin(question, resume)
        except BaseException:
            os.close(self._file)
            raise

    def _begin(self, question: str, resume: bool) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            said = "another run writes it", "a journal of one's own", "wait for that run, or name another --out"
            raise InputError(self.path, "", *said) from None
        size = os.fstat(self._file).st_size
        if size > _MAX_BYTES:
            raise InputError(self.path, "", f"{size} bytes", f"at most {_MAX_BYTES}", "delete it, or name another --out")
        check_fresh(self.path, resume)
        content = os.pread(self._file, size, 0) if size else b""
        whole = content.rfind(b"\n") + 1
        os.ftruncate(self._file, whole)
        lines = content[:whole].splitlines()
        if not lines:
            self._write({"format": JOURNAL_FORMAT, "question": question})
            return
        for number, line in enumerate(lines, 1):
            try:
                self._read(number, json.loads(line), question)
            except (ValueError, KeyError, TypeError, OverflowError, zlib.error, RecursionError) as error:
                said = f"no line of a journal ({type(error).__name__})", "what this tool wrote", "delete the file to start anew"
                raise InputError(self.path, f"line {number}", *said) from None

    def close(self, remove: bool = False) -> None:
        """Let go of the file; `remove` it where nothing is left to resume."""
        if remove and os.path.exists(self.path):
            os.unlink(self.path)
        os.close(self._file)

    def answered(self, circuit: Components, answer: Answer, decisions: Sequence[Decision] | None) -> None:
        """Note a decided circuit; `decisions` are those of its claims, where it is certified."""
        row: dict[str, Any] = {"kept": _hex(circuit), "answer": answer.value}
        if decisions is not None:
            row["claims"] = [[_margin(d), d.deviation, d.rung] for d in decisions]
        self._write(row)

    def witnessed(self, claim: int, points: Points) -> None:
        """Note witnesses."""
        patches = {name: _packed(patch) for name, patch in points.patches.items()}
        self._write({"claim": claim, "x": _packed(points.x), "patches": patches})

    def _write(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(28, "a line of the journal was not written whole", self.path)

    def _read(self, number: int, row: Any, question: str) -> None:
        if number == 1:
            if row["format"] != JOURNAL_FORMAT:
                raise ValueError("another format")
            if row["question"] != question:
                said = "answers to another question (model, scope, region, patching or agreement differ)"
                raise InputError(self.path, "", said, "a journal of this one", "delete it, or name another --out")
        elif "kept" in row:
            circuit, answer = _unhex(row["kept"]), Answer(row["answer"])
            self.learned.answers.append((circuit, answer))
            if "claims" in row:
                claims = [Decision(Certified(float(margin)), deviation, rung) for margin, deviation, rung in row["claims"]]
                self.learned.decisions[circuit] = claims
        else:
            patches = {str(name): _unpacked(patch) for name, patch in row["patches"].items()}
            self.learned.points.append((int(row["claim"]), Points(_unpacked(row["x"]), patches)))


def _margin(decision: Decision) -> float:
    assert isinstance(decision.verdict, Certified)
    return decision.verdict.margin


def _hex(circuit: Components) -> str:
    return f"{sum(1 << v for v in circuit):x}"


def _unhex(text: str) -> Components:
    bits = int(text, 16)
    return frozenset(v for v in range(bits.bit_length()) if bits >> v & 1)


def _packed(values: Tensor) -> list[Any]:
    """Shape and compressed bytes."""
    array = np.ascontiguousarray(values.detach().cpu().double().numpy())
    return [list(array.shape), base64.b64encode(zlib.compress(array.tobytes(), 1)).decode()]


def _unpacked(packed: Any) -> Tensor:
    shape, text = [int(n) for n in cast("list[int]", packed[0])], cast(str, packed[1])
    size = 8 * math.prod(shape)
    if not 0 <= size <= _MAX_ARRAY or min(shape, default=0) < 0:
        raise ValueError("an array too large")
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(text, validate=True), size + 1)
    if len(content) != size:
        raise ValueError("an array of another size")
    return torch.from_numpy(np.frombuffer(content, dtype=np.float64).reshape(shape).copy())
