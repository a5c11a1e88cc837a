"""Certificates: their cost, and what the checker refuses. `python -m benchmarks.check` prints the first table of
`docs/results/check.md`: the bundled suite, and claims about tokens and sigmoids. Those about published models (`--data`, as
`python -m benchmarks.transformers`) are left out where the models are not there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.decide.tables import table
from benchmarks.throughput.cases import bench_folder

__all__ = ["main", "measured"]

_HERE = Path(__file__).parent
_HEADS = {"blocks.0.attn.hook_z": "head", "blocks.1.attn.hook_z": "head"}
_DYCK = {"t18": "head", "t23": "layer", "t42": "head", "t47": "layer"}
_FEW = 5
"""Tokens of the vocabulary over which claims about induction are made."""

_SIGMOIDS = "/Sigmoid_output_0"
_TOP1 = {"metric": "top1", "tolerance": 0.0}
_CHECK = [sys.executable, "-c", "import sys; from verify.cli import main; sys.exit(main())", "check"]

Asked = tuple[str, Path, Path]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table. Returns the exit code: 1 where the checker refuses a verdict."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of published models and data")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for each verdict with its certificate")
    options = parser.parse_args(arguments)
    lines: list[list[str]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, circuit, spec in _asked(Path(folder), bench_folder(options.data)):
            lines.append(measured(name, circuit, spec, options.timeout))
            print(name, *lines[-1][1:], file=sys.stderr)
    print(table(["question", "verdict", "engine", "with its certificate", "checker", "leaves or points", "bytes"], lines))
    refused = sum(line[4] == "refused" for line in lines)
    print(f"\nrefused: {refused} of {len(lines)}")
    return int(refused > 0)


def measured(name: str, circuit: Path, spec: Path, timeout_s: float) -> list[str]:
    """A row: verdict, seconds of the engine alone, with the certificate, and of the checker in a process of its own."""
    import verify

    with tempfile.TemporaryDirectory() as parent:
        made, began = Path(parent) / "certificate", time.monotonic()
        verdict, took_s = verify.certify(circuit, spec=spec, timeout_s=timeout_s).verdict, time.monotonic() - began
        again = verify.certify(circuit, spec=spec, timeout_s=timeout_s, certificate=made)
        both_s = time.monotonic() - began - took_s
        if again.certificate is None:
            why = "refused" if verdict != "unknown" else "none"
            return [name, verdict, f"{took_s:.1f} s", f"{both_s:.1f} s", why, again.reason or "", ""]
        said = subprocess.run([*_CHECK, str(made)], capture_output=True, text=True, check=True).stdout
        size = sum(file.stat().st_size for file in made.iterdir())
    found = dict(word.split("=") for word in said.split() if "=" in word)
    return [name, verdict, f"{took_s:.1f} s", f"{both_s:.1f} s", found["time"], f"{int(found['leaves']):,}", f"{size:,}"]


def _asked(folder: Path, data: Path) -> Iterator[Asked]:
    """The questions: a name, the circuit's file and the spec's."""
    from benchmarks.transformers.induction import sequences

    for case in sorted((_HERE / "suites").glob("*/*/expected.json")):
        yield case.parent.name, case.parent / "circuit.json", case.parent / "spec.yaml"
    induction = _HERE / "models" / "induction.onnx"
    every = {"kind": "tokens", "sequences": sequences(_FEW).tolist()}
    for name, kept in (("two heads", ([2], [0])), ("less one", ([0, 1, 3], [0]))):
        kept_of = dict(zip(_HEADS, kept, strict=True))
        yield _written(folder, f"induction, {name}", induction, _HEADS, kept_of, input=every, agreement=_TOP1)
    models = data / "models"
    everything: dict[str, Any] = {"input": {"kind": "tokens", "positions": "all"}, "agreement": {**_TOP1, "tolerance": 0.001}}
    published: list[tuple[str, str, Mapping[str, str], Mapping[str, Any], dict[str, Any]]] = [
        (
            "dyck10, less head 1.0",
            "dyck10_transformer",
            _DYCK,
            {"t18": "all", "t23": "all", "t42": [1], "t47": "all"},
            everything,
        ),
        (
            "dyck10, less MLP 1",
            "dyck10_transformer",
            _DYCK,
            {"t18": "all", "t23": "all", "t42": "all", "t47": "none"},
            everything,
        ),
    ]
    center = {"file": str((data / "data" / "mnist_test_first1000.npz").resolve()), "array": "X", "index": 0}
    for tolerance in (1.0, 4.0):
        parts: dict[str, Any] = {
            "input": {"kind": "linf", "center": center, "epsilon": 0.01, "clip": [0.0, 1.0], "scale": {"divide": 255}},
            "agreement": {"metric": "logits", "tolerance": tolerance},
            "patching": {"kind": "constant", "constant": {_SIGMOIDS: 0.5}},
        }
        name = f"mnist 2x5 sigmoid, tolerance {tolerance:g}"
        published.append((name, "mnist_marabou_2x5_sigmoid", {_SIGMOIDS: "neuron"}, {_SIGMOIDS: [0, 1, 2, 4]}, parts))
    for name, model, scope, kept, parts in published:
        if (models / f"{model}.onnx").is_file():
            yield _written(folder, name, models / f"{model}.onnx", scope, kept, **parts)
        else:
            print(f"check: {name}: no {model}.onnx: left out", file=sys.stderr)


def _written(folder: Path, name: str, model: Path, scope: Mapping[str, str], kept: Mapping[str, Any], **parts: Any) -> Asked:
    """A question as files."""
    circuit = {"format": "certify.circuit/1", "model": {"path": str(model.resolve())}, "scope": scope, "kept": kept}
    spec = {"format": "certify.spec/1", "patching": {"kind": "zero"}, **parts}
    paths = folder / f"{name}.circuit.json", folder / f"{name}.spec.json"
    for path, content in zip(paths, (circuit, spec), strict=True):
        path.write_text(json.dumps(content))
    return name, *paths


if __name__ == "__main__":
    raise SystemExit(main())
