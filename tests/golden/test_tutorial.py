"""The tutorial's commands, run in order; what they print is what the page shows, numbers aside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden.conftest import ROOT
from tests.golden.pages import blocks, follow

TUTORIAL = ROOT / "docs" / "tutorial.md"
SPECS = ("search.yaml", "claim.yaml", "wide.yaml")
"""Where the page's YAML blocks are saved, in order."""


def _follow(folder: Path, certify: list[str], environment: dict[str, str]) -> None:
    for name in ("digits_mlp.onnx", "digits.npz"):
        shutil.copy(ROOT / "benchmarks" / "models" / name, folder / name)
    specs = blocks(TUTORIAL, "yaml")
    assert len(specs) == len(SPECS)
    for name, text in zip(SPECS, specs, strict=True):
        assert f"`{name}`" in TUTORIAL.read_text(encoding="utf-8")
        (folder / name).write_text(text)
    follow(TUTORIAL, folder, certify, environment)


def test_the_tutorial(tmp_path: Path, command: list[str]) -> None:
    _follow(tmp_path, command, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_the_tutorial_from_a_wheel(tmp_path: Path) -> None:
    """In an environment that holds the wheel alone; what it depends on is this one's, so that nothing is downloaded."""
    source, dist, venv, work = (tmp_path / name for name in ("source", "dist", "venv", "work"))
    work.mkdir()
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = dist.glob("circuit_certify-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True, timeout=120)
    python, (site,) = venv / "bin" / "python", venv.glob("lib/python*/site-packages")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", str(wheel)], check=True, timeout=300)
    # This environment's packages come after the new one's own, and the folder that our own are imported from does not come
    # along: `addsitedir` alone would read the .pth file of an editable install.
    theirs = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "others.pth").write_text(f"{theirs}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [str(python), "-c", "import bounds, specs, verify; print(bounds.__file__, specs.__file__, verify.__file__)"],
        cwd=work, env=environment, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert all(Path(path).is_relative_to(venv) for path in where), where
    _follow(work, [str(venv / "bin" / "certify")], environment)
