"""Autoencoders spliced into a model: nothing changes while all is kept; latents are components and quantities."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import verify
from specs.autoencoder import spliced
from specs.circuit import Circuit
from specs.encode import Problem, encode
from specs.errors import InputError
from specs.load import read_circuit
from specs.model import Model, model_from_module
from specs.models.runtime import Intervention
from specs.record import Origin
from specs.spec import Spec
from specs.splice import Splice
from specs.weights import read_weights
from specs.write import write_circuit
from tests.nets import random_net

WIDTH, LATENTS_ = 6, 9
ACTS, ERROR = "act_0.hook_sae_acts_post", "act_0.hook_sae_error"


def _weights(seed: int = 0, inside: int = WIDTH, outside: int = WIDTH) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "W_enc": rng.normal(size=(inside, LATENTS_)).astype(np.float32),
        "b_enc": rng.normal(size=LATENTS_).astype(np.float32) / 4,
        "W_dec": rng.normal(size=(LATENTS_, outside)).astype(np.float32) / 3,
        "b_dec": rng.normal(size=outside).astype(np.float32) / 4,
        "threshold": np.full(LATENTS_, 0.25, dtype=np.float32),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sae")
    np.savez(made / "sae.npz", **_weights())
    np.savez(made / "second.npz", **_weights(1, WIDTH, 5))
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return random_net(folder, 3, 6, 5, 2, seed=4)


KINDS = [{"activation": "relu"}, {"activation": "jumprelu"}, {"activation": "topk", "k": 3}, {"centered": True}]


def _circuit(folder: Path, kept: Mapping[str, Any], splice: Mapping[str, Any]) -> Circuit:
    scope = {site: "feature" if site.endswith("post") else "neuron" for site in kept}
    entries = {
        "format": "certify.circuit/1",
        "model": {"path": "net.onnx", "splice": {"act_0": {"file": "sae.npz", **splice}}},
        "scope": scope,
        "kept": dict(kept),
    }
    return Circuit.model_validate(entries, context=Origin("circuit.json", folder))


def _spec(tolerance: float, patching: Any = None, epsilon: float = 0.05, **agreement: Any) -> Spec:
    entries = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": [0.4, 0.6, 0.2], "epsilon": epsilon},
        "patching": patching or {"kind": "zero"},
        "agreement": agreement or {"metric": "logits", "tolerance": tolerance},
        "budget": {"time_s": 30},
    }
    return Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))


def _outputs(problem: Problem, x: torch.Tensor) -> torch.Tensor:
    query = problem.claims[0].query
    patches = {gate.tensor: gate.patch.lower.expand(len(x), *gate.patch.shape) for gate in query.gates.gates}
    return query.graph.evaluate(x, query.gates, problem.mask.expand(len(x), -1), patches)[query.graph.output]


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_all_kept_is_the_model(folder: Path, model: Model, kind: dict[str, Any]) -> None:
    """The outputs do not move, and the claim that they do not is certified; `Model.check` compares patched runs too."""
    made = spliced(model, {"act_0": Splice(file=str(folder / "sae.npz"), **kind)}, file="c")
    x = torch.rand(20, 1, 3, dtype=torch.float64)
    assert torch.allclose(made.graph(x), model.graph(x), atol=1e-12)
    report = verify.certify(_circuit(folder, {ACTS: "all", ERROR: "all"}, kind), _spec(1e-6), model)
    assert report.verdict == "certified"


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("kept", [{ACTS: [0, 3, 4, 8]}, {ACTS: "all", ERROR: "none"}])
def test_ablated_features_are_bracketed(folder: Path, model: Model, kind: dict[str, Any], kept: dict[str, Any]) -> None:
    """Certified above what samples show, falsified below it, the witness replayed in onnxruntime."""
    circuit = _circuit(folder, kept, kind)
    problem = encode(circuit, _spec(0.0), model)
    x = problem.claims[0].query.region.sample(4000, torch.Generator().manual_seed(0))
    worst = float((_outputs(problem, x) - model.graph(x)).abs().max())
    assert worst > 0.005
    assert verify.certify(circuit, _spec(0.9 * worst), model).verdict == "falsified"
    assert verify.certify(circuit, _spec(1.5 * worst + 0.1), model).verdict == "certified"


def test_runtime_agrees_with_numpy(folder: Path, model: Model) -> None:
    """A run with an ablated latent and no error, against the formula."""
    w = {name: value.astype(np.float64) for name, value in _weights().items()}
    circuit = _circuit(folder, {ACTS: [0, 1, 2, 3, 4, 5, 6], ERROR: "none"}, {"activation": "jumprelu"})
    problem = encode(circuit, _spec(0.0), model)
    x = np.asarray([[0.4, 0.6, 0.2]], dtype=np.float32)
    a = model.runtime.activations(x, ["act_0"])["act_0"].astype(np.float64)
    pre = a @ w["W_enc"] + w["b_enc"]
    z = np.where(pre > 0.25, pre, 0)
    z[:, 7:] = 0
    replaced = z @ w["W_dec"] + w["b_dec"]
    mask = {"act_0": np.zeros((1, 6), dtype=bool)}
    expected = model.runtime.intervened(x, Intervention(mask, {"act_0": replaced}))
    gates = problem.claims[0].query.gates
    kept = {name: value[0].numpy() for name, value in gates.expand(problem.mask).items()}
    ablated = Intervention(kept, {name: np.zeros_like(value, dtype=float) for name, value in kept.items()})
    found = problem.model.runtime.intervened(x, ablated)
    assert np.allclose(found, expected, atol=1e-6)
    seen = problem.model.runtime.activations(x, [ACTS, "act_0.hook_sae_acts_pre", "act_1"], ablated)
    assert np.allclose(seen["act_0.hook_sae_acts_pre"], pre, atol=1e-6) and seen["act_1"].shape == (1, 5)


def test_a_bounded_error_is_a_local_replacement_model(folder: Path, model: Model) -> None:
    """Errors anywhere in a box around 0 move the outputs by more than errors of 0 do."""
    circuit = _circuit(folder, {ACTS: "all", ERROR: "none"}, {})
    box = {"kind": "box", "lower": {ACTS: 0.0, ERROR: -0.1}, "upper": {ACTS: 0.0, ERROR: 0.1}}
    point, boxed = (encode(circuit, _spec(0.0, patching), model) for patching in (None, box))
    assert float(point.claims[0].query.gates.gates[1].patch.upper.max()) == 0
    assert float(boxed.claims[0].query.gates.gates[1].patch.upper.max()) == pytest.approx(0.1)
    assert verify.certify(circuit, _spec(50.0, box), model).verdict == "certified"


def test_a_latent_as_a_quantity(folder: Path, model: Model) -> None:
    """A latent that never fires over a region is certified not to, one that does is shown firing."""
    circuit = _circuit(folder, {ACTS: "all"}, {"activation": "jumprelu"})
    problem = encode(circuit, _spec(0.0), model)
    x = problem.claims[0].query.region.sample(2000, torch.Generator().manual_seed(0))
    fires = problem.model.graph.evaluate(x, keep=frozenset({ACTS}))[ACTS][:, 0].amax(0)
    for latent, most in enumerate(fires.tolist()):
        spec = _spec(0.0, metric="feature", site=ACTS, element=latent, below=0.0)
        assert verify.certify(circuit, spec, model).verdict == ("falsified" if most > 0.25 else "certified"), latent


def test_transcoder_reads_another_tensor(folder: Path, model: Model) -> None:
    """From `act_0` to `h1`; and two autoencoders in one model."""
    two = {
        "h1": Splice(file=str(folder / "second.npz"), reads="act_0"),
        "act_0": Splice(file=str(folder / "sae.npz"), activation="topk", k=2),
    }
    made = spliced(model, two, file="c")
    made.check(-1.0, 1.0, seed=3)
    assert made.graph.node["h1.hook_sae_acts_pre"].inputs == ("act_0.hook_sae_output",)


def test_features_at_positions(folder: Path) -> None:
    """On `(1, 4, 6)` a feature is a latent at all positions."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    plain = model_from_module(module, torch.zeros(1, 4, 3))
    made = spliced(plain, {"relu": Splice(file=str(folder / "sae.npz"))}, file="c")
    group, size = made.group("relu.hook_sae_acts_post", "feature")
    assert size == LATENTS_ and group.shape == (1, 4, LATENTS_) and bool((group == torch.arange(LATENTS_)).all())


def test_circuit_is_written_and_read(folder: Path, tmp_path: Path) -> None:
    circuit = _circuit(folder, {ACTS: [1]}, {"activation": "topk", "k": 3})
    write_circuit(circuit, tmp_path / "circuit.json")
    assert (back := read_circuit(tmp_path / "circuit.json").model.splice) is not None and circuit.model.splice is not None
    assert Path(back["act_0"].file).resolve() == Path(circuit.model.splice["act_0"].file).resolve() and back["act_0"].k == 3


def test_safetensors(tmp_path: Path) -> None:
    given = _weights()
    header, body = dict[str, Any](), b""
    for name, value in given.items():
        offsets = [len(body), len(body) + value.nbytes]
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": offsets}
        body += value.tobytes()
    said = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(said)) + said + body)
    found = read_weights(str(tmp_path / "w.safetensors"), file="c", where="$")
    assert set(found) == set(given) and all(np.array_equal(found[name].numpy(), given[name]) for name in given)
    for broken in (b"", b"\0" * 4, struct.pack("<Q", 10**9) + b"{}", struct.pack("<Q", len(said)) + said + body[:-4]):
        (tmp_path / "b.safetensors").write_bytes(broken)
        with pytest.raises(InputError, match="damaged"):
            read_weights(str(tmp_path / "b.safetensors"), file="c", where="$")


@pytest.mark.parametrize(
    ("splice", "message"),
    [
        ({"act_9": {}}, "the model has no site 'act_9'"),
        ({"h1": {}}, "W_enc of shape [6, 9]; shape [5, 9]"),
        ({"act_0": {"file": "none.npz"}}, "none.npz cannot be read"),
        ({"act_0": {"reads": "act_1"}}, "act_1 is computed after act_0"),
        ({"act_0": {"reads": "h0", "centered": True}}, "a transcoder"),
    ],
)
def test_refuses(folder: Path, model: Model, splice: dict[str, dict[str, Any]], message: str) -> None:
    made = {site: Splice.model_validate({"file": str(folder / "sae.npz"), **entry}) for site, entry in splice.items()}
    with pytest.raises(InputError) as error:
        spliced(model, made, file="c")
    assert message in str(error.value)


def test_k_is_for_topk() -> None:
    with pytest.raises(ValueError):
        Splice(file="a.npz", activation="topk")
    with pytest.raises(ValueError):
        Splice(file="a.npz", k=2)
