"""The checker's calculus: what it derives holds at every sampled point, whatever a certificate states; rounding included."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.unit.verify.check.questions import LINF, runs, written
from verify.check import enclosure, interval, operators
from verify.check import proof as calculus
from verify.check.claim import Claim, Gate, read_question
from verify.check.enclosure import Region
from verify.check.model import read_program
from verify.check.part import Constraint, Empty, Tuned
from verify.check.proof import Proof

KINDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("zero", LINF, {"kind": "zero"}),
    ("ball", {**LINF, "kind": "l2", "epsilon": 0.2}, {"kind": "constant", "constant": {"act_0": 0.1, "act_1": 0.2}}),
    ("box", {"kind": "box", "lower": [0.1] * 4, "upper": [0.3] * 4},
     {"kind": "box", "lower": {"act_0": 0.0, "act_1": -0.1}, "upper": {"act_0": 0.2, "act_1": 0.1}}),
    ("hull", {"kind": "hull", "points": [[0.1] * 4, [0.3, 0.4, 0.3, 0.2], [0.5, 0.1, 0.2, 0.9]]}, {"kind": "zero"}),
    ("reachable", LINF, {"kind": "reachable", "reachable": {**LINF, "epsilon": 0.3}}),
    ("closed", LINF, {"kind": "closed", "closed": {"kind": "box", "lower": [0.0] * 4, "upper": [1.0] * 4}}),
]  # fmt: skip


def _tuned(proof: Proof, rng: np.random.Generator, splits: int) -> Tuned:
    parts = [{step.name: rng.random(step.size) for step in proof.relus} for _ in range(3)]
    return Tuned(parts[0], parts[1], parts[2], rng.random(splits) * 10)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize(("region", "patching"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
def test_everything_derived_holds_at_sampled_points(
    region: dict[str, Any], patching: dict[str, Any], activation: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    question = read_question(*written(tmp_path, region, patching, activation=activation, seed=3))
    claim = question.claims[0]
    proof = Proof(question.program, claim)
    seen = [runs(question, claim, rng) for _ in range(60)]
    names = [step.name for step in proof.steps if not step.name.startswith("y")]
    for trial in range(6):
        constraints: list[Constraint] = []
        for _ in range(trial):
            name = names[rng.integers(len(names))]
            lower, upper = proof.root.y[name]
            at = int(rng.integers(len(lower)))
            threshold = float(rng.uniform(lower[at], upper[at]))
            constraints.append(Constraint(bool(rng.random() < 0.5), name, at, int(rng.choice([-1, 1])), threshold))
        p, q = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
        try:
            bounds = proof.sweep(constraints, proof.root)
        except Empty:
            bounds = None
        tuned = _tuned(proof, rng, trial)
        for y, again, c in seen:
            model = {**y, **again}
            inside = all(
                k.side * ((c.get(k.tensor, model[k.tensor]) if k.circuit else model[k.tensor])[k.at] - k.threshold) >= 0
                for k in constraints
            )
            if not inside:
                continue
            assert bounds is not None
            for found, values in ((bounds.y, model), (bounds.c, c), (bounds.d, {n: c[n] - y[n] for n in c})):
                for name, (lower, upper) in found.items():
                    assert (values[name] >= lower - 1e-12).all() and (values[name] <= upper + 1e-12).all(), name
            value = p @ y["y"] + q @ (c["y"] - y["y"])
            assert (proof.bound(bounds, "y", p, q, "greedy", tuned, constraints) <= value + 1e-9).all()
            for mix in ("siamese", "difference", "greedy"):
                assert (proof.bound(bounds, "y", p, q, mix) <= value + 1e-9).all()


def test_a_nonsense_weight_or_slope_is_only_loose(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    question = read_question(*written(tmp_path))
    claim = question.claims[0]
    proof = Proof(question.program, claim)
    seen = [runs(question, claim, rng) for _ in range(40)]
    for scale in (-3.0, 1e6, np.inf, np.nan):
        parts = [{step.name: np.full(step.size, scale) for step in proof.relus} for _ in range(3)]
        with np.errstate(all="ignore"):
            found = proof.bound(
                proof.root, "y", np.zeros((1, 3)), np.ones((1, 3)), "greedy", Tuned(parts[0], parts[1], parts[2], np.zeros(0))
            )
        least = min(float((c["y"] - y["y"]).sum()) for y, _, c in seen)
        assert not np.isfinite(found[0]) or found[0] <= least + 1e-9


def _cancelling(folder: Path, rng: np.random.Generator) -> tuple[Proof, Fraction]:
    """`y = a0 h0 - a1 h1 + h2` with activations of 1e8 that nearly cancel; all are ablated with constants near their values.
    Also the greatest exact deviation at the ends of the region, where the network is affine."""
    w = (rng.uniform(0.5, 1, (3, 1)) * [[1e8], [1e8], [1e-7]]).astype(np.float32)
    v = rng.uniform(0.5, 1, (1, 3)).astype(np.float32) * np.array([1, -1, 1], np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "v"], ["y"], transB=1),
    ]
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1])] for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], [numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")])
    path = folder / "cancel.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())
    program = read_program(path)
    x = np.array([rng.uniform(0.9, 1.0)])
    region = Region(x, x * (1 + 1e-12))
    patch = (w[:, 0] * np.float32(x[0])).astype(np.float64)
    kept = np.zeros(3, bool)
    claim = Claim("cancelling", region, None, {"a": Gate(kept, patch, patch)})
    worst = Fraction(0)
    for end in (region.lower, region.upper):
        d = sum(
            Fraction(float(v[0, i])) * (Fraction(patch[i]) - Fraction(float(w[i, 0])) * Fraction(float(end[0])))
            for i in range(3)
        )
        worst = max(worst, abs(Fraction(d)))
    return Proof(program, claim), worst


def _deviation(proof: Proof) -> Fraction:
    """What the checker proves the deviation to be at most."""
    sides = np.array([[1.0], [-1.0]])
    found = [proof.bound(proof.root, "y", np.zeros((2, 1)), sides, mix) for mix in ("siamese", "difference", "greedy")]
    return max(-Fraction(float(f)) for f in np.maximum.reduce(found))


def test_cancelling_weights_are_bounded_in_exact_arithmetic(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        proof, worst = _cancelling(tmp_path, rng)
        assert _deviation(proof) >= worst


def test_without_its_rounding_the_checker_would_be_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above has teeth: the same calculus without error terms proves what is false."""
    for module in (enclosure, calculus, interval):
        monkeypatch.setattr(module, "U", 0.0)
    for module in (enclosure, operators, interval):
        monkeypatch.setattr(module, "TINY", 0.0)
    monkeypatch.setattr(enclosure.np, "nextafter", lambda x, _: x)
    rng = np.random.default_rng(0)
    made = [_cancelling(tmp_path, rng) for _ in range(100)]
    assert any(_deviation(proof) < worst for proof, worst in made)
