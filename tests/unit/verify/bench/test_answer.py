"""From a run to its question and its circuit: regions, tolerances, baselines, processes that die."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing.connection import wait
from typing import Any

import numpy as np
import pytest
import torch

from specs.encode import Problem, encode_scope
from specs.errors import InputError
from verify.bench.answer import BROKEN, answer
from verify.bench.baselines import found_by
from verify.bench.calibrate import tolerance_of
from verify.bench.claim import Asked, asked
from verify.bench.runs import Run, runs
from verify.bench.suite import Attribution, Sampling, Suite, Thresholding, read_suite
from verify.bench.workers import _Worker
from verify.minimize.orders import samples
from verify.witness.evidence import Evidence
from verify.witness.pool import WitnessPool


@pytest.fixture(scope="module")
def suite() -> Suite:
    return read_suite("smoke")


@pytest.fixture(scope="module")
def run(suite: Suite) -> Run:
    return next(iter(runs(suite)))


@pytest.fixture(scope="module")
def question(suite: Suite, run: Run) -> Asked:
    return asked(suite, run, None)


def changed(suite: Suite, **said: Any) -> Suite:
    """The suite with another experiment `zero`."""
    made = suite.model_copy(update={"experiments": {"zero": suite.experiments["zero"].model_copy(update=said)}})
    return made


def test_a_tolerance_by_hand() -> None:
    outputs = np.array([[0.0, 1.0, 4.0], [2.0, 1.0, 0.0], [5.0, 0.0, 3.0]])
    assert tolerance_of(outputs) == 1.0  # gaps 3, 1, 2
    assert tolerance_of(outputs, share=0.1) == 0.2
    assert tolerance_of(outputs, [1]) == pytest.approx(0.5 * outputs[:, 1].std(), rel=1e-2)


def test_the_region_is_the_ball_and_the_point_its_centre(suite: Suite, run: Run, question: Asked) -> None:
    box = question.spec["input"]
    lower, upper = np.array(box["lower"]), np.array(box["upper"])
    assert ((upper - lower) <= 2 * 0.01 + 1e-12).all() and lower.min() >= 0 and upper.max() <= 1
    assert (upper - lower).max() == pytest.approx(0.02)
    at = asked(changed(suite, input="point", patching="reachable", patch_factor=10.0), run, None).spec
    assert at["input"]["lower"] == at["input"]["upper"]
    wide = at["patching"]["reachable"]
    assert (np.array(wide["upper"]) - np.array(wide["lower"])).max() == pytest.approx(0.2)


def looked(problem: Problem, kept: frozenset[int], count: int) -> bool:
    """Whether a circuit keeps to the claim at the samples that the baselines look at."""
    pool = WitnessPool(count)
    evidence = Evidence(problem, problem.claims[0], "cpu", 0, False)
    pool.add(samples(evidence, count, 0))
    mask = torch.zeros(1, len(problem.components), dtype=torch.bool)
    mask[0, sorted(kept)] = True
    return bool((pool.evaluate(evidence.attackable, mask) >= 0).all())


def test_baselines_keep_what_they_promise_at_their_samples(question: Asked) -> None:
    problem = encode_scope(question.scope, question.read(), question.model, file="suite")
    greedy = found_by(Sampling(kind="sampling"), problem, question.tolerance, 0)
    prefix = found_by(Attribution(kind="attribution"), problem, question.tolerance, 0)
    everything = frozenset(range(len(problem.components)))
    assert looked(problem, greedy, 64) and looked(problem, prefix, 64)
    assert greedy < everything and prefix < everything
    strict = found_by(Thresholding(kind="thresholding", threshold=1e-9), problem, question.tolerance, 0)
    loose = found_by(Thresholding(kind="thresholding", threshold=1e6), problem, question.tolerance, 0)
    assert loose == frozenset() and len(strict) > len(greedy)


def test_whatever_goes_wrong_is_a_row(suite: Suite, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    too_far = Run(run.experiment, run.network, 10_000, run.method, 0, 1.0, 1.0)
    row = answer(suite, too_far, None)
    assert row.error is not None and "input 10000" in row.error and row.verdict is None

    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("verify.bench.claim.asked", broken)
    row = answer(suite, run, None)
    assert row.error == f"{BROKEN}: RuntimeError: two lines"


def test_a_process_that_dies_leaves_a_row(suite: Suite, run: Run) -> None:
    worker = _Worker.started(suite, None)
    try:
        worker.take(run, suite)
        assert worker.process.pid is not None
        os.kill(worker.process.pid, signal.SIGKILL)
        assert wait([worker.pipe], timeout=30)
        row = worker.told(suite)
        assert row.error == "its process ended with code -9" and worker.ended and row.method == run.method
        worker.take(run, suite)
        worker.until = 0.0
        late = worker.overrun(suite)
        assert late is not None and late.error is not None and "beyond its budget" in late.error
    finally:
        worker.end()


def test_without_ray_the_remedy_is_named(suite: Suite, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from verify.bench.ray import answers

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'circuit-certify\[ray\]'"):
        next(answers(suite, [run], None, "local"))
