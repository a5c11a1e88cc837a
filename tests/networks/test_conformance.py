"""`vnnlib-satisfactory`, the conformance suite for VNN-LIB solvers: every query decided rightly, or refused by name.

Source: https://pypi.org/project/vnnlib-satisfactory, MIT.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from specs.errors import InputError
from specs.vnnlib.question import read_question
from verify.plain import Search
from verify.work.budget import Budget

REFUSED = {
    "arithmetic_poly": "a product of variables",
    "cast": "only casts to floats",
    "equal": "not supported here",
    "maxpool": "is not bounded on both sides",
    "multi_io": "puts",
    "network_isomorphic": "Type mismatch",
    "pow": "supported",
    "shape": "does not depend on the input",
    "softmax": "softmax",
    "where": "not supported here",
}
"""What is not claimed, by the suite's category, and what the refusal says."""


@pytest.mark.slow
def test_the_conformance_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = pytest.importorskip("vnntest.core.generator", reason="pip install vnnlib-satisfactory")
    monkeypatch.chdir(tmp_path)
    counted: Counter[str] = Counter()
    for entry in json.loads(json.dumps(generator.generate_all_tests())):
        folder = tmp_path / ".vnnlib-satisfactory" / "tests" / entry["category"]
        name = f"{entry['category']}/{entry['name']}"
        try:
            paths = {network: str(folder / file) for network, file in entry["networks"].items()}
            question = read_question(str(folder / entry["vnnlib"]), paths)
        except InputError as error:
            assert REFUSED[entry["category"]] in str(error), f"{name}: {error}"
            counted["refused"] += 1
            continue
        answer = Search(question).run(Budget(60))
        assert answer.word == entry["expected"].lower(), (
            f"{name}: {answer.word} ({answer.reason}), {entry['expected']} expected"
        )
        counted["decided"] += 1
    assert counted["decided"] >= 137, counted
