"""Claims about float32: no evaluation drifts further than is charged, and what has no room for rounding is not certified."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import verify
from specs.encode import encode
from specs.errors import InputError
from specs.load import read_circuit, read_spec
from specs.model import load_model
from tests.unit.verify.check.questions import LINF, points, written
from verify.check.claim import Question, read_question
from verify.check.operators import Affine, Relu
from verify.check.proof import Proof
from verify.float32 import drift

F = np.float32


def _summed(products: np.ndarray, order: str, rng: np.random.Generator) -> np.ndarray:
    """Sum along the last axis in float32, one way or another."""
    parts = products.astype(F)
    if order == "shuffled":
        parts = parts[..., rng.permutation(parts.shape[-1])]
    if order == "pairwise":
        while parts.shape[-1] > 1:
            if parts.shape[-1] % 2:
                parts = np.concatenate([parts, np.zeros((*parts.shape[:-1], 1), F)], -1)
            parts = (parts[..., ::2] + parts[..., 1::2]).astype(F)
        return parts[..., 0]
    total = np.zeros(parts.shape[:-1], F)
    for i in range(parts.shape[-1]):
        total = (total + parts[..., i]).astype(F)
    return total


def _evaluated(question: Question, x: np.ndarray, order: str, gated: bool, rng: np.random.Generator) -> np.ndarray:
    """The output of model or circuit in float32."""
    program, gates = question.program, question.claims[0].gates
    found = {program.input: x.astype(F)}
    for step in program.steps.values():
        value, op = found[step.inputs[0]], step.op
        if isinstance(op, Relu):
            y = np.maximum(value, F(op.slope) * value)
        else:
            assert isinstance(op, Affine)
            w, b = op.factors[0].astype(F), op.bias.astype(F)
            y = (
                _summed(np.concatenate([w * value, b[:, None]], 1), order, rng)
                if order == "shuffled"
                else _summed(w * value, order, rng) + b
            )
        if gated and step.name in gates:
            y = np.where(gates[step.name].kept, y, gates[step.name].lower.astype(F))
        found[step.name] = y.astype(F)
    return found[program.output].astype(np.float64)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
def test_no_order_of_evaluation_drifts_further_than_is_charged(activation: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    constant = {"kind": "constant", "constant": {"act_0": 0.5, "act_1": 0.25}}
    circuit, spec = written(tmp_path, {**LINF, "epsilon": 0.4}, constant, activation=activation, seed=4)
    question = read_question(circuit, spec)
    proof = Proof(question.program, question.claims[0], float32=True)
    assert proof.drifts is not None
    still = {site: replace(gate, kept=np.ones_like(gate.kept)) for site, gate in question.claims[0].gates.items()}
    seen = [0.0, 0.0]
    for _ in range(150):
        x = points(question.claims[0], rng).astype(F)
        for run, gates in enumerate((still, question.claims[0].gates)):
            exact = {question.program.input: x.astype(np.float64)}
            for step in question.program.steps.values():
                value, op = exact[step.inputs[0]], step.op
                assert isinstance(op, Relu | Affine)
                y = np.maximum(value, op.slope * value) if isinstance(op, Relu) else op.forward(value) + op.bias
                exact[step.name] = np.where(gates[step.name].kept, y, gates[step.name].lower) if step.name in gates else y
            for order in ("in turn", "shuffled", "pairwise"):
                off = np.abs(_evaluated(question, x, order, run == 1, rng) - exact["y"])
                assert (off <= proof.drifts[run]).all()
                seen[run] = max(seen[run], float((off / proof.drifts[run]).max()))
    assert min(seen) > 0.01, "a charge a hundred times what happens says little"


def test_the_engine_charges_no_less_than_the_checker(tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, {**LINF, "epsilon": 0.4}, seed=4)
    question = read_question(circuit, spec)
    problem = encode(read_circuit(circuit), read_spec(spec), load_model("net.onnx", shown="c", where="", base=tmp_path))
    ours, theirs = (
        drift(problem.claims[0].query, problem.mask),
        Proof(question.program, question.claims[0], float32=True).drifts,
    )
    assert theirs is not None
    for mine, other in ((ours.model, theirs[0]), (ours.circuit, theirs[1])):
        assert (mine.flatten().numpy() >= other * (1 - 1e-3)).all() and (mine.flatten().numpy() < 20 * other).all()


def _tight(folder: Path, margin: float) -> tuple[Path, Path, Fraction]:
    """A claim whose exact deviation is `margin` below its tolerance, in a network of activations around 1e4 that cancel."""
    w, v = np.array([[1e4], [1e4], [1.0]], F), np.array([[1.0, -1.0, 1.0]], F)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "v"], ["y"], transB=1),
    ]
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 1])] for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], [numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    circuit, spec = folder / "circuit.json", folder / "spec.yaml"
    kept = {"a": [0, 1]}
    circuit.write_text(
        json.dumps({"format": "certify.circuit/1", "model": {"path": "net.onnx"}, "scope": {"a": "neuron"}, "kept": kept})
    )
    region = {"kind": "box", "lower": [0.25], "upper": [0.5]}
    said = {"metric": "logits", "norm": "linf", "tolerance": 0.5 + margin}
    spec.write_text(json.dumps({"format": "certify.spec/1", "input": region, "patching": {"kind": "zero"}, "agreement": said}))
    return circuit, spec, Fraction(1, 2)


def test_a_margin_of_1e_7_is_enough_for_real_numbers_and_not_for_float32(tmp_path: Path) -> None:
    circuit, spec, _ = _tight(tmp_path, 1e-7)
    real = verify.certify(circuit, spec=spec, certificate=tmp_path / "real", timeout_s=20)
    assert real.verdict == "certified" and not real.float32
    single = verify.certify(circuit, spec=spec, float32=True, timeout_s=2)
    assert single.verdict == "unknown" and single.float32
    circuit, spec, _ = _tight(tmp_path, 0.1)
    roomy = verify.certify(circuit, spec=spec, float32=True, certificate=tmp_path / "single", timeout_s=20)
    assert roomy.verdict == "certified" and roomy.margin is not None and roomy.margin < 0.1


def test_a_margin_below_zero_by_1e_7_is_never_certified(tmp_path: Path) -> None:
    circuit, spec, _ = _tight(tmp_path, -1e-7)
    assert verify.certify(circuit, spec=spec, timeout_s=3).verdict != "certified"


def test_what_has_no_known_rounding_is_refused(tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, activation="Sigmoid")
    with pytest.raises(InputError, match="Sigmoid"):
        verify.certify(circuit, spec=spec, float32=True)
