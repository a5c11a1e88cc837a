"""Resampled values come from inputs, and a witness names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bounds.region import Ball, Box
from specs.encode import Problem, encode_scope
from specs.model import load_model
from specs.models.runtime import Intervention
from specs.record import Origin
from specs.spec import Spec
from tests.nets import asked, random_net
from verify.ladder.choice import chosen
from verify.ladder.decide import Ladder
from verify.verdict import Falsified
from verify.witness.library import Library
from verify.witness.pool import Points
from verify.work.budget import Budget

HERE = {"kind": "linf", "center": [0.1, -0.2, 0.3], "epsilon": 0.2}


def _library(problem: Problem) -> Library:
    claim = problem.claims[0]
    assert claim.second is not None
    return Library(claim.query, claim.second, problem.model.dtype)


def _checked(problem: Problem, tolerance: float) -> None:
    """A falsified circuit's witness, run again by hand."""
    mask = torch.zeros((1, problem.gates.size), dtype=torch.bool)
    mask[0, ::2] = True
    ladder = Ladder(problem, problem.claims[0], chosen("auto", "cpu"), skip_refusals=True)
    verdict = ladder.decide(mask, Budget(20.0))[0].verdict
    assert isinstance(verdict, Falsified)
    witness, runtime, second = verdict.witness, problem.model.runtime, problem.claims[0].second
    assert witness.deviation > tolerance and second is not None
    kept = {name: k[0].numpy() for name, k in problem.gates.expand(mask).items()}
    patch = {name: np.zeros_like(values) for name, values in witness.patch.items()}
    for gate in problem.gates.gates:
        rows = witness.patch_rows[gate.tensor]
        for component, row in enumerate(rows):
            at = (gate.group == component).numpy()
            assert (row < 0) == bool(kept[gate.tensor][at].all()), "an input for each ablated component, and for no other"
            if row >= 0:
                x = witness.patch_inputs[row]
                assert second.contains(torch.from_numpy(x).double())
                patch[gate.tensor][at] = runtime.activations(x, [gate.tensor])[gate.tensor][at]
                assert np.array_equal(patch[gate.tensor][at], witness.patch[gate.tensor][at])
    again = runtime.intervened(witness.input, Intervention(kept, patch))
    assert np.array_equal(again, witness.circuit_output)
    assert np.abs(again - runtime.outputs(witness.input)).max() > tolerance


@pytest.mark.parametrize("kind", ["resample", "reachable"])
def test_a_witness_names_its_inputs(kind: str, tmp_path: Path) -> None:
    model = random_net(tmp_path, 3, 6, 6, 2, seed=4)
    _checked(asked(model, HERE, 0.01, patching={"kind": kind, kind: HERE}), 0.01)


def test_channels_are_resampled_whole(tmp_path: Path) -> None:
    """A channel's elements come from one input together: a witness may not mix."""
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in (("k", (4, 1, 2, 2)), ("v", (2, 36)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["y"], transB=1),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 4, 4]), ("y", [1, 2]))]
    made = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    model = load_model("net.onnx", shown="c", where="", base=tmp_path)
    region: dict[str, Any] = {"kind": "linf", "center": 0.0, "epsilon": 0.5}
    entries = {
        "format": "certify.spec/1", "input": region, "patching": {"kind": "resample", "resample": region},
        "agreement": {"metric": "logits", "tolerance": 0.1},
    }  # fmt: skip
    spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))
    _checked(encode_scope({"r": "channel"}, spec, model, file="spec.yaml"), 0.1)


def test_values_asked_for_are_met_by_bisection(tmp_path: Path) -> None:
    problem = asked(random_net(tmp_path, 3, 6, 2, seed=4), HERE, 0.01, patching={"kind": "resample", "resample": HERE})
    library = _library(problem)
    (gate,) = library.attackable.gates.gates
    wanted = gate.patch.lower + 0.37 * (gate.patch.upper - gate.patch.lower)
    center = problem.claims[0].query.region.box().center.unsqueeze(0)
    settled, origins = library.settle(torch.zeros(6, dtype=torch.bool), Points(center, {"act_0": wanted.unsqueeze(0)}))
    assert torch.allclose(settled.patches["act_0"][0], wanted, atol=1e-6)
    values = problem.model.graph.evaluate(origins.inputs[origins.row["act_0"]], keep=frozenset({"act_0"}))["act_0"]
    assert torch.equal(values[range(6), 0, range(6)], settled.patches["act_0"].flatten())


def test_every_input_is_in_the_region(tmp_path: Path) -> None:
    model = random_net(tmp_path, 3, 6, 2, seed=4)
    ball = {"kind": "l2", "center": [0.1, -0.2, 0.3], "epsilon": 0.2}
    problem = asked(model, HERE, 0.01, patching={"kind": "resample", "resample": ball})
    library, second = _library(problem), problem.claims[0].second
    assert isinstance(second, Ball) and all(second.contains(x) for x in library.x) and len(library.x) > 50
    outer, inner = problem.claims[0].query.gates.gates[0].patch, library.attackable.gates.gates[0].patch
    assert isinstance(inner, Box) and bool((outer.lower <= inner.lower).all() and (inner.upper <= outer.upper).all())
    assert float((inner.upper - inner.lower).sum()) > 0.9 * float((outer.upper - outer.lower).sum()), "extremes were not found"
