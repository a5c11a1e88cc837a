"""docs/transformers.md: its commands, run in order on the bundled model and examples; they print what the page shows."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.golden.conftest import ROOT
from tests.golden.pages import blocks, follow

PAGE = ROOT / "docs" / "transformers.md"
EXAMPLES = Path("docs") / "examples"
MODELS = Path("benchmarks") / "models"


def test_the_page_on_transformers(tmp_path: Path, command: list[str]) -> None:
    (spec,) = blocks(PAGE, "yaml")
    assert spec == (ROOT / EXAMPLES / "ioi" / "heads.yaml").read_text(encoding="utf-8")
    shutil.copytree(ROOT / EXAMPLES, tmp_path / EXAMPLES)
    (tmp_path / MODELS).mkdir(parents=True)
    for name in ("ioi.onnx", "ioi.npz"):
        shutil.copy(ROOT / MODELS / name, tmp_path / MODELS / name)
    (tmp_path / "out").mkdir()
    follow(PAGE, tmp_path, command, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    drawn = (tmp_path / "out" / "edges.svg").read_text(encoding="utf-8")
    assert drawn == (ROOT / "docs" / "images" / "ioi.svg").read_text(encoding="utf-8"), "the page shows another picture"
