"""Circuits carried over to other checkpoints: the same claim about each model in turn. Is a circuit universal, or one run's?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from specs.errors import InputError

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.model import Model
    from specs.spec import Spec
    from verify.api import Path_
    from verify.report import Report
    from verify.work.progress import Progress

__all__ = ["Carried", "Outcome", "carry"]

Outcome: TypeAlias = Literal["certified", "falsified", "unknown", "inapplicable"]


@dataclass(frozen=True, slots=True, eq=False)
class Carried:
    """One circuit on one model. Where the claim makes no sense there (`inapplicable`: a site, component or output that the
    model does not have, an input of another shape) `refused` says why, and there is no report."""

    circuit: str
    model: str
    report: Report | None
    refused: str | None = None

    @property
    def outcome(self) -> Outcome:
        return "inapplicable" if self.report is None else self.report.verdict


def carry(
    circuits: Sequence[Path_],
    spec: Path_ | Spec,
    models: Sequence[Path_],
    *,
    timeout_s: float | None = None,
    seed: int = 0,
    allow_code: bool = False,
    progress: Progress | None = None,
    hard: bool | None = None,
) -> Iterator[Carried]:
    """Decide the claim of each circuit about its own model, and then about each of `models`, one after another.

    A circuit's stated hash is that of its own model, and is asked of no other. Each question has the whole budget: `timeout_s`,
    or the spec's. Guarantees: each verdict is one of `certify`. Raises: as `certify`, but for what makes a circuit inapplicable
    to another model; InputError: a file that cannot be read. Cost: the models are held in memory together.
    """
    from pathlib import Path

    from specs.load import read_circuit, read_spec
    from specs.model import load_model

    asked = read_spec(spec) if isinstance(spec, str | os.PathLike) else spec
    asked = asked.model_copy(update={"minimality": "none"})
    read = [read_circuit(circuit) for circuit in circuits]
    others = [
        load_model(os.fspath(path), shown="certify", where="--model", base=Path(), allow_code=allow_code) for path in models
    ]
    for circuit in read:
        yield Carried(
            circuit.file, circuit.model.path, _decided(circuit, asked, None, timeout_s, seed, allow_code, progress, hard)
        )
        for other in others:
            try:
                report = _decided(circuit, asked, other, timeout_s, seed, allow_code, progress, hard)
            except InputError as error:
                yield Carried(circuit.file, other.source, None, str(error))
            else:
                yield Carried(circuit.file, other.source, report)


def _decided(
    circuit: Circuit, spec: Spec, model: Model | None, timeout_s: float | None, seed: int, allow_code: bool,
    progress: Progress | None, hard: bool | None,
) -> Report:  # fmt: skip
    from verify.api import certify

    return certify(circuit, spec, model, timeout_s=timeout_s, seed=seed, allow_code=allow_code, progress=progress, hard=hard)
