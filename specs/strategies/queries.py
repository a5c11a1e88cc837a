"""Circuits and claims about a graph: gates, masks, margins, and whole queries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.gates import Gate, Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Shape
from bounds.query import Margins, Query
from bounds.region import Box
from bounds.twin import reaching
from specs.agreement import Agreement, Feature, LogitDifference, Logits, Output, Top1
from specs.margins import agreement_margins
from specs.strategies.graphs import graphs
from specs.strategies.numbers import tensors
from specs.strategies.regions import Kind, boxes, regions

__all__ = ["cases", "gates", "margins", "masks", "queries"]

_TOLERANCES = (1.0, 0.125, 16.0, 0.0)


@st.composite
def gates(draw: st.DrawFn, graph: Graph, max_gates: int = 3) -> Gates:
    """One to `max_gates` sites of the graph but its output, neuron by neuron or channel by channel, with patch boxes."""
    sites = [node for node in graph.nodes if node.site and node.name != graph.output]
    names = draw(st.lists(st.sampled_from([n.name for n in sites]), min_size=1, max_size=max_gates, unique=True))
    return Gates(tuple(_gate(draw, node) for node in sites if node.name in names))


def _gate(draw: st.DrawFn, node: Node) -> Gate:
    count, axis = math.prod(node.shape), node.channel_axis
    group, size = torch.arange(count).reshape(node.shape), count
    if axis is not None and draw(st.booleans()):
        size = node.shape[axis]
        line = torch.arange(size).reshape([size if i == axis else 1 for i in range(len(node.shape))])
        group = line.expand(node.shape).contiguous()
    zero = torch.zeros(node.shape, dtype=torch.float64)
    constant = tensors(node.shape, ("halves", "gaussian")).map(lambda value: Box(value, value))
    return Gate(node.name, group, size, draw(st.one_of(st.just(Box(zero, zero)), boxes(node.shape), constant)))


@st.composite
def masks(draw: st.DrawFn, gates: Gates, max_circuits: int = 3) -> Tensor:
    """A batch of circuits, True for kept: all, none, few ablated, few kept, any. Shape: `(circuits, gates.size)`."""
    return torch.stack([_mask(draw, gates.size) for _ in range(draw(st.integers(1, max_circuits)))])


def _mask(draw: st.DrawFn, size: int) -> Tensor:
    kind = draw(st.sampled_from(("few ablated", "any", "few kept", "all kept", "all ablated")))
    mask = torch.full((size,), kind in ("few ablated", "all kept"))
    if kind.startswith("few"):
        chosen = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=3))
        mask[chosen] = kind == "few kept"
    if kind == "any":
        mask = torch.rand(size, generator=torch.Generator().manual_seed(draw(st.integers(0, 999)))) < 0.5
    return mask


@st.composite
def margins(draw: st.DrawFn, shape: Shape) -> Margins:
    """What a claim of agreement demands of outputs of one shape: every metric and norm that a spec can name."""
    size, tolerance = math.prod(shape), draw(st.sampled_from(_TOLERANCES))
    records: list[Agreement] = [Logits(tolerance=tolerance), Logits(tolerance=tolerance, norm="l1")]
    records += [Logits(tolerance=tolerance, norm="l2"), Output(outputs=(0,), tolerance=tolerance)]
    records.append(Feature(metric="feature", site="y", element=0, below=tolerance, above=-0.75, tolerance=tolerance / 2))
    if size > 1:
        records += [LogitDifference(target=0, against=size - 1, tolerance=tolerance), Top1(tolerance=tolerance)]
    return agreement_margins(draw(st.sampled_from(records)), shape)


@st.composite
def queries(
    draw: st.DrawFn,
    of: st.SearchStrategy[Graph] | None = None,
    kinds: Sequence[Kind] = ("box", "ball", "hull", "tokens"),
    max_gates: int = 3,
    reachable: bool = True,
) -> Query:
    """A graph (one of `of`, or any), gates in it, a region of one of `kinds`, and a claim about its output.

    With `reachable` one in four takes its patched values from a second run, on inputs of another region of one of `kinds`.
    """
    graph = draw(graphs() if of is None else of)
    region = draw(regions(graph.input_shape, kinds))
    query = Query(graph, draw(gates(graph, max_gates)), region, draw(margins(graph.shape(graph.output))))
    return reaching(query, draw(regions(graph.input_shape, kinds))) if reachable and draw(st.integers(0, 3)) == 3 else query


@st.composite
def cases(draw: st.DrawFn, of: st.SearchStrategy[Query] | None = None, max_circuits: int = 3) -> tuple[Query, Tensor]:
    """A query and a batch of circuits to ask it about. Shape of the masks: `(circuits, gates.size)`."""
    query = draw(queries() if of is None else of)
    return query, draw(masks(query.gates, max_circuits))
