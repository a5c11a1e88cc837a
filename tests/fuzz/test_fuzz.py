"""Every reader of untrusted files, given broken ones: one line says what is wrong, quickly and in little memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fuzz.targets import ROOT, TARGETS


def fuzzed(target: str, count: int, seed: str, timeout_s: float) -> None:
    words = [sys.executable, "-m", "tests.fuzz.run", target, str(count), seed]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


FEW = {"pt2": 10, "onnx": 60, "certificate": 30, "proof": 30, "refutations": 30}
"""Cases of readers that take long: 100 of any other."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_hundred_broken_files(target: str) -> None:
    fuzzed(target, FEW.get(target, 100), "0", 600)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_10000_broken_files(target: str) -> None:
    fuzzed(target, 10_000, "1", 6 * 3600)
