"""Small questions as files, for the checker's tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper

import verify
from specs.transformers.checkpoint import Checkpoint, Config
from specs.transformers.write import written as written_transformer
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


def transformer(folder: Path, seed: int = 0, numbers: bool = False, **choices: Any) -> tuple[Path, Path]:
    """A random transformer of two layers of two heads and an MLP, on three of four tokens, that lost a head of each layer and
    some hidden units of the second: `net.onnx`, `circuit.json`, `spec.yaml`. With `numbers` it takes token numbers."""
    said: dict[str, Any] = {"activation": "relu", "norm": None, "causal": True} | choices
    sizes = {"layers": 2, "width": 4, "heads": 2, "groups": 2, "head_width": 2, "vocabulary": 4, "outputs": 4, "context": 3}
    layers = {"scales": (1.5, 1.5), "windows": (None, None), "final": said["norm"]}
    config = Config(**sizes, hidden=5, epsilon=1e-3, **layers, **said)
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (4, 4), "pos_embed.W_pos": (3, 4), "unembed.W_U": (4, 4)}
    shapes |= {"unembed.b_U": (4,), "ln_final.w": (4,), "ln_final.b": (4,)}
    for block in ("blocks.0", "blocks.1"):
        shapes |= {f"{block}.attn.W_{part}": (2, 4, 2) for part in "QKV"} | {f"{block}.attn.b_{part}": (2, 2) for part in "QKV"}
        shapes |= {f"{block}.attn.W_O": (2, 2, 4), f"{block}.attn.b_O": (4,), f"{block}.mlp.W_in": (4, 5)}
        shapes |= {f"{block}.mlp.b_in": (5,), f"{block}.mlp.W_out": (5, 4), f"{block}.mlp.b_out": (4,)}
        shapes |= {f"{block}.{norm}.{end}": (4,) for norm in ("ln1", "ln2") for end in "wb"}
    random = torch.Generator().manual_seed(seed)
    weights = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    model = written_transformer(Checkpoint(config, weights), 3, "one-hot")
    if numbers:
        first = model.graph.node[0]
        first.CopyFrom(helper.make_node("Gather", ["embed.W_E", "tokens"], list(first.output), name=first.name))
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, 3]))
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    scope = {"blocks.0.attn.hook_z": "head", "blocks.1.attn.hook_z": "head", "blocks.1.mlp.hook_post": "unit"}
    circuit = {
        "format": "certify.circuit/1",
        "model": {"path": "net.onnx"},
        "scope": scope,
        "kept": dict(zip(scope, ([1], [0], [0, 2, 3]), strict=True)),
    }
    spec = {
        "format": "certify.spec/1",
        "input": {"kind": "tokens", "positions": ["all", [0, 1, 3], "all"]},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": 1.0},
        "budget": {"time_s": 60},
    }
    paths = folder / "circuit.json", folder / "spec.yaml"
    for path, content in zip(paths, (circuit, spec), strict=True):
        path.write_text(json.dumps(content))
    return paths


def stated(path: Path, change: Callable[[Any], None]) -> None:
    """Change what a JSON file says."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
