"""Heads are found wherever a tensor is cut into them, and nowhere else; ablating one is ablating its part of the sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from specs.errors import InputError
from specs.model import Model, model_from_module
from specs.models.runtime import Intervention


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


class Fused(nn.Module):
    """As GPT-NeoX: queries, keys and values in one projection, head by head; the first two of four numbers of a query and a key
    turn with their position; PyTorch's own attention, masked."""

    def __init__(self, mask: Tensor | None = None) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.qkv, self.o = nn.Linear(5, 24), nn.Linear(8, 5)
        angle = torch.arange(4).unsqueeze(1).repeat(1, 2)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())
        self.register_buffer("mask", torch.ones(4, 4).tril().bool() if mask is None else mask)

    def turned(self, x: Tensor) -> Tensor:
        first, rest = x[..., :2], x[..., 2:]
        other = torch.cat([-first[..., 1:], first[..., :1]], dim=-1)
        return torch.cat([first * self.cos + other * self.sin, rest], dim=-1)  # type: ignore[operator]

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(1, 4, 2, 12).transpose(1, 2).chunk(3, dim=-1)
        z = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, attn_mask=self.mask)  # type: ignore[arg-type]
        return (x + self.o(z.transpose(1, 2).reshape(1, 4, 8)))[:, -1]


def test_heads_of_what_is_read_in_parts() -> None:
    """Queries that turn in part only have heads, the fused projection has none; ablated heads are ablated in PyTorch too."""
    module = Fused().eval()
    fused = model_from_module(module, torch.rand(1, 4, 5))
    found = {site.name: site for site in fused.sites() if "head" in site.granularities}
    assert sum(site.shape == (1, 2, 4, 4) for site in found.values()) >= 6
    assert not any(24 in site.shape for site in found.values())
    x = torch.rand(1, 4, 5, generator=torch.Generator().manual_seed(0))
    last = [site for site in found.values() if site.shape == (1, 4, 8)][-1]
    kept = torch.arange(8).expand(1, 4, 8) < 4
    weights = module.o.weight.clone()
    with torch.no_grad():
        module.o.weight[:, 4:] = 0
        expected = module(x)
        module.o.weight.copy_(weights)
    run = fused.runtime.intervened(x.numpy(), Intervention({last.name: kept.numpy()}, {last.name: np.zeros((1, 4, 8))}))
    assert np.allclose(run, expected.numpy(), atol=1e-6)


def test_a_row_that_is_masked_out_as_a_whole_is_refused() -> None:
    """Its softmax is no number, and PyTorch's attention makes it 0."""
    mask = torch.ones(4, 4).tril().bool()
    mask[2] = False
    with pytest.raises(InputError, match="masked out as a whole"):
        model_from_module(Fused(mask).eval(), torch.rand(1, 4, 5))
