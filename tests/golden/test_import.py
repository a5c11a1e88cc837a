"""`certify import` through the installed command, on files that the producers' own code wrote."""

from __future__ import annotations

import json
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.golden.conftest import ROOT, Run
from verify.cli import main

FILES = ROOT / "tests" / "fixtures" / "circuits"
MODEL = ROOT / "benchmarks" / "models" / "digits_cnn.onnx"
MAP = FILES / "map.json"
SPEC = ROOT / "benchmarks" / "suites" / "digits" / "cnn_channel_certified" / "spec.yaml"

# For each file: what is said beside, and the nodes that are kept; the rest of a0.h0 .. m1 is ablated.
CASES: dict[str, tuple[str, list[str], list[str]]] = {
    "eap_nodes.json": ("eap", [], ["a0.h0", "m0", "a1.h0"]),
    "eap_nodes.pt": ("eap", [], ["a0.h0", "m0", "a1.h0"]),
    "eap_edges.json": ("eap", ["--nodes", "--top", "3"], ["a0.h0", "a1.h0", "a1.h1", "m0"]),
    "acdc_edges.pkl": ("acdc", ["--nodes"], ["a1.h1", "m0", "a0.h0", "m1"]),
    "edge_pruning.json": ("edge-pruning", ["--nodes"], ["a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1"]),
    "circuitkit_artifact.json": ("circuitkit", ["--listed", "kept"], ["a0.h0", "a0.h1", "a1.h1"]),
    "circuitkit_removed.pt": ("circuitkit", ["--listed", "removed"], ["a0.h0", "m0", "a1.h0", "a1.h1"]),
    "circuitkit_removed_scores.json": ("circuitkit", ["--threshold", "0.6"], ["a0.h0", "m0", "a1.h1"]),
    "transformer_lens.json": ("transformer-lens", ["--threshold", "0.5"], ["a0.h1", "a1.h1"]),
}


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Run:
    """As `run`, in this process: most of a run is importing torch."""

    def inside(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        with pytest.raises(SystemExit) as stopped:
            main(words)
        captured = capsys.readouterr()
        return subprocess.CompletedProcess(words, stopped.value.code, captured.out, captured.err)  # pyright: ignore[reportArgumentType]

    return inside


def spots() -> dict[str, tuple[str, list[int]]]:
    entries: dict[str, Any] = json.loads(MAP.read_text())
    return {
        name: (entry[0], entry[1] if isinstance(entry[1], list) else [entry[1]]) for name, entry in entries.items() if entry
    }


@pytest.mark.parametrize("name", CASES)
def test_the_circuit_that_was_given_is_the_one_written(name: str, inside: Run, tmp_path: Path) -> None:
    tool, options, nodes = CASES[name]
    out = tmp_path / "circuit.json"
    done = inside("import", tool, FILES / name, "--model", MODEL, "--map", MAP, "--out", out, *options)
    assert done.returncode == 0, done.stderr
    circuit = json.loads(out.read_text())
    expected = {"relu_1": {6, 7}, "relu_2": {4, 5, 6, 7}}  # what has no name there
    for node in nodes:
        site, indices = spots()[node]
        expected[site] |= set(indices)
    kept = {site: set(range(8)) if entry == "all" else set(entry) for site, entry in circuit["kept"].items()}
    assert kept == expected
    assert circuit["scope"] == {"relu_1": "channel", "relu_2": "channel"}
    assert circuit["provenance"]["tool"] == tool
    size = sum(map(len, expected.values()))
    assert done.stdout.startswith(f"imported {out} kept={size} scope=16 sites=2 dead=")
    assert all(f"certify: note: {note}" in done.stderr for note in circuit["provenance"]["notes"])


def test_what_is_imported_is_certified(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "circuit.json"
    run("import", "eap", FILES / "eap_nodes.json", "--model", MODEL, "--map", MAP, "--out", out)
    done = run(out, "--spec", SPEC, "--timeout", "20")
    assert done.returncode in (0, 1, 3) and done.stdout.split()[0] in ("certified", "falsified", "unknown")


def test_neurons_of_a_node_take_a_site_of_them(inside: Run, tmp_path: Path) -> None:
    entries = {"a0.h0": ["relu_1", [0, 1, 2, 3]], "a0.h1": ["relu_1", [4, 5, 6, 7]], "kind:mlp": None, "input": None}
    entries |= {"a1.h0": ["relu_2", [0, 1, 2, 3]], "a1.h1": ["relu_2", [4, 5, 6, 7]], "m0": ["relu_3", [0, 1, 2, 3]]}
    entries |= {"m1": ["relu_3", [4, 5, 6, 7]]}
    (tmp_path / "map.json").write_text(json.dumps(entries))
    out = tmp_path / "circuit.json"
    done = inside("import", "eap", FILES / "eap_neurons.pt", "--model", MODEL, "--map", tmp_path / "map.json", "--out", out)
    assert done.returncode == 0, done.stderr
    kept = json.loads(out.read_text())["kept"]
    assert kept == {"relu_1": [1, 2, 3, 4, 7], "relu_2": [3], "relu_3": [1, 3, 6, 7, *range(8, 32)]}
    wrong = inside("import", "eap", FILES / "eap_neurons.pt", "--model", MODEL, "--map", MAP, "--out", out)
    assert wrong.returncode == 2 and "3 of 4 neurons of 'a0.h0'" in wrong.stderr


def test_edges_import_as_edges_where_the_map_names_them(inside: Run, tmp_path: Path) -> None:
    edges: dict[str, float] = json.loads((FILES / "auto_circuit_edges.json").read_text())
    spots = {name: ("relu_1" if i < 32 else "relu_3", i % 32) for i, name in enumerate(edges)}
    entries = {name: [site, index, "neuron"] for name, (site, index) in spots.items()}
    (tmp_path / "map.json").write_text(json.dumps(entries))
    out = tmp_path / "circuit.json"
    arguments = ("import", "auto-circuit", FILES / "auto_circuit.pkl", "--model", MODEL, "--map", tmp_path / "map.json")
    for option, test in (
        (["--threshold", 0.8], lambda score: abs(score) >= 0.8),
        (["--threshold", 0, "--signed"], lambda score: score >= 0),
    ):
        done = inside(*arguments, "--out", out, *option)
        assert done.returncode == 0, done.stderr
        kept = json.loads(out.read_text())["kept"]
        for name, score in edges.items():
            site, index = spots[name]
            assert (index in kept[site]) == test(score), name
    del entries["A0.0->MLP 0"]
    (tmp_path / "map.json").write_text(json.dumps(entries))
    assert "'A0.0->MLP 0' (edge)" in inside(*arguments, "--out", out, "--threshold", 0).stderr


def test_features_by_id_and_type(inside: Run, tmp_path: Path) -> None:
    entries = {"0_3_1": ["relu_3", 3], "1_5_1": ["relu_3", 5], "1_6_2": ["relu_3", 6], "9_9_9": ["relu_3", 9]}
    (tmp_path / "map.json").write_text(json.dumps(entries | {"kind:error": None}))
    out = tmp_path / "circuit.json"
    arguments = ["import", "circuit-tracer", FILES / "circuit_tracer.json", "--model", MODEL, "--map", tmp_path / "map.json"]
    done = inside(*arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    kept = json.loads(out.read_text())["kept"]["relu_3"]
    assert kept == [i for i in range(32) if i != 9]  # 9_9_9 is not in the file: not kept; the others have no name
    assert "2 links name an id that two nodes share" in done.stderr and "dead=1" in done.stdout
    (tmp_path / "map.json").write_text(json.dumps(entries))
    assert "'error_3_1' (error)" in inside(*arguments, "--out", out).stderr


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("tool", ["acdc", "eap", "auto-circuit", "circuitkit"])
def test_nothing_of_a_malicious_file_runs(tool: str, inside: Run, tmp_path: Path) -> None:
    import torch

    trace, file = tmp_path / "trace", tmp_path / "evil.pt"
    if tool == "acdc":
        file.write_bytes(pickle.dumps([Bomb(trace)]))
    else:
        torch.save({"src_nodes": Bomb(trace)}, file)
    done = inside("import", tool, file, "--model", MODEL, "--map", MAP, "--out", tmp_path / "out.json", "--nodes")
    assert done.returncode == 2 and "\n" not in done.stderr.strip() and "may run code" in done.stderr, done.stderr
    assert not trace.exists() and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["eap", FILES / "eap_edges.json", "--map", MAP], ("circuit of edges", "--nodes")),
        (["eap", FILES / "eap_nodes.json"], ("'a0.h0' (head) is no site", "--map", '["SITE", INDEX]')),
        (["eap", FILES / "eap_nodes.json", "--map", MAP, "--listed", "kept"], ("--listed",)),
        (["eap", FILES / "eap_nodes.json", "--map", MAP, "--top", "3", "--threshold", "1"], ("one of them",)),
        (["eap", FILES / "eap_nodes.json", "--map", MAP, "--threshold", "nan"], ("finite",)),
        (["eap", FILES / "map.json", "--map", MAP], ("no key 'nodes'",)),
        (["acdc", FILES / "map.json", "--map", MAP, "--nodes"], ("not a pickle",)),
        (["auto-circuit", FILES / "auto_circuit.pkl", "--map", MAP, "--nodes"], ("--threshold T or --top K",)),
        (["auto-circuit", FILES / "auto_circuit.pkl", "--map", MAP, "--nodes", "--entry", "ioi"], ("'ioi'", "docstring")),
        (["circuitkit", FILES / "circuitkit_removed.pt", "--map", MAP], ("--listed removed", "Circuit.nodes")),
        (["transformer-lens", FILES / "transformer_lens.json", "--map", MAP, "--threshold", "9"], ("ablates 'hook_embed'",)),
        (["elsewhere", FILES / "map.json"], ("elsewhere",)),
    ],
)
def test_bad_requests_are_one_line(arguments: list[object], words: tuple[str, ...], inside: Run, tmp_path: Path) -> None:
    done = inside("import", *arguments, "--model", MODEL, "--out", tmp_path / "out.json")
    said = done.stderr.strip()
    assert done.returncode == 2 and "\n" not in said and not done.stdout, said
    assert all(word in said for word in words), said
    assert not (tmp_path / "out.json").exists()
