"""`certify carry`, as a user runs it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.golden.conftest import Run, save_model, write

Case = tuple[dict[str, Any], dict[str, Any]]


def test_which_circuits_carry_over(run: Run, tmp_path: Path, case: Case) -> None:
    """Two circuits, one twin checkpoint, one that is unlike, and one that has no such components."""
    rng = np.random.default_rng(0)
    twin = [rng.normal(size=s) / 3 for s in ((6, 8), (8, 8), (8, 3))]
    save_model(tmp_path / "twin.onnx", [weight + 1e-4 for weight in twin])
    save_model(tmp_path / "other.onnx", [20 * np.random.default_rng(9).normal(size=s) for s in ((6, 8), (8, 8), (8, 3))])
    save_model(tmp_path / "narrow.onnx", [np.ones((6, 2)), np.ones((2, 8)), np.ones((8, 3))])
    circuit, spec = case
    circuit["model"]["sha256"] = hashlib.sha256((tmp_path / "small.onnx").read_bytes()).hexdigest()
    first, asked = write(tmp_path, circuit, spec)
    whole = circuit | {"kept": {"relu_1": "all", "relu_2": "all"}}
    (tmp_path / "whole.json").write_text(json.dumps(whole))
    models = [word for name in ("twin", "other", "narrow") for word in ("--model", f"{name}.onnx")]
    done = run("carry", first.name, "whole.json", "--spec", asked.name, *models, "--out", "made", "--quiet")
    assert done.returncode == 1, done.stderr
    assert len(done.stdout.splitlines()) == 8
    made = json.loads((tmp_path / "made" / "carry.json").read_text())
    said = {(Path(entry["circuit"]).stem, Path(entry["model"]).stem): entry["verdict"] for entry in made["entries"]}
    assert said == {
        ("circuit", "small"): "certified", ("circuit", "twin"): "certified", ("circuit", "other"): "falsified",
        ("circuit", "narrow"): "inapplicable", ("whole", "small"): "certified", ("whole", "twin"): "certified",
        ("whole", "other"): "certified", ("whole", "narrow"): "certified",
    }  # fmt: skip
    assert [Path(name).name for name in made["universal"]] == ["whole.json"]
    assert "falsified" in (tmp_path / "made" / "carry.md").read_text()
    again = run("carry", "whole.json", "--spec", asked.name, "--model", "twin.onnx", "--out", "second", "--quiet")
    assert again.returncode == 0
    gone = run("carry", "whole.json", "--spec", asked.name, "--model", "none.onnx", "--out", "third")
    assert gone.returncode == 2 and "none.onnx" in gone.stderr and not (tmp_path / "third").exists()
