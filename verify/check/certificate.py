"""Certificates read and confirmed, or rejected with the reason. Trusted base; see the package.

A certificate is a folder: `certificate.json` names model, circuit, spec and the files of numbers they use, each with its
sha256; `proof.npz` holds for every claim i a binary tree for each goal that plain bounds leave open, one after another in
preorder:

    i.goal        numbers of the goals that have trees, ascending; every other goal must hold by plain bounds of the whole
    region i.tensor      -1 for a leaf, else which tensor a node splits (a number in `tensors`), and with i.circuit (0, 1),
    i.at, i.threshold
                  where; the first child has `v >= threshold`, the second `v <= threshold`: together they cover their parent
    i.slopes      for each leaf and each ReLU lower slope of f(y), of f(y + d), and weight, in 1/65535
    i.multipliers for each leaf one number for each split on the way to it

With "falsified" there is a witness instead: one row in each of

    witness.claim, witness.input, witness.second, witness.patch.j, witness.input_weights, witness.second_weights
                  number of the claim, input, second input or values of the j-th site, weights of a hull's points

Where the manifest says something of minimality, beside the trees and with a row for each witness:

    refuted.kept      circuits, a bit for each component, lowest first; components are counted along the circuit's scope
    refuted.witness   the witness that refutes each
    listed.kept       other circuits that are certified; with `complete` in the manifest they are all minimal ones
    listed.k.i.…      their trees
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from specs.document import read_document
from verify.check.claim import Goal, Question, files_of, read_question
from verify.check.interval import Array, Rejected, U
from verify.check.minimality import LEVELS, circuit_of, circuits_in, confirm_refuted, kept_of, of_circuit
from verify.check.part import Constraint, Empty, Tuned
from verify.check.points import confirm_all
from verify.check.proof import Proof
from verify.check.tokens import Tokens
from verify.check.tree import PROOF, Trees
from verify.check.witness import Witnesses

__all__ = ["FORMAT", "MANIFEST", "PROOF", "Confirmed", "confirm", "digest", "holds", "sha256_of", "spare"]

FORMAT, MANIFEST = "certify.certificate/2", "certificate.json"
MAX_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What was confirmed: the verdict, of how many claims, by how many leaves; the level of minimality, by how many refuted
    circuits; what every faithful circuit costs at least, and the circuit itself; how many components each must keep; and how
    many `listed` circuits are certified too, `complete` where these are all minimal ones."""

    verdict: str
    claims: int
    leaves: int
    float32: bool = False
    level: str | None = None
    refuted: int = 0
    lower: float = 0.0
    upper: float = 0.0
    core: int = 0
    listed: int = 0
    complete: bool = False


def confirm(folder: Path) -> Confirmed:
    """Check a certificate against the files that it names. Raises: Rejected: it proves nothing, and why; InputError: a
    malformed file."""
    with np.errstate(all="ignore"):  # a number that is none proves nothing, which is looked at where it matters
        return _confirmed(folder)


def _confirmed(folder: Path) -> Confirmed:
    document = read_document(str(folder / MANIFEST))
    manifest = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
    if manifest.get("format") != FORMAT:
        raise Rejected(f"no certificate of format {FORMAT}")
    if manifest.get("sha256") != digest(manifest):
        raise Rejected(f"{MANIFEST} does not have the sha256 that it states")
    question = _question(folder, manifest)
    arrays = _arrays(folder / PROOF, str(manifest.get("proof")))
    float32 = manifest.get("float32") is True
    if manifest.get("verdict") == "falsified":
        Witnesses(question, arrays).confirm(0, kept_of(question, circuit_of(question)), float32)
        return Confirmed("falsified", 1, 0, float32)
    if manifest.get("verdict") != "certified":
        raise Rejected("neither certified nor falsified")
    leaves = sum(_certified(question, i, arrays, float32) for i in range(len(question.claims)))
    found = Confirmed("certified", len(question.claims), leaves, float32)
    return found if manifest.get("minimality") is None else _minimal(question, arrays, manifest["minimality"], found)


def _minimal(question: Question, arrays: dict[str, NDArray[Any]], stated: Any, found: Confirmed) -> Confirmed:
    """The same with what is stated of minimality confirmed. Raises: Rejected."""
    level, lower = (stated.get("level"), stated.get("lower")) if isinstance(stated, dict) else (None, None)
    if level not in LEVELS or not isinstance(lower, int | float) or not 0 <= lower < math.inf or found.float32:
        raise Rejected(f"{MANIFEST} states nothing that can be checked of minimality")
    refuted = confirm_refuted(question, arrays)
    if not refuted.proves(level):
        raise Rejected(f"what is refuted does not show that the circuit is minimal at level {level}")
    if not refuted.bounds(Fraction(lower)):
        raise Rejected(f"what is refuted does not show that every faithful circuit costs {lower:g} at least")
    upper, core, complete = float(refuted.cost(refuted.circuit)), len(refuted.core()), stated.get("complete") is True
    listed = circuits_in(question, arrays, "listed") if complete or "listed.kept" in arrays else []
    for k, row in enumerate(listed):
        prefix = f"listed.{k}."
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        leaves = sum(_certified(of_circuit(question, row), i, own, False) for i in range(len(question.claims)))
        found = replace(found, leaves=found.leaves + leaves)
    if complete and not refuted.complete(listed):
        raise Rejected("what is refuted does not show that the listed circuits are all minimal ones")
    return replace(
        found, level=level, refuted=len(refuted.rows), lower=float(lower), upper=upper, core=core, listed=len(listed),
        complete=complete,
    )  # fmt: skip


def digest(manifest: dict[str, Any]) -> str:
    """The sha256 of a manifest's other entries."""
    entries = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Raises: Rejected: there is no such file, or it is none (a device has no end)."""
    if not os.path.isfile(path):
        raise Rejected(f"{str(path)[:200]!r} is no file")
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise Rejected(f"{path} cannot be read ({error.strerror})") from None


def _question(folder: Path, manifest: dict[str, Any]) -> Question:
    """What is claimed, from the very files that the manifest states."""
    paths: dict[str, Path] = {}
    for key in ("model", "circuit", "spec"):
        entry = manifest.get(key)
        if not isinstance(entry, dict) or not isinstance(entry.get("path"), str):
            raise Rejected(f"{MANIFEST} names no {key}")
        paths[key] = folder / entry["path"]
        if sha256_of(paths[key]) != entry.get("sha256"):
            raise Rejected(f"{key} {paths[key]} has another sha256 than the certificate states")
    question = read_question(paths["circuit"], paths["spec"])
    if question.program.sha256 != manifest["model"]["sha256"]:
        raise Rejected("the circuit names another model than the certificate")
    if manifest.get("claims") != [claim.label for claim in question.claims]:
        raise Rejected("the spec makes other claims than the certificate states")
    stated = manifest.get("data")
    if not isinstance(stated, list) or [sha256_of(path) for path in files_of(question)] != stated:
        raise Rejected("a file of numbers that the spec names has another sha256 than the certificate states")
    return question


def _arrays(path: Path, stated: str) -> dict[str, NDArray[Any]]:
    """The arrays of the proof; sizes are looked at before anything is unpacked. Nothing is ever unpickled."""
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != stated:
            raise Rejected(f"{path.name} has another sha256 than {MANIFEST} states")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise Rejected(f"{path.name} would unpack to more than {MAX_BYTES} bytes")
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            arrays: dict[str, Any] = {name: found[name] for name in found.files}
    except OSError as error:
        raise Rejected(f"{path} cannot be read ({error.strerror})") from None
    except Rejected:
        raise
    except Exception as error:  # numpy parses headers as Python text, and lets that parser's own errors through
        raise Rejected(f"{path.name} is damaged ({' '.join(str(error).split())[:120]})") from None
    if strange := next((name for name, value in arrays.items() if not isinstance(value, np.ndarray)), None):
        raise Rejected(f"{path.name} holds {strange[:80]!r}, which is no array")
    return arrays


def _certified(question: Question, i: int, arrays: dict[str, NDArray[Any]], float32: bool) -> int:
    """Confirm one claim. Returns the number of leaves. Raises: Rejected."""
    claim = question.claims[i]
    if isinstance(claim.region, Tokens):
        if float32:
            raise Rejected("claims about tokens in float32 are not covered")
        return confirm_all(question, claim, claim.region)
    proof = Proof(question.program, claim, float32)
    trees = Trees(proof, arrays, i)
    for number, goal in enumerate(question.goals):
        if number in trees.goals:
            for leaf, (constraints, tuned) in enumerate(trees.leaves()):
                if not holds(proof, goal, constraints, tuned):
                    raise Rejected(f"claim {claim.label!r}, goal {number}: leaf {leaf} does not prove it")
        elif not holds(proof, goal):
            raise Rejected(f"claim {claim.label!r}, goal {number}: no tree, and plain bounds do not prove it")
    trees.done()
    return trees.count


def holds(proof: Proof, goal: Goal, constraints: Sequence[Constraint] = (), tuned: Tuned | None = None) -> bool:
    """Whether a goal is proven on the part of the region where constraints hold: with what a certificate states, or (None) by
    plain bounds in all three mixes."""
    output, p, q = proof.program.output, goal.circuit + goal.model, goal.circuit
    try:
        b = proof.sweep(constraints, proof.root) if constraints else proof.root
    except Empty:
        return True
    if tuned is None:
        found = [proof.bound(b, output, p, q, mix) for mix in ("siamese", "difference", "greedy")]
        forms = np.maximum.reduce(found)
    else:
        forms = proof.bound(b, output, p, q, "greedy", tuned, constraints)
    return reached(goal, forms if proof.drifts is None else np.nextafter(forms - spare(proof, goal), -np.inf))


def spare(proof: Proof, goal: Goal) -> Array:
    """What forms must have to spare for a claim about float32; 0 for one about real numbers."""
    if proof.drifts is None:
        return np.zeros(len(goal.offset))
    return (np.abs(goal.model) @ proof.drifts[0] + np.abs(goal.circuit) @ proof.drifts[1]) * (1 + 1e-9)


def reached(goal: Goal, forms: Array) -> bool:
    """Whether lower bounds of the forms (without offsets) prove a goal. Comparisons are exact; a bound that is no number is
    none."""
    if not goal.norm:
        return bool((np.isfinite(forms) & (forms >= -goal.offset)).any())
    if not np.isfinite(forms).all():
        return False
    half = len(forms) // 2
    size = np.maximum(np.maximum(-forms[:half], -forms[half:]), 0.0)
    total = size.sum() if goal.norm == 1 else np.sqrt(np.square(size).sum())
    return bool(total * (1 + 4 * (half + 4) * U) + 1e-150 <= goal.tolerance)
