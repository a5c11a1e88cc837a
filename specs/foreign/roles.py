"""The edges of a model by the names that tools give them: `input->a0.h1<q>`, `a0.h3->m2`, `m2->logits`.

What plays which part is read off the graph, not off names: an attention layer is a pattern times values, in order; its queries
and keys make the pattern, its heads' shares of the stream come from that product; an MLP's output is computed from what it
reads; `logits` is what reads the stream last, and what is left is the input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bounds.graph import Graph, Node
from bounds.ops import Concat
from bounds.stream import Producer, Read, span
from specs.foreign.sites import Spot
from specs.heads import attention
from specs.model import Model

__all__ = ["edges_by_role"]


def edges_by_role(model: Model) -> dict[str, Spot]:
    """Each edge's name and where it is, in the model's order. Empty, where the model's layers are not those of a transformer:
    attention and then at most one MLP a layer, each read from one stream."""
    graph, reads = model.graph, model.edges()
    layers = [node for node, weighs in attention(graph) if weighs]
    readers = _readers(graph, reads, layers)
    if not layers or readers is None:
        return {}
    found: dict[str, tuple[int, ...]] = {}
    sites: dict[str, str] = {}
    role = {p.name: _writer(graph, p, layers, readers) for p in {p.name: p for read in reads for p in read.producers}.values()}
    for read in reads:
        writers = [role[producer.name] for producer in read.producers]
        for head in range(read.readers):
            name = readers[read.consumer].replace("*", str(head))
            for i, writer in enumerate(writers):
                edge = f"{writer}->{name}"
                if sites.setdefault(edge, read.consumer) != read.consumer:
                    return {}
                found[edge] = (*found.get(edge, ()), head * len(writers) + i)
    return {edge: Spot(sites[edge], "edge", indices) for edge, indices in found.items()}


def _readers(graph: Graph, reads: Sequence[Read], layers: Sequence[Node]) -> dict[str, str] | None:
    """The name of each consumer, `*` for the head; None where two would have the same."""
    named: dict[str, str] = {}
    consumers = {read.consumer for read in reads}
    for layer, (scores, weighed) in enumerate(zip(_scores(graph), layers, strict=False)):
        queries, keys = _factors(graph, scores)
        for port, factor in (("q", queries), ("k", keys), ("v", _factors(graph, weighed)[1])):
            if (name := next((x for x in _upstream(graph, factor) if x in consumers), None)) is not None:
                named[name] = f"a{layer}.h*<{port}>"
    places = {node.name: i for i, node in enumerate(graph.nodes)}
    rest = [read.consumer for read in reads if read.consumer not in named]
    for name in rest:
        layer = sum(places[node.name] < places[name] for node in layers) - 1
        last = all(places.get(producer.span.end, -1) < places[name] for read in reads for producer in read.producers)
        named[name] = "logits" if last else f"m{layer}"
    return named if len(set(named.values())) == len(named) and len(named) == len(reads) else None


def _writer(graph: Graph, producer: Producer, layers: Sequence[Node], readers: dict[str, str]) -> str:
    ends = {node.name: i for i, node in enumerate(layers)}
    mlps = {name: role for name, role in readers.items() if role.startswith("m")}
    found = span(graph, producer.span.end, lambda name: name in ends or name in mlps)
    if found is None:
        return "input"
    if found.start in mlps:
        return mlps[found.start]
    head = producer.name.rpartition("[")[2].rstrip("]") if producer.part is not None else "0"
    return f"a{ends[found.start]}.h{head}"


def _scores(graph: Graph) -> list[Node]:
    return [node for node, weighs in attention(graph) if not weighs]


def _factors(graph: Graph, node: Node) -> tuple[str, str]:
    """The two tensors that a product multiplies."""
    both = graph.node[node.inputs[0]]
    return (both.inputs[0], both.inputs[1]) if isinstance(both.op, Concat) else (both.name, both.name)


def _upstream(graph: Graph, name: str) -> Iterator[str]:
    """A tensor and those that it is computed from one by one."""
    while name in graph.node:
        yield name
        if len(graph.node[name].inputs) != 1:
            return
        name = graph.node[name].inputs[0]
