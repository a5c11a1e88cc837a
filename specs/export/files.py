"""The claims of a problem as pairs of files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from bounds.query import Norm
from bounds.region import Box
from specs.encode import Claim, Problem
from specs.errors import InputError
from specs.export.check import check
from specs.export.question import Question, ask
from specs.export.room import require_room, write_all
from specs.export.vnnlib import vnnlib_text
from specs.export.writer import WriterError
from specs.patching import Reachable, Resample

__all__ = ["Exported", "export_vnnlib", "file_names", "require_boxes"]

_LARGEST = (1 << 31) - 1
"""Bytes of one protobuf message."""


@dataclass(frozen=True, slots=True)
class Exported:
    """One claim's files. `inputs` of the network, `patched` of them patched values; `outputs`; `clauses`, one of which every
    counterexample meets. `notes`: what a reader of a verifier's answer must know."""

    label: str
    onnx: Path
    vnnlib: Path
    inputs: int
    patched: int
    outputs: int
    clauses: int
    notes: tuple[str, ...]


def export_vnnlib(
    problem: Problem, folder: Path, *, force: bool = False, inputs: Collection[str | os.PathLike[str]] = ()
) -> Iterator[Exported]:
    """Write every claim of a problem as ONNX and VNN-LIB 1.0 into `folder`, made if need be: `query.onnx`, `query.vnnlib`, or
    named after the claims' labels where there are several. A pair is given out when it is written.

    `unsat` for a pair means that the claim is proven, as far as that verifier is right, float32 holds the model's constants
    (else a note says so) and, for top1, our bounds are: outputs that they rule out as the model's first are left out. `sat`
    means a counterexample, or a point on the boundary, where the deviation is the tolerance exactly: replay it. For `resample`
    patching, whose values are enclosed in intervals, it may be a value that no input gives.
    Guarantees: each network was run in onnxruntime and compared with the model and the circuit evaluated separately (see
    `specs.export.check`) before its files are there under their names. Existing files are replaced only with `force`, those in
    `inputs` never. Raises: InputError: a region that is no box (before anything is written), a folder or files that cannot be
    written, a model that cannot be; ExportFault.
    """
    require_boxes(problem)
    names = file_names([claim.label for claim in problem.claims])
    pairs = [(folder / f"{name}.onnx", folder / f"{name}.vnnlib") for name in names]
    require_room(folder, [path for pair in pairs for path in pair], force, inputs)
    for claim, (network, property) in zip(problem.claims, pairs, strict=True):
        question = _asked(problem, claim)
        content = _content(problem, question)
        check(claim.query, problem.mask[0], question, content)
        notes = _notes(problem, claim, question)
        text = vnnlib_text(question, [*_heading(problem, claim, network.name), *notes])
        write_all(folder, {network: content, property: text.encode("ascii")})
        patched = sum(len(part.elements) for part in question.patched)
        sizes = len(question.lower), patched, question.outputs, len(question.clauses)
        yield Exported(claim.label, network, property, *sizes, notes)


def file_names(labels: Sequence[str]) -> list[str]:
    """Names for files, without suffix: `query` for one claim, else the labels in letters that every file system takes, with
    numbers where two are alike."""
    if len(labels) == 1:
        return ["query"]
    taken: set[str] = set()
    found: list[str] = []
    for label in labels:
        plain = re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("_.") or "claim"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        found.append(name)
    return found


def require_boxes(problem: Problem) -> None:
    """Raises: InputError: a region that is no box."""
    if all(isinstance(claim.query.region, Box) for claim in problem.claims):
        return
    spec = problem.spec
    where, kind = "$.input", spec.input.kind
    if isinstance(spec.patching, Reachable) and kind in ("linf", "box"):
        where, kind = "$.patching.reachable", spec.patching.reachable.kind
    remedy = {
        "l2": "use `kind: linf` with the same epsilon, which contains the ball: an unsat there proves this claim too",
        "hull": "use `kind: box` from the least to the greatest of each element: an unsat there proves this claim too",
    }.get(kind, "use `kind: linf` or `kind: box`")
    raise InputError(spec.file, f"{where}.kind", f"a region of kind {kind!r}", "VNN-LIB states boxes only", remedy)


def _asked(problem: Problem, claim: Claim) -> Question:
    try:
        return ask(claim.query, problem.mask[0])
    except WriterError as error:
        raise InputError(problem.model.source, error.place, error.found, error.needed) from None


def _content(problem: Problem, question: Question) -> bytes:
    size = question.network.ByteSize()
    if size > _LARGEST:
        raise InputError(
            problem.model.source, "", f"the network of both halves takes {size / 1e9:.1f} GB", "an ONNX file holds 2 GB",
            "use a smaller model",
        )  # fmt: skip
    onnx.checker.check_model(question.network)
    return question.network.SerializeToString(deterministic=True)


def _heading(problem: Problem, claim: Claim, network: str) -> list[str]:
    agreement = problem.spec.agreement
    return [
        f"certify export vnnlib: {claim.label} of {os.path.basename(problem.spec.file)}, for {network}",
        f"sat: the circuit and the model differ by more than the tolerance ({agreement.metric}, {agreement.tolerance}), or by",
        "exactly that, which violates nothing: replay it. unsat: the claim is proven, for the network's real-number function.",
        f"Each Y is compared with a constant that stands here, not in {network}.",
    ]


def _notes(problem: Problem, claim: Claim, question: Question) -> tuple[str, ...]:
    notes: list[str] = []
    if question.rounded is not None:
        said = "the answer is about the network with rounded constants"
        notes.append(f"float32 cannot hold all constants ({question.rounded} has such a one): {said}")
    if isinstance(problem.spec.patching, Resample):
        notes.append(
            "resampled values are enclosed in intervals: a sat may use values that no input gives, an unsat is a proof"
        )
    margins = claim.query.margins
    if isinstance(margins, Norm) and margins.order == 2:
        notes.append("the L2 norm takes squares, products of two tensors: many verifiers do not read them")
    return tuple(notes)
