"""Which outputs can be a model's first."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from benchmarks.models.transformer import Transformer, written
from bounds import firsts as module
from bounds.build import Builder
from bounds.firsts import firsts
from bounds.graph import Graph
from bounds.ops import Relu
from bounds.region import Box
from bounds.tokens import Tokens
from specs.model import load_model


def _transformer(folder: Path, layers: int) -> Graph:
    torch.manual_seed(layers)
    onnx.save(written(Transformer(vocabulary=4, length=3, width=8, heads=2, layers=layers, hidden=8), "net"), folder / "n.onnx")
    return load_model("n.onnx", shown="n", where="", base=folder).graph


@pytest.mark.parametrize("layers", [2, 16])
def test_over_a_list_just_those_that_are_first(tmp_path: Path, layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = _transformer(tmp_path, layers)
    for rows in (1, 7):
        sequences = torch.randint(0, 4, (rows, 3), generator=torch.Generator().manual_seed(rows))
        region = Tokens(torch.ones((3, 4), dtype=torch.bool), graph.input_shape, sequences=sequences)
        found = firsts(graph, region)
        assert set(found) == set(graph(region.listed(0, rows)).flatten(1).argmax(1).tolist())
        # Point by point.
        assert firsts(graph, region, memory=0) == found
        # As over any other region.
        monkeypatch.setattr(module, "_FEW", 0)
        assert set(found) <= set(firsts(graph, region))
        monkeypatch.undo()


@pytest.mark.parametrize("radius", [1e-4, 0.3, 100.0])
def test_over_a_box_all_that_are_first(radius: float) -> None:
    g = torch.Generator().manual_seed(3)
    builder = Builder("x", (4,))
    hidden = builder.elementwise(Relu(), builder.dense("x", torch.randn(9, 4, generator=g).double(), name="a"), name="b")
    graph = builder.build(builder.dense(hidden, torch.randn(20, 9, generator=g).double(), name="y"))
    x = torch.randn(4, generator=g).double()
    found = firsts(graph, Box(x - radius, x + radius))
    seen = graph(x + radius * (2 * torch.rand(4000, 4, generator=g).double() - 1)).argmax(1)
    assert set(seen.tolist()) <= set(found)
    assert len(found) < 20 or radius == 100.0


def test_what_is_not_a_number_rules_nothing_out() -> None:
    builder = Builder("x", (3,))
    large = builder.scale("x", torch.tensor([1e308, 1.0, 2.0]).double(), name="large")
    graph = builder.build(builder.sum([builder.scale(large, torch.tensor(10.0), name="a"), "x"], name="y"))
    point = torch.tensor([1.0, 1.0, 1.0]).double()
    assert {0, 2} <= set(firsts(graph, Box(point, point)))
