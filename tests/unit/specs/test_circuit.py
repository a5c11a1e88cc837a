"""`circuit.json` into a `Circuit`, and each way in which it can be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from specs.circuit import Circuit, ModelFile
from specs.errors import InputError
from specs.load import read_circuit

GOOD: dict[str, Any] = {
    "format": "certify.circuit/1",
    "model": {"path": "../models/net.onnx", "sha256": "a" * 64},
    "scope": {"relu_1": "neuron", "relu_2": "channel"},
    "kept": {"relu_1": [0, 3, 17], "relu_2": "all"},
    "provenance": {"tool": "acdc", "note": "by hand", "anything": [1]},
}


def written(folder: Path, document: object) -> str:
    path = folder / "circuit.json"
    path.write_text(json.dumps(document))
    return str(path)


def test_reads_every_field(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    circuit = read_circuit(file)
    assert circuit.kept == {"relu_1": (0, 3, 17), "relu_2": "all"}
    assert circuit.scope == {"relu_1": "neuron", "relu_2": "channel"}
    assert circuit.file == file
    assert Path(circuit.model.path).resolve() == (tmp_path.parent / "models" / "net.onnx").resolve()
    assert circuit.provenance == GOOD["provenance"]
    assert read_circuit(Path(file)) == circuit


def test_absolute_paths_and_code_stay_as_they_are(tmp_path: Path) -> None:
    for path, is_code in (("/models/net.onnx", False), ("nets.small:build", True)):
        circuit = read_circuit(written(tmp_path, {**GOOD, "model": {"path": path}}))
        assert (circuit.model.path, circuit.model.is_code) == (path, is_code)


def test_is_frozen_and_built_in_python() -> None:
    circuit = Circuit(
        format="certify.circuit/1", model=ModelFile(path="net.onnx"), scope={"a": "neuron"}, kept={"a": tuple(range(2))}
    )
    assert (circuit.file, circuit.model.path) == ("circuit", "net.onnx")
    with pytest.raises(ValidationError):
        circuit.format = "certify.circuit/1"


def changed(**paths: object) -> dict[str, Any]:
    document = deepcopy(GOOD)
    for path, value in paths.items():
        *parents, last = path.split("__")
        entry = document
        for parent in parents:
            entry = entry[parent]
        if value is ...:
            del entry[last]
        else:
            entry[last] = value
    return document


@pytest.mark.parametrize(
    ("document", "where", "parts"),
    [
        (changed(kept__relu_1=[0, 3, 17, 3]), "$.kept.relu_1[3]", ["component 3 again", "[1]"]),
        (changed(kept__relu_1=[0, -1]), "$.kept.relu_1[1]", ["component -1", "0 or more"]),
        (changed(kept__relu_1=[3.0]), "$.kept.relu_1[0]", ["component 3.0", "an integer"]),
        (changed(kept__relu_1=[True]), "$.kept.relu_1[0]", ["component true", "an integer"]),
        (changed(kept__relu_1=["3"]), "$.kept.relu_1[0]", ["component '3'"]),
        (changed(kept__relu_1="some"), "$.kept.relu_1", ["'some'", '"all" or "none"']),
        (changed(kept__relu_1=None), "$.kept.relu_1", ["null"]),
        (changed(kept__relu_1=...), "$.kept", ["'relu_1' is in scope but not in kept", 'add "relu_1"']),
        (changed(scope__relu_1=...), "$.kept.relu_1", ["'relu_1' is kept but not in scope", "use 'relu_2'"]),
        (changed(scope={}, kept={"/fc/Relu": []}), "$.kept['/fc/Relu']", ["not in scope", "add it to scope"]),
        (changed(scope__relu_1="neurons"), "$.scope.relu_1", ["'neurons'", "use 'neuron'"]),
        (changed(scope__relu_1=1), "$.scope.relu_1", ["1; one of: neuron, channel"]),
        (changed(scope=[]), "$.scope", ["a list; a mapping"]),
        (changed(kepd={}), "$.kepd", ["unknown key 'kepd'", "use 'kept'"]),
        (changed(model__pth="x"), "$.model.pth", ["unknown key 'pth'", "use 'path'"]),
        (changed(kept=..., kepd={}), "$.kepd", ["use 'kept'"]),
        (changed(model=...), "$", ["no key 'model'", "add 'model'"]),
        (changed(model__path=...), "$.model", ["no key 'path'"]),
        (changed(model="net.onnx"), "$.model", ["'net.onnx'; a mapping"]),
        (changed(model__path=""), "$.model.path", ["''"]),
        (changed(model__path="a\0b"), "$.model.path", ["NUL"]),
        (changed(model__path=3), "$.model.path", ["3; text"]),
        (changed(model__sha256="abc"), "$.model.sha256", ["'abc'", "64 hexadecimal"]),
        (changed(format="certify.circuit/2"), "$.format", ["'certify.circuit/2'", "use 'certify.circuit/1'"]),
        ([], "$", ["a list; a mapping with format, model"]),
        (None, "$", ["null"]),
    ],
)
def test_bad_circuit_is_one_line_with_its_place(tmp_path: Path, document: object, where: str, parts: list[str]) -> None:
    file = written(tmp_path, document)
    with pytest.raises(InputError) as caught:
        read_circuit(file)
    said = str(caught.value)
    assert said.startswith(f"{file} {where}: ") and "\n" not in said
    assert all(part in said for part in parts), said


def test_reading_records_does_not_import_torch() -> None:
    code = "import specs.load, specs.arrays, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
