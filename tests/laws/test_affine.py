"""Every affine operator is what it says it is."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st

import bounds.ops
from bounds.build import Builder
from bounds.graph import Graph, Node
from bounds.ops.base import Affine
from specs.strategies import describe, graphs
from tests.laws.affine import check_affine, check_terms
from tests.laws.examples import collect, subclasses


@cache
def _nodes() -> dict[type, list[tuple[Graph, Node]]]:
    """Nodes of random graphs by operator."""
    found: dict[type, list[tuple[Graph, Node]]] = {}
    for graph in collect(graphs(), 300):
        for node in graph.nodes:
            found.setdefault(type(node.op), []).append((graph, node))
    return found


@pytest.mark.parametrize("cls", subclasses(bounds.ops, Affine), ids=lambda cls: cls.__name__)
def test_every_affine_operator(cls: type[Affine]) -> None:
    nodes = _nodes().get(cls, [])
    assert nodes, f"specs.strategies makes no graph with {cls.__name__}: give it a block in specs/strategies/graphs.py"
    for seed, (graph, node) in enumerate(nodes[:60]):
        check_affine(graph, node, seed)


@given(graphs(), st.integers(0, 99))
def test_affine_operators_of_any_graph(graph: Graph, seed: int) -> None:
    note(describe(graph))
    for node in graph.nodes:
        if isinstance(node.op, Affine):
            check_affine(graph, node, seed)


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_large_enough_for_fast_kernels_round_like_sums(stride: int) -> None:
    """Winograd and FFT kernels would break `gamma`; libraries choose them by size."""
    weight = torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    builder = Builder("x", (1, 16, 12, 12))
    builder.conv("x", weight, None, (stride, stride), (1, 1), name="y")
    graph = builder.build("y")
    check_terms(graph, graph.node["y"], 0)
