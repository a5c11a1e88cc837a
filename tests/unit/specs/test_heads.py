"""Heads are found wherever a tensor is cut into them, and nowhere else; ablating one is ablating its part of the sum."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from specs.errors import InputError
from specs.model import Model, model_from_module


class Attention(nn.Module):
    """Two heads of three dimensions over four positions, beside a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v, self.o = (nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).reshape(1, 4, 2, 3).transpose(1, 2) for part in (self.q, self.k, self.v))
        head = torch.softmax(q @ k.transpose(-1, -2) * 0.5, -1) @ v
        return (x + self.o(head.transpose(1, 2).reshape(1, 4, 6))).relu()[:, -1]


@pytest.fixture(scope="module")
def model() -> Model:
    return model_from_module(Attention(), torch.rand(1, 4, 5))


def test_heads_from_queries_to_the_projection(model: Model) -> None:
    found = {site.name: site.granularities["head"] for site in model.sites() if "head" in site.granularities}
    assert set(found.values()) == {2}
    shapes = {site.shape for site in model.sites() if site.name in found}
    assert {(1, 4, 6), (1, 2, 4, 4), (1, 2, 4, 3)} <= shapes
    assert (1, 4, 5) not in shapes  # neither the input's stream nor the projection's output
    dense = [site for site in model.sites() if site.shape == (1, 4, 6) and site.name in found]
    assert len(dense) >= 4  # queries, keys, values, and what the projection reads


def test_the_group_of_an_element_is_its_head(model: Model) -> None:
    for site in model.sites():
        if site.shape == (1, 4, 6):
            group, count = model.group(site.name, "head")
            assert count == 2 and torch.equal(group, (torch.arange(6) // 3).expand(1, 4, 6))
        if site.shape == (1, 2, 4, 4):
            assert torch.equal(model.group(site.name, "head")[0], torch.arange(2).reshape(1, 2, 1, 1).expand(1, 2, 4, 4))


def test_no_heads_elsewhere(model: Model) -> None:
    last = [site for site in model.sites() if "head" not in site.granularities][-1]
    with pytest.raises(InputError, match="no granularity 'head'"):
        model.group(last.name, "head")
