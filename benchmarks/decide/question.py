"""One question as the files that every tool is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Question", "spec_document", "write_question", "write_region"]


@dataclass(frozen=True, slots=True)
class Question:
    """`circuit.json` and `spec.json` in a folder, and the tolerance that they ask for."""

    folder: Path
    tolerance: float

    @property
    def circuit(self) -> Path:
        return self.folder / "circuit.json"

    @property
    def spec(self) -> Path:
        return self.folder / "spec.json"


def write_region(folder: Path, ends: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Path:
    """A box of inputs as an `.npz`. Raises: OSError."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "region.npz"
    np.savez(path, lower=ends[0], upper=ends[1])
    return path


def spec_document(region: Path, agreement: Mapping[str, Any]) -> dict[str, Any]:
    """A spec on the box that `write_region` wrote, with zero patching."""
    ends = {end: {"file": str(region.absolute()), "array": end} for end in ("lower", "upper")}
    return {
        "format": "certify.spec/1",
        "input": {"kind": "box", **ends},
        "patching": {"kind": "zero"},
        "agreement": dict(agreement),
    }


def write_question(
    folder: Path, model: Path, scope: Mapping[str, str], kept: Mapping[str, Sequence[int]], spec: Mapping[str, Any]
) -> Question:
    """Write both files. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    circuit = {
        "format": "certify.circuit/1",
        "model": {"path": str(model.absolute())},
        "scope": dict(scope),
        "kept": {site: list(indices) for site, indices in kept.items()},
    }
    question = Question(folder, float(spec["agreement"]["tolerance"]))
    question.circuit.write_text(json.dumps(circuit))
    question.spec.write_text(json.dumps(spec))
    return question
