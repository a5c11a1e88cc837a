"""Continuous patching: whose values, over which region, and what that makes monotone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bounds.inclusion import includes
from bounds.region import Ball, Box, Hull
from specs.encode import Problem
from specs.errors import InputError
from tests.nets import asked, random_net

HERE = {"kind": "linf", "center": [0.1, -0.2, 0.3], "epsilon": 0.1}
WIDE = {"kind": "linf", "center": [0.1, -0.2, 0.3], "epsilon": 0.3}


def _problem(folder: Path, kind: str, second: dict[str, Any], *widths: int, region: dict[str, Any] = HERE) -> Problem:
    return asked(random_net(folder, 3, *(widths or (4, 4)), 2, seed=2), region, 0.5, patching={"kind": kind, kind: second})


def _values(problem: Problem, count: int = 2000) -> dict[str, torch.Tensor]:
    second = problem.claims[0].second
    assert second is not None
    x = second.sample(count, torch.Generator().manual_seed(0))
    return problem.model.graph.evaluate(x, keep=frozenset(problem.gates.by_tensor))


def test_reachable_takes_a_second_run(tmp_path: Path) -> None:
    problem = _problem(tmp_path, "reachable", WIDE)
    query = problem.claims[0].query
    assert query.gates.sources == {"act_0": "act_0'", "act_1": "act_1'"}
    assert query.region.shape == (2, 1, 3) and query.graph.input_shape == (2, 1, 3)
    assert not problem.claims[0].monotone.known and "one input" in problem.claims[0].monotone.reason
    x = query.region.sample(50, torch.Generator().manual_seed(1))
    none = torch.zeros((50, 8), dtype=torch.bool)
    swapped = query.graph.evaluate(x, query.gates, none)[query.graph.output]
    assert torch.allclose(swapped, problem.model.graph(x[:, 1])), "with everything ablated it is the model on the second input"
    assert torch.equal(query.graph(x), problem.model.graph(x[:, 0]))


def test_boxes_hold_what_is_reached_and_closed_ones_more(tmp_path: Path) -> None:
    resampled, closed = (_problem(tmp_path, kind, WIDE) for kind in ("resample", "closed"))
    values = _values(resampled)
    for tight, wide in zip(resampled.claims[0].query.gates.gates, closed.claims[0].query.gates.gates, strict=True):
        seen = values[tight.tensor]
        assert bool((tight.patch.lower <= seen.amin(0)).all() and (seen.amax(0) <= tight.patch.upper).all())
        assert bool((wide.patch.lower <= tight.patch.lower).all() and (tight.patch.upper <= wide.patch.upper).all())
    assert torch.allclose(resampled.claims[0].query.gates.gates[0].patch.upper, values["act_0"].amax(0), atol=0.05)


@pytest.mark.parametrize(
    ("kind", "second", "widths", "known", "reason"),
    [
        ("closed", WIDE, (4, 4), True, "closed patching"),
        ("resample", WIDE, (4, 4), False, "act_0 is upstream of act_1"),
        ("resample", WIDE, (4,), True, "no component in scope is upstream"),
        ("resample", {"kind": "linf", "center": [0.0, 0.0, 0.0], "epsilon": 0.1}, (4,), False, "not shown to contain"),
        ("reachable", HERE, (4,), False, "no one input"),
    ],
)
def test_what_is_monotone(
    kind: str, second: dict[str, Any], widths: tuple[int, ...], known: bool, reason: str, tmp_path: Path
) -> None:
    said = _problem(tmp_path, kind, second, *widths).claims[0].monotone
    assert said.known == known and reason in said.reason


def test_boxes_are_monotone_where_they_are_closed(tmp_path: Path) -> None:
    model = random_net(tmp_path, 3, 4, 4, 2, seed=2)
    sites = ("act_0", "act_1")
    for most, known in ((50.0, True), (0.01, False)):
        upper = {"act_0": most, "act_1": 10 * most}
        given = {"kind": "box", "lower": dict.fromkeys(sites, 0.0), "upper": upper}
        said = asked(model, HERE, 0.5, patching=given).claims[0].monotone
        assert said.known == known and ("closed" in said.reason) == known
    assert not asked(model, HERE, 0.5).claims[0].monotone.known


@pytest.mark.parametrize(
    ("kind", "second", "message"),
    [
        ("closed", {"kind": "linf", "center": [0.0, 0.0, 0.0], "epsilon": 0.1}, "$.patching.closed: a region that does not"),
        ("resample", {"kind": "box", "lower": 1.0, "upper": 0.0}, "spec.yaml $.patching.resample: the region is empty"),
    ],
)
def test_refuses_regions(kind: str, second: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        _problem(tmp_path, kind, second)
    assert message in str(caught.value)


def test_a_region_for_each_claim_or_one_for_all(tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", x=np.random.default_rng(0).uniform(size=(3, 3)))
    center = {"file": str(tmp_path / "inputs.npz"), "array": "x"}
    each = {"kind": "linf", "center": {**center, "index": [0, 1, 2]}, "epsilon": 0.1}
    apart = _problem(tmp_path, "resample", each, 4, region=each)
    assert [bool(claim.monotone.known) for claim in apart.claims] == [True, True, True]
    one = _problem(tmp_path, "resample", WIDE, 4, region=each)
    assert len({id(claim.second) for claim in one.claims}) == 1
    two = {**each, "center": {**center, "index": [0, 1]}}
    with pytest.raises(InputError, match="2 regions; one for all, or one for each of the 3"):
        _problem(tmp_path, "resample", two, 4, region=each)


def test_what_lies_inside_what() -> None:
    center, one = torch.zeros((1, 3), dtype=torch.float64), torch.ones((1, 3), dtype=torch.float64)
    small, large = Box(center - 0.5, center + 0.5), Box(-one, one)
    ball, cut = Ball(center, 0.5, small), Ball(center, 0.25, Box(center - 0.25, center + 0.25))
    hull = Hull(torch.stack([center, one / 2]), torch.zeros_like(center))
    assert includes(large, small) and includes(large, ball) and includes(large, hull) and includes(ball, cut)
    assert includes(hull, hull) and includes(ball, Box(center, center))
    assert not includes(small, large) and not includes(cut, ball) and not includes(ball, small) and not includes(hull, small)
