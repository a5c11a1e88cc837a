"""Certificates of claims about tokens, on random transformers: what is so is confirmed, what is not so never."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

import verify
from specs.errors import InputError
from tests.unit.verify.check.questions import stated, transformer
from verify.check.certificate import FORMAT, MANIFEST, PROOF, confirm, digest, sha256_of
from verify.check.claim import read_question
from verify.check.interval import Rejected
from verify.check.program import evaluate
from verify.check.tokens import Tokens

KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gelu, layer norm": {"activation": "gelu", "norm": "LN"},
    "tanh gelu, root mean square": {"activation": "gelu_new", "norm": "RMS"},
    "silu, both ways": {"activation": "silu", "norm": "LNPre", "causal": False},
    "token numbers": {"numbers": True},
}
PATCHING: dict[str, Any] = {
    "zero": {"kind": "zero"},
    "constant": {"kind": "constant", "constant": {"blocks.0.attn.hook_z": 0.1, "blocks.1.attn.hook_z": -0.2,
                                                  "blocks.1.mlp.hook_post": [0.1, 0.2, 0.3, 0.4, 0.5]}},
    "reachable": {"kind": "reachable", "reachable": {"kind": "tokens", "sequences": [[0, 1, 2], [3, 3, 0]]}},
}  # fmt: skip
METRICS: dict[str, dict[str, Any]] = {
    "linf": {"metric": "logits"},
    "l1": {"metric": "logits", "norm": "l1", "outputs": [0, 5, 11]},
    "l2": {"metric": "logits", "norm": "l2"},
    "difference": {"metric": "logit_difference", "target": 8, "against": 11},
    "top1": {"metric": "top1"},
}
CASES = [(kind, "zero", "linf") for kind in KINDS] + [
    ("plain", patching, "linf") for patching in PATCHING if patching != "zero"
]
CASES += [("gelu, layer norm", "zero", metric) for metric in METRICS if metric != "linf"]


def _deviation(metric: Mapping[str, Any], g: np.ndarray, c: np.ndarray) -> float:
    d = c - g
    if metric["metric"] == "top1":
        return float(c.max() - c[g.argmax()])
    if metric["metric"] == "logit_difference":
        return abs(float(d[metric["target"]] - d[metric["against"]]))
    d = np.abs(d[metric.get("outputs", slice(None))])
    return float({"l1": d.sum, "l2": lambda: np.sqrt((d**2).sum())}.get(metric.get("norm", ""), d.max)())


def _worst(folder: Path, patching: str, metric: str) -> tuple[float, dict[str, np.ndarray]]:
    """The greatest deviation over all sequences, in floats, by the checker's program; its outputs are onnxruntime's. And the
    witness of it."""
    question = read_question(folder / "circuit.json", folder / "spec.yaml")
    program, claim = question.program, question.claims[0]
    session = ort.InferenceSession((folder / "net.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    found, witness = -1.0, dict[str, np.ndarray]()
    for ids in itertools.product(range(4), (0, 1, 3), range(4)):
        x = np.eye(4)[list(ids)].ravel()
        rows = x.reshape(1, 1, 3, 4).astype(np.float32)
        said = np.asarray(session.run(None, {program.input: np.array([ids]) if program.numbers is not None else rows[0]})[0])
        again: list[Any] = [np.eye(4)[row].ravel() for row in PATCHING[patching].get("reachable", {}).get("sequences", [])]
        for second in again or [None]:
            values = evaluate(program, (second, second)) if second is not None else {}
            patched = {s: (g.kept, values.get(s, (g.lower, g.upper))) for s, g in claim.gates.items()}
            g, c = (np.add(*evaluate(program, (x, x), p)[program.output]) / 2 for p in (None, patched))
            assert g == pytest.approx(said.ravel(), abs=1e-4)
            if (seen := _deviation(METRICS[metric], g, c)) > found:
                found, witness = seen, {"witness.claim": np.zeros(1, np.int32), "witness.input": rows}
                if second is not None:
                    witness["witness.second"] = second.reshape(rows.shape).astype(np.float32)
                    continue
                for i, (site, gate) in enumerate(claim.gates.items()):
                    witness[f"witness.patch.{i}"] = gate.lower.reshape(1, *program.steps[site].shape).astype(np.float32)
    return found, witness


def _made(folder: Path, verdict: str, arrays: Mapping[str, np.ndarray]) -> Path:
    """A certificate that says so of what the files say now."""
    made = folder / "made"
    made.mkdir(exist_ok=True)
    np.savez_compressed(made / PROOF, **dict(arrays))  # pyright: ignore[reportArgumentType]
    manifest: dict[str, Any] = {"format": FORMAT, "verdict": verdict, "float32": False, "claims": ["tokens"], "data": []}
    for key, name in (("circuit", "circuit.json"), ("spec", "spec.yaml"), ("model", "net.onnx")):
        manifest[key] = {"path": f"../{name}", "sha256": sha256_of(folder / name)}
    manifest["proof"] = sha256_of(made / PROOF)
    (made / MANIFEST).write_text(json.dumps(manifest | {"sha256": digest(manifest)}))
    return made


@pytest.mark.parametrize(("kind", "patching", "metric"), CASES)
def test_what_is_so_is_confirmed_and_what_is_not_so_never(kind: str, patching: str, metric: str, tmp_path: Path) -> None:
    spec = transformer(tmp_path, seed=5, **KINDS[kind])[1]
    stated(spec, lambda v: v.update(patching=PATCHING[patching], agreement={**METRICS[metric], "tolerance": 1.0}))
    deviation, witness = _worst(tmp_path, patching, metric)
    assert deviation > 0
    for share in (1.001, 0.999):
        stated(spec, lambda v, share=share: v["agreement"].update(tolerance=share * deviation))
        said = {"certified": {}, "falsified": witness}
        right, wrong = ("certified", "falsified") if share > 1 else ("falsified", "certified")
        assert confirm(_made(tmp_path, right, said[right])).verdict == right
        with pytest.raises(Rejected):
            confirm(_made(tmp_path, wrong, said[wrong]))
    for other in (0.5 * witness["witness.input"], np.roll(witness["witness.input"], 1, 2), -witness["witness.input"]):
        with pytest.raises(Rejected):
            confirm(_made(tmp_path, "falsified", {**witness, "witness.input": np.where(other == 2, 0, other)}))


@pytest.mark.parametrize("numbers", [False, True])
def test_what_the_engine_finds_is_confirmed(numbers: bool, tmp_path: Path) -> None:
    circuit, spec = transformer(tmp_path, seed=5, numbers=numbers)
    deviation = _worst(tmp_path, "zero", "linf")[0]
    for share, verdict in ((1.02, "certified"), (0.98, "falsified")):
        stated(spec, lambda v, share=share: v["agreement"].update(tolerance=share * deviation))
        report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", timeout_s=120)
        assert report.verdict == verdict, report.reason
        assert confirm(tmp_path / "cert").verdict == verdict


def test_heads_are_those_of_the_engine(tmp_path: Path) -> None:
    from specs.load import read_circuit
    from specs.model import load_model

    circuit, spec = transformer(tmp_path, norm="LN", activation="gelu")
    program = read_question(circuit, spec).program
    model = load_model(read_circuit(circuit).model.path, shown="net", where="", base=tmp_path)
    seen = 0
    for site in program.steps:
        for granularity in ("head", "unit", "neuron", "layer"):
            try:
                ours = program.groups(site, granularity)
                theirs = model.group(site, granularity, shown="net", where="")
            except (Rejected, InputError):
                continue
            assert ours[1] == theirs[1] and np.array_equal(ours[0], theirs[0].numpy().ravel()), (site, granularity)
            seen += granularity == "head"
    assert seen >= 16


def test_every_sequence_is_looked_at(tmp_path: Path) -> None:
    """By number, all combinations, each once; sums of rows, and lists, alike."""
    options = (np.array([0, 2]), np.array([1]), np.array([0, 1, 3]))
    every = Tokens(options, None, 4, False)
    rows = np.concatenate([every.rows(at, min(at + 4, every.count)) for at in range(0, every.count, 4)])
    expected = [np.eye(4)[list(ids)].ravel() for ids in itertools.product(*options)]
    assert every.count == 6 and sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    assert (every.lower == rows.min(0)).all() and (every.upper == rows.max(0)).all()
    bag = Tokens(options, None, 4, True)
    sums = [np.eye(4)[list(ids)].sum(0) for ids in itertools.product(*options)]
    assert sorted(map(tuple, bag.rows(0, 6))) == sorted(map(tuple, sums))
    listed = Tokens(options, np.array([[0, 1, 3], [2, 1, 0]]), 4, False)
    assert listed.count == 2 and listed.holds(expected[2]) and not listed.holds(expected[1])
    assert every.holds(expected[3]) and bag.holds(sums[3])
    for wrong in (expected[3] * 0.5, np.roll(expected[3], 1), np.zeros(12), expected[3] + np.eye(12)[0]):
        assert not every.holds(wrong) and not listed.holds(wrong)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda v: v["input"].update(epsilon=0.01), "balls"),
        (lambda v: v["input"].update(positions=[[0], [1], [4]]), "vocabulary"),
        (lambda v: v["input"].update(positions=[[0], [1]]), "positions"),
        (lambda v: v.update(agreement={"metric": "output", "outputs": [12], "tolerance": 1}), "no output 12"),
        (lambda v: v.update(patching={"kind": "closed", "closed": v["input"]}), "closed"),
    ],
)
def test_what_is_not_followed_is_named(change: Any, named: str, tmp_path: Path) -> None:
    circuit, spec = transformer(tmp_path)
    stated(spec, change)
    with pytest.raises(Rejected, match=named):
        read_question(circuit, spec)


def test_more_sequences_than_can_be_looked_at_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from verify.check import points

    transformer(tmp_path)
    monkeypatch.setattr(points, "MAX_POINTS", 47)
    with pytest.raises(Rejected, match="48 points"):
        confirm(_made(tmp_path, "certified", {}))
