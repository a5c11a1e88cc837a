"""What a tensor's components are: positions, heads at positions, units, the whole layer; and that ablating one is just that."""

from __future__ import annotations

import pytest
import torch

from specs.errors import InputError
from specs.model import Model, model_from_module
from tests.residual import HEADS, INNER, POSITIONS, WIDTH, Blocks


@pytest.fixture(scope="module")
def model() -> Model:
    return model_from_module(Blocks(norm=True).eval(), torch.rand(1, POSITIONS, 2))


def test_positions_are_found_all_along_the_stream(model: Model) -> None:
    """What is fed one position at a time gives that position of every tensor cut into positions, but for what reads others."""
    sites = [site for site in model.sites() if "position" in site.granularities]
    assert len(sites) > 20 and all(site.granularities["position"] == POSITIONS for site in sites)
    x = torch.rand(2, 1, POSITIONS, 2, dtype=torch.float64)
    x[1] = x[0]
    x[1, :, 1] += 1.0
    early = [site.name for site in sites if site.shape == (1, POSITIONS, WIDTH)][:3]  # before attention mixes positions
    values = model.graph.evaluate(x, keep=frozenset(early))
    for name in early:
        changed = (values[name][0] != values[name][1]).flatten()
        group = model.group(name, "position")[0].flatten()
        assert set(group[changed].tolist()) == {1}


def test_units_are_all_positions_of_a_neuron(model: Model) -> None:
    inner = next(site for site in model.sites() if site.shape == (1, POSITIONS, INNER))
    assert inner.granularities["unit"] == INNER
    assert torch.equal(model.group(inner.name, "unit")[0], torch.arange(INNER).expand(1, POSITIONS, INNER))


def test_heads_at_positions_refine_both(model: Model) -> None:
    cut = [site for site in model.sites() if "head_position" in site.granularities]
    assert cut
    for site in cut:
        (both, count), (head, _), (position, _) = (model.group(site.name, g) for g in ("head_position", "head", "position"))
        assert count == HEADS * POSITIONS and torch.equal(both, head * POSITIONS + position)


def test_a_layer_is_one_component(model: Model) -> None:
    for site in model.sites():
        if "layer" in site.granularities:
            group, count = model.group(site.name, "layer")
            assert count == 1 and not bool(group.any())


def test_no_positions_without_attention() -> None:
    model = model_from_module(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)), torch.rand(1, 3)
    )
    assert all("position" not in site.granularities and "edge" not in site.granularities for site in model.sites())
    with pytest.raises(InputError, match="no granularity 'position'"):
        model.group("relu", "position")
