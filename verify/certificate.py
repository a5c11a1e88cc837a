"""Certificates of verdicts: made, confirmed by the independent checker, and only then put where they are to be."""

from __future__ import annotations

import fcntl
import glob
import io
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.region import Hull
from specs.errors import InputError
from specs.write import write_circuit, write_whole
from verify.branch.leaves import NotCovered, Refused, Trees
from verify.check.certificate import FORMAT, MANIFEST, PROOF, confirm, digest, holds, sha256_of
from verify.check.claim import Question, files_of, read_question
from verify.check.interval import Rejected
from verify.check.points import counted
from verify.check.proof import Proof
from verify.check.tokens import Tokens
from verify.verdict import TIME_UP
from verify.work.budget import Budget, TimeUp

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.encode import Problem
    from specs.spec import Spec
    from verify.api import Path_
    from verify.report import Minimality
    from verify.search.run import Search
    from verify.witness.falsify import Witness

__all__ = [
    "Arrays",
    "Files",
    "attempted",
    "attest",
    "attest_minimality",
    "attest_witness",
    "check_covered",
    "check_folder",
    "publish",
    "question_of",
    "stacked",
    "trees_of",
]

_GATHERED = 0.4
"""Share of the time left that goes into gathering refutations; the checker then needs as much again."""

T = TypeVar("T")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Files:
    """The files that state a question, the folder where its certificate is to be, and whether it is about float32."""

    circuit: str
    spec: str
    model: str
    folder: str
    float32: bool = False


def check_folder(folder: str) -> None:
    """Make sure, before any work is done, that a certificate can be put there. Leaves nothing behind, not even what an earlier
    run left there that was killed while it wrote.

    Raises: InputError: there is no such place to write to, or something else is there.
    """
    target = os.path.realpath(folder)
    parent = os.path.dirname(target)
    if not folder or not os.path.isdir(parent):
        raise InputError("certify", "--certificate", f"{parent} is no directory", "an existing directory", "create it first")
    if os.path.exists(target):
        if not os.path.isdir(target):
            raise InputError("certify", "--certificate", f"{folder} is no directory", "a directory", "choose another name")
        if others := sorted(set(os.listdir(target)) - {MANIFEST, PROOF}):
            raise InputError(
                "certify", "--certificate", f"{folder} holds {others[0]}", "a new directory", "choose another name"
            )
    _clear(Path(target))
    probe = os.path.join(parent, f".{os.path.basename(target)}.{secrets.token_hex(4)}.part")
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as error:
        raise InputError("certify", "--certificate", f"{folder} cannot be written ({error.strerror})") from None


def attempted(make: Callable[[], T], budget: Budget) -> T | str:
    """What `make` makes within a budget; or why there is no certificate."""
    try:
        with budget.enforced():
            return make()
    except TimeUp:
        return TIME_UP
    except Refused as error:
        return str(error)
    except OSError as error:
        return f"it could not be written ({error.strerror})"


def asked_files(
    circuit: Path_ | Circuit, spec: Path_ | Spec, model: object, path: str, named: str, folder: str, float32: bool = False
) -> Files:
    """The files that a certificate is about; the file `named` says that the model is at `path`.

    Raises: InputError: something is no file, or the folder cannot be written."""
    for name, given in (("circuit", circuit), ("spec", spec)):
        if not isinstance(given, str | os.PathLike):
            raise InputError(name, "", "an object, and a certificate is asked for", "a file", "write it to one")
    if model is not None:
        raise InputError("model", "", f"one beside that of {named}, and a certificate is asked for", "that one", "")
    if not path.lower().endswith(".onnx"):
        raise InputError(named, "$.model", f"{path}, and a certificate is asked for", "an .onnx model", "export it to ONNX")
    check_folder(folder)
    return Files(os.fspath(cast("Path_", circuit)), os.fspath(cast("Path_", spec)), path, folder, float32)


def check_covered(problem: Problem, files: Files) -> None:
    """Make sure that the checker follows what is claimed. Raises: InputError: it does not, and why."""
    try:
        question_of(problem, files)
    except Refused as error:
        raise InputError(files.spec, "--certificate", str(error), "a claim that certificates cover", "leave it out") from None


def check_found(start: Circuit, problem: Problem, files: Files) -> None:
    """The same for a circuit that is yet to be found inside another. Raises: as `check_covered`."""
    with tempfile.TemporaryDirectory() as folder:
        write_circuit(start, os.path.join(folder, "circuit.json"))
        check_covered(problem, replace(files, circuit=os.path.join(folder, "circuit.json")))


def attest(problem: Problem, files: Files, expired: Callable[[], bool]) -> Arrays:
    """Write the certificate of a certified verdict. Returns its trees.

    Cost: that of branch and bound on what plain bounds leave open, and the checker's on every leaf, twice. Raises: Refused: the
    checker does not follow the claim, time is up, or it rejects what was written; nothing is written then. OSError.
    """
    question = question_of(problem, files)
    arrays = trees_of(problem, question, files, expired)
    publish(question, arrays, "certified", files)
    return arrays


def trees_of(problem: Problem, question: Question, files: Files, expired: Callable[[], bool]) -> Arrays:
    """The trees of all claims. Raises: as `attest`."""
    arrays: Arrays = {}
    for i, claim in enumerate(problem.claims):
        asked = question.claims[i]
        if isinstance(asked.region, Tokens):
            _followed(lambda asked=asked, tokens=asked.region: counted(asked, tokens))
            continue  # the checker looks at all points
        proof = _followed(lambda asked=asked: Proof(question.program, asked, files.float32))
        open_ = [k for k, goal in enumerate(question.goals) if not holds(proof, goal)]
        trees = Trees(proof, question.goals, open_)
        if open_:
            trees.grow(problem, claim, expired)
        arrays.update({f"{i}.{name}": array for name, array in trees.arrays().items()})
    return arrays


def attest_minimality(
    problem: Problem, files: Files, trees: Arrays, search: Search, said: Minimality, budget: Budget
) -> Minimality:
    """Write the certificate anew, with what it shows of minimality beside the circuit's trees. Returns what a report `said`,
    cut down to what the checker confirms. Raises: as `attest`."""
    from verify.refutations import backing, confirmed

    question = question_of(problem, files)
    found = backing(search, question, said.reached, float(said.lower or 0), budget.part(_GATHERED))
    publish(question, {**trees, **found.arrays}, "certified", files, {"minimality": found.stated})
    return confirmed(said, found.level, found.lower)


def attest_witness(problem: Problem, files: Files, number: int, witness: Witness) -> None:
    """Write the certificate of a falsified verdict: the witness against claim `number`. Raises: as `attest`."""
    question = question_of(problem, files)
    publish(question, stacked(question, [(number, witness)]), "falsified", files)


def stacked(question: Question, found: Sequence[tuple[int, Witness]]) -> Arrays:
    """Witnesses, each with the number of its claim, as a certificate holds them."""
    arrays: Arrays = {"witness.claim": np.array([number for number, _ in found], np.int32)}
    arrays["witness.input"] = np.stack([np.asarray(witness.input) for _, witness in found])
    claim = question.claims[0]
    if claim.second is not None:
        arrays["witness.second"] = np.stack([np.asarray(witness.patch_inputs[0]) for _, witness in found])
    for name in ("input", "second"):
        regions = [getattr(question.claims[number], _REGIONS[name]) for number, _ in found]
        if getattr(regions[0], "points", None) is not None:
            rows = zip(regions, arrays[f"witness.{name}"], strict=True)
            arrays[f"witness.{name}_weights"] = np.stack([_weights(region.points, x) for region, x in rows])
    if claim.second is None:
        for i, site in enumerate(claim.gates):
            patches = [np.asarray(witness.patch[site], arrays["witness.input"].dtype) for _, witness in found]
            arrays[f"witness.patch.{i}"] = np.stack(patches)
    return arrays


_REGIONS = {"input": "region", "second": "second"}


def _weights(points: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Convex weights of a hull's points that give a point of it, as near as can be."""
    corners = torch.tensor(points)
    return Hull(corners, torch.zeros_like(corners[0])).weights(torch.tensor(x.reshape(1, -1).astype(np.float64)))[0].numpy()


def _followed(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except Rejected as error:
        raise NotCovered(str(error)) from None


def question_of(problem: Problem, files: Files) -> Question:
    question: Question = _followed(lambda: read_question(Path(files.circuit), Path(files.spec)))
    if question.program.sha256 != problem.model.sha256:
        raise Refused("the model's file is not the one that was read")
    return question


def publish(question: Question, arrays: Arrays, verdict: str, files: Files, more: Mapping[str, Any] | None = None) -> None:
    """Write both files beside their folder, let the checker confirm them, and move them in, the manifest last: before it is
    there, nothing claims anything. The folder beside is locked meanwhile, so that other runs see that it is in use."""
    target = Path(os.path.realpath(files.folder))
    beside = target.parent / f".{target.name}.{secrets.token_hex(4)}.part"
    beside.mkdir()
    lock = os.open(beside, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _write(question, arrays, {"verdict": verdict, **(more or {})}, files, beside)
        try:
            confirm(beside)
        except Rejected as error:
            raise Refused(f"the checker rejects it: {error}") from None
        target.mkdir(exist_ok=True)
        for name in (PROOF, MANIFEST):
            os.replace(beside / name, target / name)
    finally:
        os.close(lock)
        _removed(beside)


def _clear(target: Path) -> None:
    """Remove what a run that was killed left beside a certificate's folder: it is not locked any more."""
    for beside in target.parent.glob(f".{glob.escape(target.name)}.????????.part"):
        try:
            lock = os.open(beside, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue  # no folder of ours, or gone by now
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _removed(beside)
        except OSError:
            continue  # in use by another run, or it holds what no run of this program puts there
        finally:
            os.close(lock)


def _removed(beside: Path) -> None:
    for name in (PROOF, MANIFEST):
        for file in (beside / name, *beside.glob(f".{name}.????????.part")):
            file.unlink(missing_ok=True)
    beside.rmdir()


def _write(question: Question, arrays: Arrays, said: Mapping[str, Any], files: Files, folder: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]  # its stub takes names for a flag of its own
    write_whole(stream.getvalue(), folder / PROOF)
    manifest: dict[str, Any] = {"format": FORMAT, **said, "float32": files.float32}
    for key, file in (("circuit", files.circuit), ("spec", files.spec), ("model", files.model)):
        path = Path(os.path.realpath(file))
        manifest[key] = {"path": Path(os.path.relpath(path, folder)).as_posix(), "sha256": sha256_of(path)}
    manifest["data"] = [sha256_of(path) for path in files_of(question)]
    manifest["claims"] = [claim.label for claim in question.claims]
    manifest["proof"] = sha256_of(folder / PROOF)
    manifest["sha256"] = digest(manifest)
    write_whole(json.dumps(manifest, indent=2) + "\n", folder / MANIFEST)
