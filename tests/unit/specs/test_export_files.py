"""Exported files: their names, what they may replace, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specs.encode import Problem, encode
from specs.errors import InputError
from specs.export.files import export_vnnlib, file_names
from specs.load import read_circuit, read_spec
from specs.model import load_model
from tests.nets import random_net


def test_names() -> None:
    assert file_names(["index 7"]) == ["query"]
    assert file_names(["index 7", "index 8"]) == ["index_7", "index_8"]
    assert file_names(["a/b", "a b", "A b", "../.."]) == ["a_b", "a_b_2", "A_b_3", "claim"]


def problem(folder: Path, **spec: Any) -> Problem:
    random_net(folder, 4, 6, 3)
    circuit = {"format": "certify.circuit/1", "model": {"path": "net.onnx"}, "scope": {"act_0": "neuron"},
               "kept": {"act_0": [0, 1, 4]}}  # fmt: skip
    stated: Mapping[str, Any] = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": [0.5] * 4, "epsilon": 0.1},
        "patching": {"kind": "box", "lower": {"act_0": 0.0}, "upper": {"act_0": 0.25}},
        "agreement": {"metric": "logits", "tolerance": 0.5},
        **spec,
    }
    (folder / "circuit.json").write_text(json.dumps(circuit))
    (folder / "spec.json").write_text(json.dumps(stated))
    model = load_model("net.onnx", shown="c", where="", base=folder)
    return encode(read_circuit(folder / "circuit.json"), read_spec(folder / "spec.json"), model)


def test_files_are_not_replaced_unasked_and_inputs_never(tmp_path: Path) -> None:
    asked, out = problem(tmp_path), tmp_path / "out"
    (pair,) = export_vnnlib(asked, out)
    assert (pair.inputs, pair.patched, pair.outputs, pair.clauses, pair.notes) == (7, 3, 6, 6, ())
    assert sorted(path.name for path in out.iterdir()) == ["query.onnx", "query.vnnlib"]
    before = pair.onnx.read_bytes()
    with pytest.raises(InputError, match=r"query\.onnx exists; .*--force"):
        list(export_vnnlib(asked, out))
    list(export_vnnlib(asked, out, force=True))
    assert pair.onnx.read_bytes() == before
    with pytest.raises(InputError, match="read by this run"):
        list(export_vnnlib(asked, out, force=True, inputs=[out / "query.onnx"]))
    for bad in (tmp_path / "spec.json", tmp_path / "no" / "such", out / "query.onnx" / "deeper"):
        with pytest.raises(InputError, match="--out"):
            list(export_vnnlib(asked, bad))


def test_a_failure_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, out = problem(tmp_path), tmp_path / "out"

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        list(export_vnnlib(asked, out))
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("spec", "where", "kind"),
    [
        ({"input": {"kind": "l2", "center": [0.5] * 4, "epsilon": 0.1}}, "$.input.kind", "l2"),
        ({"input": {"kind": "hull", "points": [[0.1] * 4, [0.2] * 4]}}, "$.input.kind", "hull"),
        ({"patching": {"kind": "reachable", "reachable": {"kind": "l2", "center": [0.5] * 4, "epsilon": 0.1}}},
         "$.patching.reachable.kind", "l2"),
    ],
)  # fmt: skip
def test_only_boxes_can_be_stated(spec: Any, where: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        list(export_vnnlib(problem(tmp_path, **spec), tmp_path / "out"))
    said = str(error.value)
    assert f"spec.json {where}: a region of kind '{kind}'; VNN-LIB states boxes only; use" in said and "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "inputs", "notes"), [("reachable", 8, ()), ("resample", 7, ("resampled",)), ("closed", 7, ())]
)
def test_activations_as_patches(kind: str, inputs: int, notes: tuple[str, ...], tmp_path: Path) -> None:
    patching = {"kind": kind, kind: {"kind": "linf", "center": [0.5] * 4, "epsilon": 0.3}}
    (pair,) = export_vnnlib(problem(tmp_path, patching=patching), tmp_path / "out")
    assert pair.inputs <= inputs and (kind != "reachable" or (pair.inputs, pair.patched) == (8, 0))
    assert len(pair.notes) == len(notes) and all(word in note for word, note in zip(notes, pair.notes, strict=True))


@given(st.lists(st.text(max_size=12), max_size=6))
def test_names_are_names(labels: list[str]) -> None:
    names = file_names(labels)
    assert len({name.lower() for name in names}) == len(labels)
    assert all(name and not name.startswith(".") and "/" not in name for name in names)
