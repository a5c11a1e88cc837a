"""From (Circuit, Spec, Model) to the queries that a backend is asked, and the names of what a witness shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.firsts import firsts
from bounds.gates import Gate, Gates
from bounds.graph import Graph
from bounds.ops.base import Shape
from bounds.query import Margins, Query
from bounds.region import Region
from specs.agreement import Feature, Top1
from specs.autoencoder import spliced
from specs.circuit import Circuit
from specs.document import jsonpath
from specs.edges import clash
from specs.errors import InputError
from specs.feature import observed
from specs.margins import agreement_margins, check_outputs, check_size
from specs.model import Model
from specs.monotone import Monotone, monotonicity
from specs.patches import patch_boxes
from specs.reach import patched_from, second_regions
from specs.sets import read_regions
from specs.spec import Spec
from specs.tokens import check_tokens

__all__ = ["Claim", "Component", "Problem", "encode", "encode_scope"]

Component = tuple[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """One region of a spec. `label` tells it from the others: `index 7`.

    `second` is the region that `reachable`, `resample` or `closed` patching takes activations from; `center` that of the
    region, where it has one.
    """

    label: str
    query: Query
    monotone: Monotone
    second: Region | None = None
    center: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """A spec about a model, ready to ask. `components` are in the order of mask columns; `mask` `(1, components)` is the
    circuit."""

    model: Model
    spec: Spec
    gates: Gates
    components: tuple[Component, ...]
    mask: Tensor
    claims: tuple[Claim, ...]

    def kept(self, mask: Tensor) -> dict[str, list[int]]:
        """Component indices that a mask row keeps, site by site."""
        found: dict[str, list[int]] = {gate.tensor: [] for gate in self.gates.gates}
        for (site, index), keep in zip(self.components, mask.flatten().tolist(), strict=True):
            if keep:
                found[site].append(index)
        return found


def encode(circuit: Circuit, spec: Spec, model: Model) -> Problem:
    """The question whether a circuit meets a spec.

    Raises: InputError: a site, granularity, index or output that the model does not have; values or regions that do not fit; a
    model that is misread on the spec's own inputs.
    """
    scope = {site: str(granularity) for site, granularity in circuit.scope.items()}
    model = spliced(model, circuit.model.splice or {}, file=circuit.file)
    problem = encode_scope(scope, spec, model, file=circuit.file, place="scope")
    parts: list[Tensor] = []
    for gate in problem.gates.gates:
        parts.append(_mask(circuit, gate))
    mask = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)
    return replace(problem, mask=mask.unsqueeze(0))


def encode_scope(scope: Mapping[str, str], spec: Spec, model: Model, *, file: str, place: str = "scope") -> Problem:
    """The question with everything in `scope` (site to granularity) kept: where a search starts. `file` and its key `place`
    state the scope. Of a feature, the problem's model is the one that ends in it. Raises: InputError: as `encode`."""
    groups = {
        site: model.group(site, granularity, shown=file, where=jsonpath((place, site))) for site, granularity in scope.items()
    }
    if not groups:
        raise InputError(file, jsonpath((place,)), "no sites", "at least one", "`certify show MODEL` lists them")
    if (pair := clash(model.graph, scope)) is not None:
        said = f"it lies between {pair[1]}, which is in scope by edges, and their producers"
        raise InputError(file, jsonpath((place, pair[0])), said, "the one or the other", f"leave out {pair[0]}")
    edges = [site for site, granularity in scope.items() if granularity == "edge"]
    if isinstance(spec.agreement, Feature) and spec.agreement.site in edges:
        said = f"site {spec.agreement.site}, which is in scope by edges"
        raise InputError(spec.file, "$.agreement.site", said, "a site whose own values are seen", "name another one")
    plain, model = model.graph, model.read_by_edges(edges)
    if isinstance(spec.agreement, Feature):
        model = observed(model, spec.agreement, groups, file=spec.file)
    graph = model.graph
    check_outputs(spec.agreement, graph.shape(graph.output), file=spec.file)
    boxes = patch_boxes(spec.patching, graph, groups, model.dtype, file=spec.file)
    ordered = [node.name for node in graph.nodes if node.name in groups]
    gates = Gates(tuple(Gate(site, *groups[site], boxes[site]) for site in ordered))
    components = tuple((gate.tensor, i) for gate in gates.gates for i in range(gate.size))
    regions = read_regions(spec.input, graph.input_shape, model.dtype, file=spec.file, where="$.input")
    seconds = second_regions(spec.patching, model, len(regions), file=spec.file)
    claims: list[Claim] = []
    for (label, region, center), second in zip(regions, seconds, strict=True):
        check_tokens(region, model.tokens, file=spec.file, where="$.input")
        box = region.box()
        model.check(box.lower, box.upper)
        query = Query(graph, gates, region, _margins(spec, graph.shape(graph.output), plain, region))
        if second is not None:
            query = patched_from(spec.patching, query, second, file=spec.file)
        claims.append(Claim(label, query, monotonicity(spec.patching, query, second), second, center))
    return Problem(model, spec, gates, components, torch.ones((1, len(components)), dtype=torch.bool), tuple(claims))


def _mask(circuit: Circuit, gate: Gate) -> Tensor:
    kept = circuit.kept[gate.tensor]
    mask = torch.zeros(gate.size, dtype=torch.bool)
    if kept == "all":
        return ~mask
    if kept == "none":
        return mask
    for i, index in enumerate(kept):
        if index >= gate.size:
            raise InputError(
                circuit.file, jsonpath(("kept", gate.tensor, i)), f"component {index}", f"site {gate.tensor} has {gate.size}",
                f"use 0..{gate.size - 1}",
            )  # fmt: skip
        mask[index] = True
    return mask


def _margins(spec: Spec, shape: Shape, graph: Graph, region: Region) -> Margins:
    """The margins of a claim about outputs of `shape`; `graph` is the model before any consumer is given a sum of its own."""
    if not isinstance(spec.agreement, Top1):
        return agreement_margins(spec.agreement, shape)
    tops = firsts(graph, region)
    check_size(spec.agreement, shape, len(tops), file=spec.file)
    return agreement_margins(spec.agreement, shape, tops)
