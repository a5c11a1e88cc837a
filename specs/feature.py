"""Features as quantities: the model cut off at a site, where a direction reads its activations."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from bounds.build import Builder
from bounds.graph import Graph, Node
from specs.agreement import Feature
from specs.arrays import resolve
from specs.errors import InputError, nearest
from specs.model import Model
from specs.models.runtime import NOTHING, Array, Intervention, Runtime
from specs.sets import as_received

__all__ = ["observed"]

_WHERE = "$.agreement"


def observed(model: Model, record: Feature, gated: Collection[str], *, file: str) -> Model:
    """The model whose outputs are the values of a feature: `direction . a(x)` at a site, one for each position asked for.

    In a circuit's run the feature reads what readers of the site see: where the site is in scope itself, patched values too.
    `gated` are the sites in scope, which stay in the graph with what is upstream of them. Directions are rounded to the model's
    precision. Guarantees: the runtime's values are those of the original's own activations, multiplied and added exactly and
    rounded once. Shapes: outputs `(positions, 1)`. Raises: InputError: no such site, element or position; a direction that does
    not fit.
    """
    site = record.site
    known = {node.name: node for node in model.graph.nodes if node.site}
    if site not in known:
        said = f"the model has no site {site!r}"
        raise InputError(file, f"{_WHERE}.site", said, nearest(site, known), "`certify show MODEL` lists the sites")
    rows, weights = _read(record, known[site], model.dtype, file)
    graph = _cut(model.graph, site, rows, weights, gated)
    return replace(model, graph=graph, runtime=_Observed(model.runtime, site, rows, weights), dropped_softmax=False)


def _read(record: Feature, node: Node, dtype: torch.dtype, file: str) -> tuple[Tensor, Tensor]:
    """Flat positions `(positions, k)` of the elements that are read at a site, and their weights `(k,)`."""
    shape = node.shape
    axis = len(shape) - 1 if node.channel_axis is None else node.channel_axis
    width = shape[axis]
    if record.direction is None:
        assert record.element is not None
        if record.element >= width:
            said = f"site {record.site} of shape {list(shape)} has {width} along its axis {axis}"
            raise InputError(file, f"{_WHERE}.element", f"element {record.element}", said, f"use 0..{width - 1}")
        chosen, weights = torch.tensor([record.element]), torch.ones(1, dtype=torch.float64)
    else:
        where = f"{_WHERE}.direction"
        direction = as_received(resolve(record.direction, file=file, where=where), dtype, file=file, where=where).flatten()
        if len(direction) != width:
            said = f"site {record.site} of shape {list(shape)} has features of {width} numbers, along its axis {axis}"
            raise InputError(file, where, f"{len(direction)} numbers", said)
        chosen = direction.nonzero().flatten()
        if not len(chosen):
            raise InputError(file, where, "a direction of zeros", "a number other than 0")
        weights = direction[chosen]
    flat = torch.arange(math.prod(shape)).reshape(shape).movedim(axis, -1).reshape(-1, width)
    lead = [n for i, n in enumerate(shape) if i != axis][1 if axis > 0 and shape[0] == 1 else 0 :]
    if record.at is not None:
        flat = flat[_place(record, lead, file)].unsqueeze(0)
    return flat[:, chosen], weights


def _place(record: Feature, lead: list[int], file: str) -> int:
    """The row that `at` names among the positions of a site, of which `lead` says how many there are along each axis."""
    assert record.at is not None
    if len(record.at) != len(lead):
        said = f"site {record.site} has {len(lead)} axes of positions, of lengths {lead}"
        raise InputError(file, f"{_WHERE}.at", f"{len(record.at)} indices", said, "leave `at` out for every position")
    for i, (index, length) in enumerate(zip(record.at, lead, strict=True)):
        if index >= length:
            raise InputError(file, f"{_WHERE}.at[{i}]", f"position {index}", f"there are {length}", f"use 0..{length - 1}")
    return int(np.ravel_multi_index(record.at, lead)) if lead else 0


def _cut(graph: Graph, site: str, rows: Tensor, weights: Tensor, gated: Collection[str]) -> Graph:
    """The graph that ends in the feature, without what neither it nor a gate depends on."""
    reader = Builder(site, graph.shape(site))
    name = f"{site}.feature"
    while name in graph.node:
        name += "'"
    # The tensor between is ours too; a name of the model's own is never a prefix of it with this ending.
    reader.dense(reader.take(site, rows, name=f"{name}.read"), weights.unsqueeze(0), name=name)
    added = [replace(node, site=False) for node in reader.build(name).nodes]
    wanted = {site, *gated}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    nodes = (*reversed(kept), *added)
    return Graph(graph.input, graph.input_shape, nodes, name, graph.dtype, graph.device)


class _Observed(Runtime):
    """The original's own activations at a site, read along a direction."""

    def __init__(self, original: Runtime, site: str, rows: Tensor, weights: Tensor) -> None:
        self._original, self._site, self._rows = original, site, rows.numpy()
        self._weights = [Fraction(w) for w in weights.tolist()]

    def outputs(self, x: Array) -> Array:
        return self._feature(self._original.activations(x, [self._site])[self._site])

    def intervened(self, x: Array, under: Intervention) -> Array:
        value = self._original.activations(x, [self._site], under)[self._site]
        return self._feature(under.shown(self._site, value).astype(value.dtype, copy=False))

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        return self._original.activations(x, sites, under)

    def _feature(self, activations: Array) -> Array:
        read = activations.reshape(-1)[self._rows].astype(np.float64)
        if not np.isfinite(read).all():
            return np.full((len(read), 1), np.nan)
        sums = [sum(w * Fraction(a) for w, a in zip(self._weights, row, strict=True)) for row in read.tolist()]
        return np.asarray([[float(value)] for value in sums])
