"""`certify` on circuits of every non-attention network of the bench: no crash, and every verdict right against samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import verify
from bounds.backends.milp import Milp
from bounds.query import Query
from specs.circuit import Circuit
from specs.encode import Claim, encode
from specs.model import Model, load_model
from specs.spec import Spec
from verify.witness.attack import attack
from verify.witness.pool import Points, circuit_outputs, free_gates

pytestmark = [pytest.mark.bench, pytest.mark.slow]

SAMPLES = 10_000
BUDGET_S = 2.0
"""A question; what is open then is unknown, and only checked for claiming nothing."""
NETWORKS = {  # name: half-width of the region, input range
    "acasxu_1_1": (0.01, (-0.5, 0.5)),
    "cifar10_oval21_deep": (0.004, (-2.0, 2.0)),
    "cifar10_resnet2b": (0.008, (-2.0, 2.0)),
    "cifar10_resnet4b": (0.004, (-2.0, 2.0)),
    "collins_rul_small": (0.01, (0.0, 1.0)),
    "gtsrb_cnn_8_16_fc64": (0.004, (0.0, 1.0)),
    "gtsrb_marabou_cnn_4_4": (0.002, (0.0, 1.0)),
    "gtsrb_verix_10x2": (0.01, (0.0, 1.0)),
    "mnist_marabou_2x5_sigmoid": (0.01, (0.0, 1.0)),
    "mnist_marabou_5x20_leakyrelu": (0.005, (0.0, 1.0)),
    "mnist_marabou_cnn_maxpool2": (0.002, (0.0, 1.0)),
    "mnist_verix_10x2": (0.01, (0.0, 1.0)),
    "mnist_vnncomp_256x2": (0.01, (0.0, 1.0)),
    "mnist_vnncomp_256x4": (0.004, (0.0, 1.0)),
    "modadd_mlp_p23_relu512": (0.02, (0.0, 2.0)),
    "taxinet_cnn64_nrober": (0.004, (-1.0, 1.0)),
    "taxinet_kj_tiny_cnn": (0.01, (0.0, 1.0)),
}


def inputs_for(bench: Path, name: str, model: Model) -> np.ndarray:
    """A few inputs of the model's shape: real images where the bench has them, else random ones in range."""
    low, high = NETWORKS[name][1]
    shape = model.graph.input_shape
    rng = np.random.default_rng(0)
    if name.startswith("mnist"):
        x = np.load(bench / "data" / "mnist_test_first1000.npz")["X"][:40] / 255.0
    elif name == "taxinet_kj_tiny_cnn":
        x = np.load(bench / "data" / "taxinet_uli126.npz")["X8x16"][:40].astype(float)
    elif name.startswith("gtsrb"):
        x = np.load(bench / "data" / "gtsrb_heldout2526_32x32.npz")["X"][:40] / 255.0
        x = x.transpose(0, 3, 1, 2) if shape[1] == 3 else x
    elif name.startswith("cifar10"):
        x = np.load(bench / "data" / "cifar10_test_592.npz")["X"][:40] / 255.0
        x = ((x - 0.47) / 0.25).transpose(0, 3, 1, 2)
    else:
        x = rng.uniform(low, high, (40, *shape))
    return np.clip(x.reshape(40, *shape), low, high)


@pytest.mark.parametrize("patching", ["zero", "mean", "box"])
@pytest.mark.parametrize("granularity", ["neuron", "channel"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_verdicts(name: str, granularity: str, patching: str, bench: Path, tmp_path: Path) -> None:
    path = bench / "models" / f"{name}.onnx"
    model = load_model(str(path), shown=str(path), where="", base=Path())
    sites = {s.name: s for s in model.sites() if s.after_activation and granularity in s.granularities}
    if granularity == "channel" and not sites:
        sites = {s.name: s for s in model.sites() if granularity in s.granularities}
    if not sites:
        pytest.skip(f"{name} has no channels")
    data = tmp_path / "inputs.npz"
    np.savez(
        data, inputs=inputs_for(bench, name, model)[:, 0] if model.graph.input_shape[0] == 1 else inputs_for(bench, name, model)
    )
    rng = np.random.default_rng(1)
    for share in (0.03, 0.2):
        kept = {site: np.flatnonzero(rng.random(s.granularities[granularity]) > share).tolist() for site, s in sites.items()}
        circuit = Circuit.model_validate(
            {
                "format": "certify.circuit/1",
                "model": {"path": str(path)},
                "scope": dict.fromkeys(sites, granularity),
                "kept": kept,
            }
        )
        probe = encode(circuit, spec_for(name, patching, data, 1.0), model)
        worst = worst_seen(probe.claims[0], probe.mask)
        for tolerance in (0.5 * worst, 1.05 * worst + 1e-3, 5 * worst + 1e-2):
            if tolerance == 0:
                continue
            report = verify.certify(circuit, spec_for(name, patching, data, tolerance), model, timeout_s=BUDGET_S)
            if report.verdict == "certified":
                assert report.margin is not None and report.margin >= 0
                assert worst <= tolerance - report.margin + 1e-7 * (1 + worst)
            elif report.verdict == "falsified":
                assert report.witness is not None and report.witness.deviation is not None
                assert report.witness.deviation > tolerance
            else:
                assert report.margin is None or report.margin < 0
            print(f"{name} {granularity} {patching} {share:.0%} {tolerance:.4g}: {report.summary}")


def spec_for(name: str, patching: str, data: Path, tolerance: float) -> Spec:
    low, high = NETWORKS[name][1]
    source = {"file": str(data), "array": "inputs"}
    patch = {
        "zero": {"kind": "zero"},
        "mean": {"kind": "mean", "mean": source},
        "box": {"kind": "box", "box": {**source, "quantiles": [0.4, 0.6]}},
    }[patching]
    return Spec.model_validate(
        {
            "format": "certify.spec/1",
            "input": {"kind": "linf", "center": {**source, "index": 3}, "epsilon": NETWORKS[name][0], "clip": [low, high]},
            "patching": patch,
            "agreement": {"metric": "logits", "norm": "linf", "tolerance": tolerance},
        }
    )


def worst_seen(claim: Claim, mask: torch.Tensor) -> float:
    """The largest deviation over `SAMPLES` random points and a strong attack, in float64."""
    query: Query = claim.query
    generator = torch.Generator().manual_seed(0)
    tolerance = float(query.margins.offset[0])
    worst = tolerance - float(attack(query, mask, seed=3, restarts=8, steps=30).margin.min())
    for _ in range(SAMPLES // 500):
        x = query.region.sample(500, generator)
        patches = {gate.tensor: gate.patch.sample(500, generator) for gate in free_gates(query.gates)}
        margin = query.margins.at(circuit_outputs(query, Points(x, patches), mask), query.graph(x))
        worst = max(worst, tolerance - float(margin.min()))
    return max(worst, 0.0)


@pytest.mark.parametrize("patching", ["zero", "mean", "box"])
@pytest.mark.parametrize("name", ["mnist_verix_10x2", "gtsrb_verix_10x2"])
def test_verdicts_against_the_exact_answer(name: str, patching: str, bench: Path, tmp_path: Path) -> None:
    """Tolerances just above and just below the exact deviation: every claim is decided, and rightly."""
    path = bench / "models" / f"{name}.onnx"
    model = load_model(str(path), shown=str(path), where="", base=Path())
    sites = [s.name for s in model.sites() if s.after_activation]
    data = tmp_path / "inputs.npz"
    np.savez(data, inputs=inputs_for(bench, name, model)[:, 0])
    rng = np.random.default_rng(5)
    for share in (0.1, 0.3, 0.5):
        kept = {site: np.flatnonzero(rng.random(10) > share).tolist() for site in sites}
        circuit = Circuit.model_validate(
            {"format": "certify.circuit/1", "model": {"path": str(path)}, "scope": dict.fromkeys(sites, "neuron"), "kept": kept}
        )
        problem = encode(circuit, spec_for(name, patching, data, 1.0), model)
        exact = 1.0 - float(Milp().open(problem.claims[0].query).bound(problem.mask).margin)
        for tolerance, expected in ((1.03 * exact + 1e-3, "certified"), (0.97 * exact - 1e-3, "falsified")):
            if tolerance > 0:
                report = verify.certify(circuit, spec_for(name, patching, data, tolerance), model, timeout_s=60)
                print(f"{name} {patching} {share:.0%} exact {exact:.5f} tolerance {tolerance:.5f}: {report.summary}")
                assert report.verdict == expected
