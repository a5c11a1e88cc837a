"""Small questions as files, for the checker's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import verify
from tests.nets import random_net
from verify.check.claim import Claim, Question
from verify.check.enclosure import Region
from verify.check.interval import Array
from verify.check.program import evaluate, values

LINF = {"kind": "linf", "center": [0.5, 0.4, 0.3, 0.2], "epsilon": 0.1, "clip": [0.0, 1.0]}
CLOSED = {"kind": "closed", "closed": {"kind": "box", "lower": [0.0] * 4, "upper": [1.0] * 4}}


def written(
    folder: Path,
    region: Mapping[str, Any] = LINF,
    patching: Mapping[str, Any] | None = None,
    tolerance: float = 0.12,
    agreement: Mapping[str, Any] | None = None,
    activation: str = "Relu",
    seed: int = 0,
) -> tuple[Path, Path]:
    """A random network of two hidden layers of 8 that lost one neuron each, and a spec: `net.onnx`, `circuit.json`,
    `spec.yaml`."""
    random_net(folder, 4, 8, 8, 3, seed=seed, activation=activation)
    circuit = {
        "format": "certify.circuit/1",
        "model": {"path": "net.onnx"},
        "scope": {"act_0": "neuron", "act_1": "neuron"},
        "kept": {"act_0": [0, 1, 2, 3, 4, 6, 7], "act_1": [0, 1, 2, 3, 5, 6, 7]},
    }
    said = {"metric": "logits", "norm": "linf", **(agreement or {}), "tolerance": tolerance}
    if said["metric"] != "logits":
        said.pop("norm")
    spec = {
        "format": "certify.spec/1",
        "input": dict(region),
        "patching": dict(patching or {"kind": "zero"}),
        "agreement": said,
        "budget": {"time_s": 60},
    }
    paths = folder / "circuit.json", folder / "spec.yaml"
    for path, content in zip(paths, (circuit, spec), strict=True):
        path.write_text(json.dumps(content))
    return paths


MINIMAL = {"cardinal, monotone": ("cardinal", CLOSED, 0.9), "subset, not monotone": ("subset", {"kind": "zero"}, 0.02)}
"""Level, patching and tolerance of searches that end soon."""


def found_minimal(folder: Path, level: str, patching: Mapping[str, Any], tolerance: float, **more: Any) -> Path:
    """A search's circuit, `circuit.json`, with its certificate, `cert`. Returns the folder."""
    circuit, spec = written(folder, LINF, patching, tolerance)
    said = json.loads(spec.read_text()) | {"minimality": level, "scope": json.loads(circuit.read_text())["scope"], **more}
    spec.write_text(json.dumps({**said, "model": {"path": "net.onnx"}}))
    found = verify.discover(None, spec, out=circuit, certificate=folder / "cert")
    assert found.report.certificate is not None, found.report.reason
    assert found.report.minimality is not None and found.report.minimality.status == "proven", found.report.minimality
    return folder


def points(claim: Claim, rng: np.random.Generator, second: bool = False) -> Array:
    """A point of a claim's region, on its boundary as often as not."""
    region = claim.second if second else claim.region
    assert isinstance(region, Region)
    if region.points is not None:
        w = rng.dirichlet(np.full(len(region.points), 0.3))
        return w @ region.points
    t = rng.random(len(region.lower))
    x = region.lower + (t.round() if rng.random() < 0.5 else t) * (region.upper - region.lower)
    if region.center is not None:
        step = x - region.center
        x = region.center + step * min(1.0, 0.999999 * region.radius / max(float(np.linalg.norm(step)), 1e-300))
    return x


def runs(
    question: Question, claim: Claim, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """The model's tensors, the second run's, and what the circuit's readers see, at a random point."""
    x = points(claim, rng)
    again = values(question.program, points(claim, rng, second=True)) if claim.second is not None else {}
    patched: dict[str, Any] = {}
    for site, gate in claim.gates.items():
        patch = again[site] if gate.reached else gate.lower + rng.random(len(gate.lower)) * (gate.upper - gate.lower)
        patched[site] = gate.kept, (patch, patch)
    c = {name: (low + high) / 2 for name, (low, high) in evaluate(question.program, (x, x), patched).items()}
    return values(question.program, x), {name + "'": value for name, value in again.items()}, c
