"""Attack, pool and replay: planted violations are found, and nothing counts that the original model does not show."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.region import Ball, Box, Hull, Region
from specs.encode import Problem
from specs.models.runtime import NOTHING, Array, Intervention, Runtime
from tests.nets import asked, net, random_net
from verify.witness.attack import Found, attack
from verify.witness.falsify import Replay, replay, witness_of
from verify.witness.pool import Points, WitnessPool, circuit_outputs
from verify.witness.space import space_of

Weights = NDArray[Any]


def _without(problem: Problem, *ablated: int) -> Tensor:
    mask = torch.ones((1, problem.gates.size), dtype=torch.bool)
    mask[0, list(ablated)] = False
    return mask


def _replay(problem: Problem, mask: Tensor, found: Found) -> Replay:
    seen = replay(problem, problem.claims[0], mask[0], found.points)
    assert seen is not None
    return seen


BOX = {"kind": "box", "lower": 0.0, "upper": 1.0}


@pytest.mark.parametrize(("activation", "most"), [("Sigmoid", 1 / (1 + np.exp(-0.5))), ("Relu", 0.5)])
def test_finds_a_violation_in_one_corner(tmp_path: Path, activation: str, most: float) -> None:
    """The ablated neuron is on only close to one corner of 24 dimensions: sampling has no chance. Descent has, and for a ReLU,
    whose margin is flat anywhere else, the descent on what it reads."""
    corner = np.random.default_rng(0).integers(0, 2, 24) * 2.0 - 1
    model = net(tmp_path, [([corner], [0.5 - (corner > 0).sum()]), ([[1.0]], [1.0])], activation)
    problem = asked(model, BOX, most - 0.02)
    query, mask = problem.claims[0].query, _without(problem, 0)
    sampled = Points(query.region.sample(4000, torch.Generator().manual_seed(0)), {})
    assert bool((query.margins.at(circuit_outputs(query, sampled, mask), query.graph(sampled.x)) > 0).all())
    seen = _replay(problem, mask, attack(query, mask, seed=0))
    assert seen.violated and most - 0.02 < seen.witness.deviation < most + 1e-5
    assert bool((abs(seen.witness.input[0] - (corner > 0)) < 0.2).all())


def test_inputs_and_patches_move_together(tmp_path: Path) -> None:
    """`|f_C - f_G|` is 3 only where the input and both patch values are at the right ends, all at once."""
    model = net(tmp_path, [(np.eye(2), [0.0, 0.0]), ([[1.0, -1.0], [0.0, 0.5]], [0.0, 0.0])])
    region = {"kind": "box", "lower": [0.25, 0.25], "upper": [1.0, 1.0]}
    bounds = {"kind": "box", "lower": {"act_0": [0.0, -1.0]}, "upper": {"act_0": [2.5, 2.0]}}
    problem = asked(model, region, 4.2, patching=bounds)
    mask = _without(problem, 0, 1)
    found = attack(problem.claims[0].query, mask, seed=0)
    seen = _replay(problem, mask, found)
    assert seen.violated and seen.witness.deviation == pytest.approx((2.5 + 1) - (0.25 - 1), abs=1e-5)
    assert seen.witness.patch["act_0"].tolist() == [[2.5, -1.0]] and seen.witness.input.tolist() == [[0.25, 1.0]]
    assert float(found.margin) == pytest.approx(4.2 - 4.25)
    low = _replay(problem, _without(problem, 0), attack(problem.claims[0].query, _without(problem, 0), seed=0))
    assert not low.violated, "a kept component is not patched"


@pytest.mark.parametrize(
    "agreement",
    [{}, {"norm": "l1"}, {"norm": "l2"}, {"metric": "logit_difference", "target": 0, "against": 1}, {"metric": "top1"}],
    ids=str,
)
def test_no_worse_than_a_dense_grid(tmp_path: Path, agreement: Mapping[str, Any]) -> None:
    model = random_net(tmp_path, 2, 12, 8, 3, seed=3)
    problem = asked(model, {"kind": "box", "lower": -1.0, "upper": 1.0}, agreement=agreement)
    query = problem.claims[0].query
    line = torch.linspace(-1, 1, 101, dtype=torch.float64)
    grid = Points(torch.cartesian_prod(line, line).unsqueeze(1), {})
    random = torch.Generator().manual_seed(0)
    masks = torch.rand((4, problem.gates.size), generator=random) < 0.6
    found = attack(query, masks, seed=0, restarts=32, steps=80)
    for mask, point, margin in zip(masks.split(1), found.points.x.split(1), found.margin.tolist(), strict=True):
        least = float(query.margins.at(circuit_outputs(query, grid, mask), query.graph(grid.x)).min())
        at = query.margins.at(circuit_outputs(query, Points(point, {}), mask), query.graph(point))
        assert margin == pytest.approx(float(at)) and query.region.contains(point[0])
        # Refuted circuits are left alone once they are refuted by more than rounding.
        assert margin < 0 if least < -1e-3 else margin <= least + 1e-9


def test_identical_circuits_are_never_refuted(tmp_path: Path) -> None:
    model = random_net(tmp_path, 6, 16, 16, 4)
    box = {"kind": "box", "lower": {"act_0": -1, "act_1": -1}, "upper": {"act_0": 1, "act_1": 1}}
    for agreement in ({}, {"norm": "l2"}, {"metric": "top1"}):
        problem = asked(model, BOX, patching=box, agreement=agreement)
        found = attack(problem.claims[0].query, problem.mask, seed=0, restarts=8, steps=10)
        assert float(found.margin) >= 0 if agreement.get("metric") == "top1" else float(found.margin) == 0
        assert witness_of(problem, problem.claims[0], problem.mask[0], found.points) is None


class _Noisy(Runtime):
    """An original whose interventions round otherwise than the model, as a runtime that fuses operators may."""

    def __init__(self, original: Runtime, noise: float) -> None:
        self.original, self.noise = original, noise

    def outputs(self, x: Array) -> Array:
        return self.original.outputs(x)

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        return self.original.activations(x, sites, under)

    def intervened(self, x: Array, under: Intervention) -> Array:
        return self.original.intervened(x, under) + np.float32(self.noise)


def test_what_only_the_runtimes_rounding_shows_is_no_violation(tmp_path: Path) -> None:
    problem = asked(random_net(tmp_path, 4, 8, 3), BOX)
    noisy = replace(problem, model=replace(problem.model, runtime=_Noisy(problem.model.runtime, 1e-6)))
    seen = replay(noisy, noisy.claims[0], noisy.mask[0], Points(noisy.claims[0].query.region.box().center.unsqueeze(0), {}))
    assert seen is not None and seen.witness.deviation > 0 and not seen.violated and seen.margin == 0


def test_what_vanishes_in_the_models_precision_is_no_witness(tmp_path: Path) -> None:
    """`f = 1e8 + relu(x)`: float64 sees the ablated neuron's 1; float32, in which the model runs, does not (its ulp is 8)."""
    model = net(tmp_path, [([[1.0]], [0.0]), ([[1.0]], [1e8])])
    problem = asked(model, BOX, 0.5)
    mask = _without(problem, 0)
    found = attack(problem.claims[0].query, mask, seed=0)
    assert float(found.margin) < -0.4, "a violation in float64"
    seen = _replay(problem, mask, found)
    assert seen.margin < 0 and seen.witness.deviation == 0 and not seen.violated
    assert witness_of(problem, problem.claims[0], mask[0], found.points) is None


def test_what_the_runtime_does_not_show_is_no_witness(tmp_path: Path) -> None:
    """Our graph says 1, the original 1/4: within the tolerance of 1/2, whatever ours says."""
    problem = asked(net(tmp_path, [([[1.0]], [0.0]), ([[1.0]], [0.0])]), BOX, 0.5)
    other = replace(problem, model=replace(problem.model, runtime=_Noisy(problem.model.runtime, 0.75)))
    one = Points(torch.ones((1, 1, 1), dtype=torch.float64), {})
    seen = replay(other, other.claims[0], _without(problem, 0)[0], one)
    assert seen is not None and seen.margin == -0.5 and seen.witness.deviation == 0.25 and not seen.violated


def test_a_witness_is_what_the_original_shows(tmp_path: Path) -> None:
    model = random_net(tmp_path, 5, 10, 6, 4)
    problem = asked(model, {"kind": "linf", "center": 0.3, "epsilon": 0.1}, 0.01)
    claim, mask = problem.claims[0], _without(problem, 1, 2, 3, 11)
    witness = witness_of(problem, claim, mask[0], attack(claim.query, mask, seed=0).points)
    assert witness is not None and witness.input.dtype == np.float32 and witness.input.shape == (1, 5)
    assert claim.query.region.contains(torch.from_numpy(witness.input).double())
    assert np.array_equal(witness.model_output, model.runtime.outputs(witness.input))
    assert witness.deviation == float(np.abs(witness.circuit_output.astype(float) - witness.model_output.astype(float)).max())
    assert witness.deviation > 0.01
    assert set(witness.patch) == {"act_0", "act_1"} and witness.patch["act_1"].shape == (1, 6)


def test_points_that_no_float32_can_state_are_refused(tmp_path: Path) -> None:
    """Between 1 and its float32 successor there is no input of the model."""
    problem = asked(random_net(tmp_path, 2, 4, 2), BOX)
    ulp = 2.0**-23
    narrow = Box(torch.full((1, 2), 1 + ulp / 4, dtype=torch.float64), torch.full((1, 2), 1 + ulp / 2, dtype=torch.float64))
    claim = replace(problem.claims[0], query=replace(problem.claims[0].query, region=narrow))
    mask = _without(problem, 0, 1, 2, 3)
    assert replay(problem, claim, mask[0], Points(narrow.center.unsqueeze(0), {})) is None


def test_patches_that_no_float32_can_state_are_refused(tmp_path: Path) -> None:
    problem = asked(random_net(tmp_path, 2, 1, 2), BOX)
    third = torch.full((1, 1), 1 / 3, dtype=torch.float64)
    gates = replace(problem.gates, gates=(replace(problem.gates.gates[0], patch=Box(third, third)),))
    claim = replace(problem.claims[0], query=replace(problem.claims[0].query, gates=gates))
    point = Points(torch.full((1, 1, 2), 0.5, dtype=torch.float64), {})
    assert replay(problem, claim, _without(problem, 0)[0], point) is None
    assert replay(problem, claim, problem.mask[0], point) is not None, "kept components take no patch value"


@pytest.mark.parametrize("kind", ["l2", "hull", "linf"])
def test_replayed_inputs_lie_in_the_region(tmp_path: Path, kind: str) -> None:
    """Also where the worst points lie on the boundary, where rounding to float32 would step outside."""
    model = random_net(tmp_path, 40, 12, 3)
    points = np.random.default_rng(2).random((4, 40))
    center = points[0].tolist()
    regions: dict[str, dict[str, Any]] = {
        "l2": {"kind": "l2", "center": center, "epsilon": 0.01},
        "linf": {"kind": "linf", "center": center, "epsilon": 0.01},
        "hull": {"kind": "hull", "points": points.tolist()},
    }
    problem = asked(model, regions[kind])
    claim, random = problem.claims[0], torch.Generator().manual_seed(0)
    masks = torch.rand((5, problem.gates.size), generator=random) < 0.7
    found = attack(claim.query, masks, seed=1)
    for i, mask in enumerate(masks):
        seen = replay(problem, claim, mask, found.points[i : i + 1])
        assert seen is not None and claim.query.region.contains(torch.from_numpy(seen.witness.input).double())
        assert seen.margin == pytest.approx(float(found.margin[i]), abs=1e-4)


def test_points_of_a_sphere_are_pulled_inside(tmp_path: Path) -> None:
    """In many dimensions rounding to float32 leaves a small ball: the nearest inputs are not in it, nearby ones are."""
    problem = asked(random_net(tmp_path, 400, 4, 2), {"kind": "l2", "center": 0.7, "epsilon": 1e-3})
    region, random = problem.claims[0].query.region, torch.Generator().manual_seed(0)
    assert isinstance(region, Ball)
    step = torch.randn((20, 1, 400), generator=random, dtype=torch.float64)
    sphere = region.center + region.radius * step / step.flatten(1).norm(dim=1).reshape(-1, 1, 1)
    assert not all(region.contains(x.double()) for x in sphere.float()), "merely rounded, some are outside"
    for x in sphere.split(1):
        seen = replay(problem, problem.claims[0], problem.mask[0], Points(x, {}))
        assert seen is not None and region.contains(torch.from_numpy(seen.witness.input).double())
        assert np.abs(seen.witness.input - x[0].numpy()).max() < 1e-5


def test_networks_without_a_gradient_are_sampled(tmp_path: Path) -> None:
    model = random_net(tmp_path, 3, 8, 2, activation="Sign")
    problem = asked(model, {"kind": "box", "lower": -1.0, "upper": 1.0}, 0.1)
    query = problem.claims[0].query
    masks = torch.cat([_without(problem, i) for i in range(8)])
    found = attack(query, masks, seed=0)
    assert bool((found.margin < 0).all()), "every sign is -1 or 1 somewhere, and its weight is not zero"


def test_a_thin_slice_without_a_gradient_is_found(tmp_path: Path) -> None:
    """Two signs differ on 1/250 of the interval: rows that have nothing to descend keep looking."""
    model = net(tmp_path, [([[1.0], [1.0]], [-0.601, -0.605]), ([[1.0, -1.0]], [0.0])], "Sign")
    problem = asked(model, BOX, 1.0)
    found = attack(problem.claims[0].query, _without(problem, 0, 1), seed=0, steps=200)
    assert float(found.margin) == -1.0


def test_a_seed_repeats_the_run_and_circuits_do_not_disturb_each_other(tmp_path: Path) -> None:
    model = random_net(tmp_path, 6, 16, 4)
    problem = asked(model, BOX, 10.0)
    masks = torch.rand((4, problem.gates.size), generator=torch.Generator().manual_seed(0)) < 0.5
    first, again = (attack(problem.claims[0].query, masks, seed=3) for _ in range(2))
    assert torch.equal(first.margin, again.margin) and torch.equal(first.points.x, again.points.x)
    turned = attack(problem.claims[0].query, masks.flip(0), seed=3)
    assert turned.margin.shape == (4,) and bool(((turned.margin - first.margin.flip(0)).abs() < 0.2).all())


def test_starts_are_never_lost(tmp_path: Path) -> None:
    """A point handed in is looked at first, so what is found is at least as bad."""
    problem = asked(random_net(tmp_path, 6, 16, 4), BOX, 10.0)
    query, mask = problem.claims[0].query, _without(problem, *range(8))
    best = attack(query, mask, seed=0, restarts=64, steps=100)
    short = attack(query, mask, seed=5, restarts=2, steps=1, starts=best.points)
    assert float(short.margin) <= float(best.margin) + 1e-12


def test_time_that_is_up_still_gives_an_answer(tmp_path: Path) -> None:
    problem = asked(random_net(tmp_path, 6, 16, 4), BOX)
    masks = torch.zeros((3, problem.gates.size), dtype=torch.bool)
    found = attack(problem.claims[0].query, masks, seed=0, expired=lambda: True)
    assert found.margin.shape == (3,) and len(found.points) == 3 and bool((found.margin <= 0).all())


def test_outputs_that_are_not_finite_show_nothing(tmp_path: Path) -> None:
    model = random_net(tmp_path, 3, 4, 2)
    problem = asked(model, BOX)
    claim = replace(problem.claims[0], query=replace(problem.claims[0].query, region=Box(*torch.full((2, 1, 3), torch.nan))))
    claim = replace(claim, query=replace(claim.query, region=Box(*torch.full((2, 1, 3), torch.nan, dtype=torch.float64))))
    found = attack(claim.query, problem.mask, seed=0, restarts=4, steps=4)
    assert bool((found.margin == torch.inf).all())


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = asked(random_net(tmp_path, 6, 16, 4), BOX, 0.1)
    query, random = problem.claims[0].query, torch.Generator().manual_seed(0)
    masks = torch.rand((7, problem.gates.size), generator=random) < 0.5
    pool = WitnessPool()
    pool.add(Points(query.region.sample(9, random), {}))
    whole = pool.evaluate(query, masks)
    monkeypatch.setattr("verify.witness.pool._BUDGET_BYTES", 4000)
    assert torch.allclose(pool.evaluate(query, masks), whole, atol=1e-12)
    attack(query, masks, seed=0, restarts=4, steps=4)


def test_pool_holds_what_refutes(tmp_path: Path) -> None:
    problem = asked(random_net(tmp_path, 6, 16, 4), BOX, 0.1)
    query, random = problem.claims[0].query, torch.Generator().manual_seed(0)
    masks = torch.cat([torch.rand((7, problem.gates.size), generator=random) < 0.5, problem.mask])
    pool = WitnessPool(limit=6)
    assert len(pool) == 0 and pool.points is None and pool.evaluate(query, masks).shape == (0, 8)
    x = query.region.sample(5, random)
    pool.add(Points(x, {}))
    margins = pool.evaluate(query, masks)
    assert margins.shape == (5, 8) and bool((margins[:, -1] == 0.1).all())
    for i in range(5):
        for j in range(8):
            at = query.margins.at(circuit_outputs(query, Points(x[i : i + 1], {}), masks[j : j + 1]), query.graph(x[i : i + 1]))
            assert float(margins[i, j]) == pytest.approx(float(at))
    hits = (margins < 0).sum(1)
    more = query.region.sample(6, random)
    pool.add(Points(more, {}))
    assert len(pool) == 6 and pool.points is not None
    for i in range(5):
        assert bool((pool.points.x == x[i]).flatten(1).all(1).any()) == bool(hits[i] > 0), "what never refuted goes first"
    with pytest.raises(ValueError, match="at least one"):
        WitnessPool(limit=0)


@pytest.mark.parametrize("kind", ["box", "ball", "hull"])
def test_steps_stay_inside_and_go_downhill(kind: str) -> None:
    random = torch.Generator().manual_seed(0)
    low = torch.zeros((1, 5), dtype=torch.float64)
    region: Region = Box(low, low + 1)
    if kind == "ball":
        region = Ball(low + 0.9, 0.5, Box(low + 0.4, low + 1))
    if kind == "hull":
        region = Hull(torch.rand((4, 1, 5), generator=random, dtype=torch.float64), torch.full((1, 5), 1e-6).double())
    space, slope = space_of(region), torch.randn((1, 5), generator=random, dtype=torch.float64)
    z = space.sample(20, random)
    for size in (0.5, 0.1, 0.1, 0.02, 0.02, 0.005) * 6:
        z = z.detach().requires_grad_()
        before = (space.point(z) * slope).sum((1, 2))
        (gradient,) = torch.autograd.grad(before.sum(), z)
        z = space.step(z.detach(), gradient, size)
    least = (space.point(space.sample(20000, random)) * slope).sum((1, 2)).min()
    assert bool(((space.point(z) * slope).sum((1, 2)) < least + 0.05).all())
    for x in space.point(z):
        assert bool((x >= region.box().lower - 1e-12).all() and (x <= region.box().upper + 1e-12).all())
        assert kind != "ball" or float((x - 0.9).norm()) <= 0.5 + 1e-12
        assert kind != "hull" or region.contains(x)
    assert torch.allclose(space.point(space.locate(space.point(z))), space.point(z), atol=1e-6)
