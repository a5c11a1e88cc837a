"""Scores of Wang et al. 2022, against what a network is built to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from specs.encode import Problem
from tests.nets import asked, net
from verify.wang import wang_scores


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    """`y = relu(x + 1) + relu(x + 1) + 0 relu(x + 1)`: the first two back each other up, the third does nothing."""
    hidden = np.ones((3, 1)), np.ones(3)
    out = np.array([[1.0, 1.0, 0.0]]), np.zeros(1)
    return asked(net(tmp_path, [hidden, out]), {"kind": "linf", "center": [0.0], "epsilon": 0.5}, 1.0)


def test_what_matters_matters_and_what_does_not_does_not(problem: Problem) -> None:
    scores = wang_scores(problem, problem.claims[0], frozenset({0, 1, 2}))
    assert scores.minimality[2] == pytest.approx(0, abs=1e-12)
    assert scores.minimality[0] == pytest.approx(scores.minimality[1]) and scores.minimality[0] > 0.9
    assert scores.incompleteness == pytest.approx(0, abs=1e-12), "everything is complete"


def test_a_missing_backup_is_incompleteness(problem: Problem) -> None:
    scores = wang_scores(problem, problem.claims[0], frozenset({0}))
    assert scores.incompleteness == pytest.approx(scores.minimality[0], rel=1e-6)
    again = wang_scores(problem, problem.claims[0], frozenset({0}))
    assert again == scores, "the same seed gives the same scores"
