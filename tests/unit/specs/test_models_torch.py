"""PyTorch modules and `.pt2` files: sites under PyTorch's names, the module itself as runtime, and no code run unasked."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from specs.errors import InputError
from specs.model import Model, load_model, model_from_module
from specs.models.runtime import Intervention


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.pool, self.drop, self.one, self.two = nn.MaxPool2d(2), nn.Dropout(), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.act(self.norm(self.conv(x))))
        return torch.softmax(self.two(self.drop(torch.relu(self.one(y.flatten(1))))), -1)


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def _load(path: Path, **options: Any) -> Model:
    return load_model(path.name, shown="circuit.json", where="$.model.path", base=path.parent, **options)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "net.pt2"
    torch.export.save(torch.export.export(make_net().eval(), (torch.rand(1, 1, 8, 8),)), path)
    return path


def test_module_in_training_mode_is_copied() -> None:
    net = make_net()
    model = model_from_module(net, torch.rand(1, 1, 8, 8))
    assert net.training and model.dropped_softmax and model.graph.output == "linear_1"
    assert [s.name for s in model.sites() if s.after_activation] == ["relu", "relu_1"]
    assert {s.name: dict(s.granularities) for s in model.sites()}["relu"] == {"neuron": 64, "channel": 4, "layer": 1}
    model.check(-3.0, 3.0, seed=1)


def test_module_without_softmax_is_its_own_runtime() -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)).eval()
    model = model_from_module(net, torch.rand(1, 4))
    x = torch.rand(1, 4)
    assert np.array_equal(model.runtime.outputs(x.numpy()), net(x).detach().numpy())
    patched = model.runtime.intervened(
        x.numpy(), Intervention({"tanh": np.zeros((1, 5), dtype=bool)}, {"tanh": np.zeros((1, 5))})
    )
    state = net.state_dict()
    assert np.allclose(patched, state["2.bias"].numpy())
    net.load_state_dict({**state, "0.weight": state["0.weight"] + 1})
    assert model_from_module(net, torch.rand(1, 4)).sha256 != model.sha256


def test_archive_is_read_without_code(archive: Path) -> None:
    model = _load(archive)
    assert [s.name for s in model.sites() if s.after_activation] == ["relu", "relu_1"]
    assert [s.name for s in _load(archive, allow_code=True).sites()] == [s.name for s in model.sites()]


def test_open_batch_is_one(tmp_path: Path) -> None:
    path = tmp_path / "open.pt2"
    batch = torch.export.Dim("batch")
    torch.export.save(torch.export.export(make_net().eval(), (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: batch},)), path)
    model = _load(path)
    assert model.graph.input_shape == (1, 1, 8, 8) and "relu_1" in {s.name for s in model.sites()}


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("code was run",))


def _bomb() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": _Bomb()}, buffer, pickle_module=pickle)
    return buffer.getvalue()


def _config(parts: dict[str, Any]) -> None:
    config = json.loads(parts["data/weights/model_weights_config.json"])
    config["config"]["conv.weight"]["use_pickle"] = True
    parts["data/weights/model_weights_config.json"] = json.dumps(config).encode()
    parts["data/weights/weight_0"] = _bomb()


def _example(parts: dict[str, Any]) -> None:
    parts["data/sample_inputs/model.pt"] = _bomb()


def _constant(parts: dict[str, Any]) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    parts["data/constants/model_constants_config.json"] = json.dumps({"config": {"c": entry}}).encode()
    parts["data/constants/opaque_obj_0"] = pickle.dumps(_Bomb())


def _program(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        text = parts["models/model.json"].decode()
        assert old in text
        parts["models/model.json"] = text.replace(old, new).encode()

    return change


ATTACKS: dict[str, Callable[[dict[str, Any]], None]] = {
    "is a pickle": _config,
    "example inputs": _example,
    "'c' is a pickle": _constant,
    "calls 'torch.ops.prim": _program("torch.ops.aten.relu.default", "torch.ops.prim.print.default"),
    "calls 'torch.hub.load": _program("torch.ops.aten.relu.default", "torch.hub.load"),
    "program holds": _program('"relu"', '"relu); import os; (x"'),
    "are of type 'collections.defaultdict'": _program("builtins.dict", "collections.defaultdict"),
}


@pytest.mark.parametrize("message", ATTACKS)
def test_archive_that_could_run_code_is_refused(message: str, archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        parts: dict[str, Any] = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    ATTACKS[message](parts)
    path = tmp_path / "bad.pt2"
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            file.writestr(f"bad/{name}", part)
    with pytest.raises(InputError) as error:
        _load(path)
    assert message in str(error.value) and "--allow-code" in str(error.value) and "\n" not in str(error.value)


def test_guards_are_not_run(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        parts: dict[str, Any] = {name: file.read(name) for name in file.namelist()}
    name = next(name for name in parts if name.endswith("models/model.json"))
    program = json.loads(parts[name])
    program["guards_code"] = ["__import__('pytest').fail('code was run')"]
    parts[name] = json.dumps(program).encode()
    path = tmp_path / "guarded.pt2"
    with zipfile.ZipFile(path, "w") as file:
        for part, content in parts.items():
            file.writestr(part, content)
    assert _load(path).sites()


def test_a_product_of_two_that_vary_is_read() -> None:
    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x @ x.transpose(-1, -2)

    model_from_module(Attention(), torch.rand(1, 3, 3)).check(-1.0, 1.0)


def test_callable_needs_leave(tmp_path: Path) -> None:
    (tmp_path / "certify_made.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(3, 2)\n")
    place = {"shown": "circuit.json", "where": "$.model.path", "base": tmp_path}
    with pytest.raises(InputError, match="--allow-code is needed"):
        load_model("certify_made:net", **place)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="states no input shape"):
        load_model("certify_made:net", allow_code=True, **place)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="AttributeError"):
        load_model("certify_made:other", allow_code=True, input_shape=(1, 3), **place)  # type: ignore[arg-type]
    assert load_model("certify_made:net", allow_code=True, input_shape=(1, 3), **place).sites() == ()  # type: ignore[arg-type]
