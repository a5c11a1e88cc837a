"""What is installed, what it needs, and that the bundled examples fit together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from hashlib import sha256
from importlib.metadata import distribution, entry_points
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("bounds", "specs", "verify")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MODELS = ROOT / "benchmarks" / "models"
CASES = sorted(folder.parent for folder in (ROOT / "benchmarks" / "suites" / "digits").glob("*/circuit.json"))


def test_installed_metadata_is_the_projects() -> None:
    installed = distribution("circuit-certify")
    assert installed.version == PROJECT["project"]["version"]
    assert installed.metadata["License-Expression"] == "BSD-3-Clause"
    (command,) = entry_points(group="console_scripts", name="certify")
    assert command.value == "verify.cli:main"
    assert callable(command.load())


def test_version_is_the_same_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_requirements_resolve() -> None:
    """Lower bounds only, and never auto_LiRPA: its own pins cannot be met, so naming it breaks every install."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    for requirement in [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra)]:
        assert not re.search(r"<|==|~=|!=", requirement), f"{requirement}: narrower than a lower bound"
        assert "lirpa" not in requirement.lower()


def test_command_starts_without_the_heavy_imports() -> None:
    """`certify --help` must answer in under a second; torch alone takes longer than that to import."""
    heavy = ("torch", "onnx", "onnxruntime", "scipy", "auto_LiRPA")
    program = f"import sys, verify.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_typed_packages(room: str) -> None:
    assert (ROOT / room / "py.typed").is_file()
    for file in (ROOT / room).rglob("*.py"):
        assert (file.parent / "__init__.py").is_file(), f"{file.parent} holds code but no __init__.py: not in the wheel"


def test_every_data_file_of_the_rooms_is_in_the_wheel() -> None:
    shipped = {Path(pattern).suffix or pattern for pattern in PROJECT["tool"]["setuptools"]["package-data"]["*"]}
    for room in ROOMS:
        for file in (ROOT / room).rglob("*"):
            if file.is_file() and file.suffix not in (".py", ".pyc") and file.name != "py.typed":
                assert file.suffix in shipped, f"{file}: add its kind to package-data in pyproject.toml"


@pytest.mark.parametrize(("name", "shape"), [("digits_mlp", (1, 64)), ("digits_cnn", (1, 1, 8, 8))])
def test_bundled_model_reads_digits(name: str, shape: tuple[int, ...]) -> None:
    model = onnx.load(MODELS / f"{name}.onnx")
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    relus = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    assert relus == [f"relu_{i + 1}" for i in range(len(relus))]

    session = onnxruntime.InferenceSession(model.SerializeToString())
    with np.load(MODELS / "digits.npz") as file:
        images, labels = file["images"], file["labels"]
    assert images.dtype == np.float32
    assert images.min() >= 0 and images.max() <= 1
    logits = np.concatenate([np.asarray(session.run(None, {"image": image.reshape(shape)})[0]) for image in images])
    assert (logits.argmax(axis=1) == labels).mean() >= 0.9  # 60 images; on all 360 held out ones it is over 0.95


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_is_whole(case: Path) -> None:
    circuit = json.loads((case / "circuit.json").read_text())
    model = case / circuit["model"]["path"]
    assert sha256(model.read_bytes()).hexdigest() == circuit["model"]["sha256"], "run make_cases.py: the model has changed"
    assert circuit["kept"].keys() == circuit["scope"].keys()
    assert (case / "spec.yaml").is_file()
    assert json.loads((case / "expected.json").read_text())["verdict"] in ("certified", "falsified", "unknown")
