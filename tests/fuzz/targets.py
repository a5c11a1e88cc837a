"""The readers of untrusted files, one target each: what they read, a corpus, and how it is broken.

Nothing here runs a claim: a target is done when the file is a record, a graph, an array, or refused.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.fuzz.mutate import Mutator, archive_changed, bytes_changed, document_changed, graph_changed, mixed, words_changed
from tests.golden.conftest import save_model

ROOT = Path(__file__).resolve().parents[2]
SUITE, MODELS = ROOT / "benchmarks" / "suites" / "digits", ROOT / "benchmarks" / "models"
FOREIGN = ROOT / "tests" / "fixtures" / "circuits"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """`read` is given a file called `name` that holds what `mutator` made of one of the `corpus`."""

    name: str
    corpus: Callable[[Path], Sequence[bytes]]
    mutator: Mutator
    read: Callable[[Path], object]


def _circuits(_: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted(SUITE.glob("*/circuit.json"))]


def _specs(_: Path) -> Sequence[bytes]:
    """The suite's, and one of each kind, as JSON and as YAML."""
    array = {"file": "digits.npz", "array": "images", "index": [0, 3]}
    base: dict[str, Any] = {
        "format": "certify.spec/1",
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": 0.5},
    }
    ball = {"kind": "linf", "center": array, "epsilon": 0.1, "clip": [0, 1]}
    inputs: list[dict[str, Any]] = [
        ball, {**ball, "kind": "l2"}, {"kind": "box", "lower": 0.0, "upper": [0.5] * 64}, {"kind": "hull", "points": array},
    ]  # fmt: skip
    patchings: list[dict[str, Any]] = [
        {"kind": "mean", "mean": {"file": "digits.npz", "array": "images", "indices": [0, 1]}}, {"kind": "constant",
        "constant": {"relu_1": 0.5}},
        {"kind": "box", "box": {"file": "digits.npz", "array": "images", "quantiles": [0.01, 0.99]}}, {"kind": "reachable",
        "reachable": ball},
    ]  # fmt: skip
    made = [{**base, "input": region} for region in inputs] + [
        {**base, "input": ball, "patching": patch} for patch in patchings
    ]
    return [path.read_bytes() for path in sorted(SUITE.glob("*/spec.yaml"))] + [json.dumps(spec).encode() for spec in made]


def _json_specs(folder: Path) -> Sequence[bytes]:
    return [content for content in _specs(folder) if content.startswith(b"{")]


def _reports(_: Path) -> Sequence[bytes]:
    """The report of a refuted claim, and of one never read."""
    from verify.report import Report

    said: dict[str, Any] = {
        "verdict": "unknown",
        "meaning": "m",
        "reason": "r",
        "spec": "s",
        "backend": "auto",
        "device": "cpu",
        "seed": 0,
    }
    bare = Report.model_validate({**said, "time_s": 0.0}).text().encode()
    witness = {
        "input": [0.5, 1.0],
        "patch": {"relu_1": [0.0]},
        "model_output": [1.0],
        "circuit_output": [0.0],
        "deviation": 1.0,
    }
    entries = {**json.loads(bare), "verdict": "falsified", "witness": {**witness, "claim": "c"}, "deviation": 1.0}
    return [bare, json.dumps(entries).encode()]


def _arrays(_: Path) -> Sequence[bytes]:
    out, one = io.BytesIO(), io.BytesIO()
    np.savez(out, images=np.random.default_rng(0).random((4, 3, 5)), labels=np.arange(4), names=np.array(["a", "b"]))
    np.save(one, np.arange(12.0).reshape(3, 4))
    return [(MODELS / "digits.npz").read_bytes(), out.getvalue(), one.getvalue()]


def _npz(folder: Path) -> Sequence[bytes]:
    return _arrays(folder)[:2]


def _onnx(folder: Path) -> Sequence[bytes]:
    rng = np.random.default_rng(0)
    save_model(folder / "small.onnx", [rng.normal(size=(4, 6)), rng.normal(size=(6, 3))])
    return [
        (MODELS / "digits_mlp.onnx").read_bytes(),
        (MODELS / "digits_cnn.onnx").read_bytes(),
        (folder / "small.onnx").read_bytes(),
    ]


def _pt2(folder: Path) -> Sequence[bytes]:
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    # The exporter reads its table of operators from their sources each time it is called: half of what a case takes.
    ONNXRegistry.from_torchlib = staticmethod(cache(ONNXRegistry.from_torchlib))  # pyright: ignore[reportAttributeAccessIssue]
    torch.manual_seed(0)
    dense = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    image = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3))
    found: list[bytes] = []
    for module, shape in ((dense, (1, 4)), (image, (1, 1, 4, 4))):
        torch.export.save(torch.export.export(module.eval(), (torch.zeros(shape),)), str(folder / "made.pt2"))
        found.append((folder / "made.pt2").read_bytes())
    return found


QUERY = """; a comment
(declare-const X_0 Real) (declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
(assert (>= X_0 -0.5)) (assert (<= X_0 5e-1)) (assert (>= X_1 0.1)) (assert (<= X_1 0.25))
(assert (or (and (<= Y_0 Y_1) (<= Y_0 (+ Y_2 (* 0.5 X_0) 0.1))) (and (>= Y_2 1) (< X_1 0.2))))
"""
QUERY_2 = """(vnnlib-version <2.0>)
(declare-network f
    (declare-input X float32 [1, 2]) (declare-hidden H float32 [1, 4] "relu_1") (declare-output Y float32 [1, 3]))
(declare-network g (equal-to f) (declare-input V float32 [1, 2]) (declare-output W float32 [1, 3]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0) (== V[0,0] X[0,0]) (== V[0,1] 0.5)))
(assert (or (<= Y[0,0] (- W[0,0] H[0,2] 0.1)) (!= X[0,1] V[0,1])))
"""


def _read_vnnlib(path: Path) -> object:
    from specs.errors import InputError
    from specs.vnnlib.question import read_question

    model = path.with_name("network.onnx")
    if not model.exists():
        rng = np.random.default_rng(0)
        save_model(model, [rng.normal(size=(2, 4)), rng.normal(size=(4, 3))])
    try:
        return read_question(str(path), {"f": str(model)})
    except InputError:
        return read_question(str(path), {"": str(model)})


def _foreign(*endings: str) -> Callable[[Path], Sequence[bytes]]:
    no_circuits = ("auto_circuit_edges", "map")
    found = (path for path in sorted(FOREIGN.iterdir()) if path.suffix in endings and path.stem not in no_circuits)
    return lambda _: [path.read_bytes() for path in found]


def _read_foreign(path: Path) -> object:
    """By every importer; refused where none reads it."""
    from specs.errors import InputError
    from specs.foreign.circuit import Request
    from specs.formats import formats, reader

    found: list[object] = []
    refusals: list[InputError] = []
    for name in formats():
        for listed in (None, "kept"):
            try:
                found.append(reader(name)(Request(str(path), listed)))
            except InputError as error:
                refusals.append(error)
    if wrong := next((error for error in refusals if not found or "\n" in str(error)), None):
        raise wrong
    return found


def _journals(folder: Path) -> Sequence[bytes]:
    """Those of two searches that were stopped: answers, proofs and witnesses; an empty one."""
    from verify.ladder.round import Decision
    from verify.minimize.oracle import Answer
    from verify.search.journal import Journal
    from verify.verdict import Certified
    from verify.witness.pool import Points

    found = [b""]
    for number in range(2):
        journal = Journal(str(folder / f"made{number}"), "question", resume=False)
        journal.answered(frozenset({0, 3, 70}), Answer.YES, [Decision(Certified(0.25), 0.1, "bound")] * (number + 1))
        journal.answered(frozenset(), Answer.NO, None)
        journal.witnessed(number, Points(torch.rand(2, 1, 4), {"relu_1": torch.rand(2, 1, 6)}))
        journal.close()
        found.append((folder / f"made{number}").read_bytes())
    return found


def _read_journal(path: Path) -> object:
    from verify.search.journal import Journal

    journal = Journal(str(path), "question", resume=True)
    journal.close()
    return journal.learned


def _suites(_: Path) -> Sequence[bytes]:
    return [path.read_bytes() for path in sorted((ROOT / "verify" / "bench" / "suites").glob("*.yaml"))]


def _read_suite(path: Path) -> object:
    from verify.bench.suite import read_suite

    return read_suite(path)


def _minimal(folder: Path) -> None:
    from tests.unit.verify.check.questions import MINIMAL, found_minimal

    found_minimal(folder, *MINIMAL["cardinal, monotone"])


def _split(folder: Path) -> None:
    import verify
    from tests.unit.verify.check.questions import LINF, written

    circuit, spec = written(folder, {**LINF, "epsilon": 0.4}, tolerance=0.176)
    assert verify.certify(circuit, spec=spec, certificate=folder / "cert").verdict == "certified"


def _certificate(make: Callable[[Path], None], file: str) -> Callable[[Path], Sequence[bytes]]:
    """One of the two files of a certificate; the other, and what it names, is beside."""

    def corpus(folder: Path) -> Sequence[bytes]:
        make(folder)
        return [(folder / "cert" / file).read_bytes()]

    return corpus


def _read_certificate(path: Path) -> object:
    """With the hashes of the certificate made anew, so that what is behind them is reached."""
    from specs.errors import InputError
    from verify.check.certificate import MANIFEST, PROOF, confirm, digest, sha256_of
    from verify.check.interval import Rejected

    folder = path.parent
    # What is no document of which there is a hash, the checker is given as it is.
    with suppress(ValueError, TypeError, RecursionError, KeyError):
        manifest = json.loads((folder / MANIFEST).read_bytes())
        manifest["proof"] = sha256_of(folder / PROOF)
        manifest["sha256"] = digest(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))
    try:
        return confirm(folder)
    except Rejected as error:
        raise InputError(str(path), "", str(error)) from None


def _read_circuit(path: Path) -> object:
    from specs.load import read_circuit

    return read_circuit(path)


def _read_spec(path: Path) -> object:
    from specs.load import read_spec

    return read_spec(path)


def _read_report(path: Path) -> object:
    from verify.report import read_report

    return read_report(path)


def _read_array(path: Path) -> object:
    from specs.arrays import resolve
    from specs.errors import InputError
    from specs.record import ArrayFile

    try:
        return resolve(ArrayFile(file=str(path), array="images"), file="spec.yaml", where="$.input.center")
    except InputError:
        return resolve(ArrayFile(file=str(path), index=1), file="spec.yaml", where="$.input.center")


def _read_model(path: Path) -> object:
    from specs.model import load_model

    return load_model(str(path), shown=str(path), where="", base=Path())


TARGETS: dict[str, Target] = {
    "circuit": Target("circuit.json", _circuits, mixed(document_changed, bytes_changed, words_changed), _read_circuit),
    "spec": Target("spec.yaml", _specs, mixed(bytes_changed, words_changed), _read_spec),
    "spec-json": Target("spec.json", _json_specs, mixed(document_changed, document_changed, words_changed), _read_spec),
    "report": Target("report.json", _reports, mixed(document_changed, bytes_changed, words_changed), _read_report),
    "npz": Target("arrays.npz", _npz, archive_changed, _read_array),
    "npy": Target("arrays.npy", _arrays, bytes_changed, _read_array),
    "onnx": Target("model.onnx", _onnx, graph_changed, _read_model),
    "journal": Target("c.json.journal", _journals, mixed(bytes_changed, words_changed), _read_journal),
    "suite": Target("suite.yaml", _suites, mixed(bytes_changed, words_changed), _read_suite),
    "foreign-json": Target(
        "circuit.json", _foreign(".json"), mixed(document_changed, document_changed, words_changed), _read_foreign
    ),
    "foreign-pt": Target("circuit.pt", _foreign(".pt"), archive_changed, _read_foreign),
    "foreign-pkl": Target("circuit.pkl", _foreign(".pkl"), bytes_changed, _read_foreign),
    "certificate": Target(
        "cert/certificate.json",
        _certificate(_minimal, "certificate.json"),
        mixed(document_changed, words_changed),
        _read_certificate,
    ),
    "proof": Target("cert/proof.npz", _certificate(_split, "proof.npz"), archive_changed, _read_certificate),
    "refutations": Target("cert/proof.npz", _certificate(_minimal, "proof.npz"), archive_changed, _read_certificate),
    "pt2": Target("model.pt2", _pt2, archive_changed, _read_model),
    "vnnlib": Target(
        "query.vnnlib", lambda _: [QUERY.encode(), QUERY_2.encode()], mixed(bytes_changed, words_changed), _read_vnnlib
    ),
}
