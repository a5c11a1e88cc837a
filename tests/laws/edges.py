"""Laws of edges: a graph that is read edge by edge is what path patching by hand is, and is bounded soundly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bounds.backends.native import Native
from bounds.build import Builder
from bounds.gates import Gate, Gates
from bounds.graph import Graph
from bounds.narrow import apart, narrowed
from bounds.ops import Relu
from bounds.query import Query
from bounds.region import Box
from bounds.stream import Read, rewired
from bounds.twin import reaching
from specs import edges
from specs import patching as records
from specs.agreement import Logits
from specs.margins import agreement_margins
from specs.reach import patched_from
from tests.laws.monotone import check_monotone
from tests.residual import HEADS, POSITIONS, WIDTH, Blocks, Patch, patched

__all__ = ["check_bounded", "check_closed", "check_narrowed", "check_patched", "lowered"]

CONSUMERS = ("q1", "k1", "v1", "up1", "q2", "k2", "v2", "up2", "out")


def lowered(module: Blocks) -> Graph:
    """The network without normalisation, node by node; consumers have the names that `tests.residual` gives them."""
    b = Builder("x", (1, POSITIONS, 2))

    def dense(x: str, layer: torch.nn.Linear, name: str) -> str:
        return b.dense(x, layer.weight.detach(), layer.bias.detach(), name=name)

    x = dense("x", module.embed, "embed")
    for i, block in ((1, module.first), (2, module.second)):
        parts: list[str] = []
        for name, layer in (("q", block.q), ("k", block.k), ("v", block.v)):
            made = b.reshape(dense(x, layer, f"{name}{i}"), (1, POSITIONS, HEADS, WIDTH // HEADS), name=f"{name}{i}.cut")
            parts.append(b.transpose(made, (0, 2, 3, 1) if name == "k" else (0, 2, 1, 3), name=f"{name}{i}.heads"))
        scores = b.scale(b.matmul(parts[0], parts[1], name=f"qk{i}"), 1 / math.sqrt(WIDTH // HEADS), name=f"scores{i}")
        weighed = b.matmul(b.softmax(scores, name=f"pattern{i}"), parts[2], name=f"weighed{i}")
        z = b.reshape(b.transpose(weighed, (0, 2, 1, 3), name=f"turned{i}"), (1, POSITIONS, WIDTH), name=f"z{i}")
        x = b.add(x, dense(z, block.o, f"o{i}"), name=f"middle{i}")
        inner = b.elementwise(Relu(), dense(x, block.up, f"up{i}"), name=f"relu{i}")
        x = b.add(x, dense(inner, block.down, f"down{i}"), name=f"stream{i}")
    return b.build(dense(x, module.out, "out"))


def _reads(graph: Graph) -> list[Read]:
    found = [edges.read_at(graph, name) for name in CONSUMERS]
    assert all(read is not None for read in found)
    return [read for read in found if read is not None]


def _patch(reads: list[Read], mask: Tensor, values: dict[str, Tensor]) -> Patch:
    """A row of masks, by consumer; and patch values."""
    rows = torch.split(mask, [read.group[1] for read in reads])
    kept = {read.consumer: row.reshape(read.readers, -1) for read, row in zip(reads, rows, strict=True)}
    return Patch(kept, values)


def check_patched(seed: int) -> None:
    """Random edges patched with random values: the graph's output is that of path patching; with none patched the model's."""
    module = Blocks(norm=False, seed=seed).double()
    graph, random = lowered(module), torch.Generator().manual_seed(seed)
    reads = _reads(graph)
    values = {read.consumer: torch.randn(read.stacked, generator=random, dtype=torch.float64) for read in reads}
    gates = Gates(tuple(Gate(r.consumer, *r.group, Box(values[r.consumer], values[r.consumer])) for r in reads))
    cut = rewired(graph, reads)
    masks = torch.rand((4, gates.size), generator=random) < torch.tensor([[0.3], [0.7], [0.9], [2.0]])
    x = torch.rand((4, 1, POSITIONS, 2), generator=random, dtype=torch.float64)
    rows = {name: value.expand(4, *value.shape) for name, value in values.items()}
    found = cut.evaluate(x, gates, masks, rows)[cut.output]
    for i in range(4):
        wanted = patched(module, x[i], _patch(reads, masks[i], values))[0]
        assert torch.allclose(found[i], wanted, rtol=0, atol=1e-9), "a graph of edges differs from path patching"
    assert torch.allclose(found[3], graph(x)[3], rtol=0, atol=1e-9), "with all edges kept it is not the model"


def check_narrowed(seed: int) -> int:
    """What circuits leave of a query that keep some reads whole computes what the query does, with patched values of a box and
    with those that another input gives. How many nodes are left of the query of the circuit that keeps most."""
    module = Blocks(norm=False, seed=seed).double()
    graph, random = lowered(module), torch.Generator().manual_seed(seed)
    reads = _reads(graph)
    values = {read.consumer: torch.randn(read.stacked, generator=random, dtype=torch.float64) for read in reads}
    gates = Gates(tuple(Gate(r.consumer, *r.group, Box(values[r.consumer], values[r.consumer])) for r in reads))
    region = Box(*(torch.full((1, POSITIONS, 2), end, dtype=torch.float64) for end in (0.0, 1.0)))
    margins = agreement_margins(Logits.model_construct(tolerance=0.5), graph.shape(graph.output))
    heads = torch.cat([r.group[0].new_tensor(range(r.readers)).repeat_interleave(len(r.producers)) + 9 * i
                       for i, r in enumerate(reads)])  # fmt: skip
    whole = torch.rand((4, 9 * len(reads)), generator=random) < torch.tensor([[0.3], [0.6], [0.9], [0.97]])
    masks = whole[:, heads] | (torch.rand((4, gates.size), generator=random) < 0.6)
    plain, left = Query(rewired(graph, reads), gates, region, margins), 0
    for query in (plain, reaching(plain, region)):
        x = query.region.sample(4, random)
        for rows, kinds in apart(query, masks):
            found = narrowed(query, kinds)
            if found is None:
                continue
            left = len(found.query.graph.nodes)
            given = (
                {} if query.gates.sources else {name: value.expand(len(rows), *value.shape) for name, value in values.items()}
            )
            wanted = query.graph.evaluate(x[rows], query.gates, masks[rows], given)[query.graph.output]
            own = {gate.tensor: given[gate.tensor] for gate in found.query.gates.gates if gate.tensor in given}
            small = found.query.graph
            got = small.evaluate(x[rows], found.query.gates, masks[rows][:, found.columns], own)[small.output]
            assert torch.allclose(got, wanted, rtol=0, atol=1e-9), "what is left of a query computes something else"
    return left


def check_closed(seed: int) -> int:
    """What is called monotone of edges is: a kept edge computes what it may be patched with. How many claims were."""
    module = Blocks(norm=False, seed=seed).double()
    graph, random = lowered(module), torch.Generator().manual_seed(seed)
    reads = _reads(graph)
    chosen = [read for read in reads if float(torch.rand((), generator=random)) < 0.4] or reads[-1:]
    boxes = {read.consumer: torch.full(read.stacked, 0.5, dtype=torch.float64) for read in chosen}
    gates = Gates(tuple(Gate(r.consumer, r.group[0], r.group[1], Box(-boxes[r.consumer], boxes[r.consumer])) for r in chosen))
    region = Box(*(torch.full((1, POSITIONS, 2), end, dtype=torch.float64) for end in (-0.1, 0.1)))
    margins = agreement_margins(Logits.model_construct(tolerance=0.5), graph.shape(graph.output))
    return check_monotone(Query(rewired(graph, chosen), gates, region, margins), seed)


def check_bounded(seed: int, samples: int = 24) -> None:
    """No sampled point of a claim, computed by hand, is worse than what is proven of it: box, closed and reachable patching of
    what three of the consumers read."""
    module = Blocks(norm=False, seed=seed).double()
    graph, random = lowered(module), torch.Generator().manual_seed(seed)
    every = _reads(graph)
    chosen = sorted(torch.randperm(len(every), generator=random)[:3].tolist())
    reads = [every[i] for i in chosen]
    cut = rewired(graph, reads)
    center = torch.rand((1, POSITIONS, 2), generator=random, dtype=torch.float64)
    region, wide = (Box(center - r, center + r) for r in (0.05, 0.1))
    means = patched(module, center, Patch({}, {}))[1]
    boxes = {read.consumer: means[read.consumer].expand(read.stacked).detach() for read in reads}
    near = {name: Box(value - 0.05, value + 0.05) for name, value in boxes.items()}
    gates = Gates(tuple(Gate(r.consumer, r.group[0], r.group[1], near[r.consumer]) for r in reads))
    margins = agreement_margins(Logits.model_construct(tolerance=0.5), graph.shape(graph.output))
    plain = Query(cut, gates, region, margins)
    closed = patched_from(records.Closed.model_construct(), plain, wide, file="spec")
    masks = torch.rand((3, gates.size), generator=random) < torch.tensor([[0.4], [0.8], [0.95]])
    for kind, query in (("box", plain), ("closed", closed), ("reachable", reaching(plain, wide))):
        proven = Native(method="difference").open(query).bound(masks).margin
        for i, mask in enumerate(masks):
            for x in region.sample(samples // 3, random):
                if kind == "reachable":
                    other = patched(module, wide.sample(2, random)[-1], Patch({}, {}))[1]
                    values = {read.consumer: other[read.consumer].expand(read.stacked) for read in reads}
                else:
                    values = {gate.tensor: gate.patch.sample(2, random)[-1] for gate in query.gates.gates}
                circuit = patched(module, x, _patch(reads, mask, values))[0].detach()
                model = module(x).detach()
                seen = query.margins.at(circuit.unsqueeze(0), model.unsqueeze(0))
                assert float(proven[i]) <= float(seen) + 1e-7, f"{kind}: a point is worse than what is proven of edges"
