"""The claims of a problem as two networks and a VNN-LIB 2.0 query over both: the model, the circuit, one input."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bounds.query import Clauses
from bounds.region import Box
from specs.encode import Claim, Problem
from specs.errors import InputError
from specs.export.files import file_names, require_boxes
from specs.export.pruned import pruned_model
from specs.export.room import require_room, write_all
from specs.export.vnnlib import comments, decimal

__all__ = ["ExportedPair", "export_pair"]

_TERMS = 1 << 22
"""Atoms and their terms of one query, at most: a file of some hundred megabytes."""


@dataclass(frozen=True, slots=True)
class ExportedPair:
    """One claim's query over `model` and `circuit`. `notes`: what a reader of a verifier's answer must know."""

    label: str
    model: Path
    circuit: Path
    vnnlib: Path
    clauses: int
    notes: tuple[str, ...]


def export_pair(
    problem: Problem, folder: Path, *, force: bool = False, inputs: Collection[str | os.PathLike[str]] = ()
) -> Iterator[ExportedPair]:
    """Write `model.onnx` and `circuit.onnx` into `folder`, and a VNN-LIB 2.0 query for every claim, named as by
    `export_vnnlib`. A query is given out when it is written.

    `unsat` means that the claim is proven, `sat` that it is violated, strictly, for the two networks' real-number functions (a
    note says where float32 rounds a constant). Guarantees: both networks were run in onnxruntime and compared with model and
    circuit (see `pruned_model`). Raises: InputError: as `export_vnnlib`; patched values with a choice of their own, or a norm
    that linear conditions do not state: version 1 has both; ExportFault.
    """
    require_boxes(problem)
    names = file_names([claim.label for claim in problem.claims])
    model, circuit = folder / "model.onnx", folder / "circuit.onnx"
    queries = [folder / f"{name}.vnnlib" for name in names]
    require_room(folder, [model, circuit, *queries], force, inputs)
    everything = replace(problem, mask=torch.ones_like(problem.mask))
    (ours, rounded), (theirs, also_rounded) = pruned_model(everything), pruned_model(problem)
    texts = [_text(problem, claim) for claim in problem.claims]
    write_all(folder, {model: ours, circuit: theirs})
    which = rounded or also_rounded
    said = "the answer is about the networks with rounded constants"
    notes = () if which is None else (f"float32 cannot hold all constants ({which} has such a one): {said}",)
    for claim, path, text in zip(problem.claims, queries, texts, strict=True):
        write_all(folder, {path: comments([*_heading(problem, claim), *notes]).encode("ascii") + text.encode("ascii")})
        yield ExportedPair(claim.label, model, circuit, path, len(_clauses(problem, claim).clauses), notes)


def _clauses(problem: Problem, claim: Claim) -> Clauses:
    margins = claim.query.margins
    if isinstance(margins, Clauses):
        return margins
    found = f"a norm of kind {getattr(problem.spec.agreement, 'norm', '')!r}"
    raise InputError(problem.spec.file, "$.agreement.norm", found, "linf, which linear conditions state", "or use --version 1")


def _heading(problem: Problem, claim: Claim) -> list[str]:
    agreement = problem.spec.agreement
    return [
        f"certify export vnnlib --version 2: {claim.label} of {os.path.basename(problem.spec.file)}",
        f"sat: on one input the circuit and the model differ by more than the tolerance ({agreement.metric},",
        f"{agreement.tolerance}). unsat: the claim is proven, for the networks' real-number functions.",
    ]


def _text(problem: Problem, claim: Claim) -> str:
    margins, region, graph = _clauses(problem, claim), claim.query.region, problem.model.graph
    assert isinstance(region, Box)
    ins, outs = graph.input_shape, graph.shape(graph.output)
    terms = int((margins.circuit != 0).sum() + (margins.model != 0).sum()) + margins.clauses.numel() + math.prod(ins)
    if terms > _TERMS:
        raise InputError(problem.spec.file, "$.agreement", f"{terms} terms", f"at most {_TERMS}", "use --version 1")
    lines = ["", "(vnnlib-version <2.0>)"]
    for name, x, y in (("model", "X", "Y"), ("circuit", "V", "W")):
        tensors = f"(declare-input {x} float32 {list(ins)})\n    (declare-output {y} float32 {list(outs)})"
        lines.append(f"(declare-network {name}\n    {tensors})")
    x, v = _names("X", ins), _names("V", ins)
    for ours, theirs, low, high in zip(x, v, region.lower.flatten().tolist(), region.upper.flatten().tolist(), strict=True):
        lines.append(f"(assert (and (>= {ours} {decimal(low)}) (<= {ours} {decimal(high)}) (== {theirs} {ours})))")
    atoms = _atoms(margins, _names("W", outs), _names("Y", outs))
    lines += ["(assert (or"]
    for clause in margins.clauses.tolist():
        lines.append(f"    (and {' '.join(atoms[i] for i in dict.fromkeys(clause))})")
    return "\n".join([*lines, "))", ""])


def _names(tensor: str, shape: tuple[int, ...]) -> list[str]:
    """Its elements, row by row."""
    return [f"{tensor}[{','.join(map(str, place))}]" for place in np.ndindex(*shape)]


def _atoms(margins: Clauses, circuit: list[str], model: list[str]) -> list[str]:
    """What holds of each form where it is violated: it is below zero, its offset included.

    An offset of a hair's breadth below 0 says that the form must be positive, not just non-negative; its violation, at most 0,
    is stated so.
    """
    found: list[str] = []
    hair = torch.finfo(torch.float64).tiny
    for a, b, offset in zip(
        margins.circuit.flatten(1).tolist(), margins.model.flatten(1).tolist(), margins.offset.tolist(), strict=True
    ):
        terms = [f"(* {decimal(c)} {name})" for c, name in zip((*a, *b), (*circuit, *model), strict=True) if c != 0]
        total = f"(+ {' '.join(terms)})" if len(terms) > 1 else terms[0] if terms else "0.0"
        strict, end = ("<=", 0.0) if -hair <= offset < 0 else ("<", -offset)
        found.append(f"({strict} {total} {decimal(end)})")
    return found
