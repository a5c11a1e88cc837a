"""A peer's counterexample, replayed in onnxruntime."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.vnnlib import read_property

__all__ = ["NEAR", "Replay", "assignment", "replayed"]

NEAR = 1e-4
"""What VNN-COMP's checker calls correct within tolerance. Such a witness shows nothing; but the answer may well be right."""

_PAIR = re.compile(r"\(\s*X_(\d+)\s+([^\s()]+)\s*\)")


def assignment(text: str) -> tuple[float, ...] | None:
    """The inputs in `((X_0 0.5) … (Y_0 1.2))`, as VNN-COMP has tools write them; None where they are not all there."""
    found: dict[int, float] = {}
    for index, value in _PAIR.findall(text):
        try:
            found[int(index)] = float(value)
        except ValueError:
            return None
    if not found or sorted(found) != list(range(len(found))):
        return None
    return tuple(found[i] for i in range(len(found)))


@dataclass(frozen=True, slots=True)
class Replay:
    """`miss` is how far the outputs are from a violation: 0 or less where the witness is one; infinite where it is none at
    all. `note` says so in words."""

    miss: float
    note: str

    @property
    def confirmed(self) -> bool:
        """Whether it is a violation, without any tolerance."""
        return self.miss <= 0


def replayed(onnx: Path, vnnlib: Path, witness: tuple[float, ...]) -> Replay:
    """What the network's own runtime shows at a witness.

    The input is moved into the region first and rounded inward to float32: a point just outside is no counterexample, one just
    inside is as good. Raises: ValueError: the VNN-LIB file is malformed.
    """
    asked = read_property(vnnlib)
    x = np.asarray(witness, np.float64)
    if x.shape != asked.lower.shape or not bool(np.isfinite(x).all()):
        return Replay(math.inf, f"spurious: a witness of {x.size} finite numbers where {asked.lower.size} are needed")
    inside = np.clip(x, asked.lower, asked.upper)
    rounded = inside.astype(np.float32)
    rounded = np.where(rounded > asked.upper, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    rounded = np.where(rounded < asked.lower, np.nextafter(rounded, np.float32(np.inf)), rounded)
    moved = float(np.abs(rounded.astype(np.float64) - x).max())
    excess = asked.excess(_outputs(onnx, rounded))
    said = f", moved {moved:.1e} into the region" if moved > 1e-6 else ""
    if excess <= 0:
        return Replay(excess, f"witness confirmed{said}")
    return Replay(excess, f"{'within tolerance' if excess <= NEAR else 'spurious'}: the witness misses by {excess:.1e}{said}")


def _outputs(onnx: Path, x: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    asked: Any = session.get_inputs()[0]
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in asked.shape]
    found: Any = session.run(None, {asked.name: x.reshape(shape).astype(np.float32)})[0]
    return found.reshape(-1).astype(np.float64)
