"""auto-circuit: prune scores of a factorised transformer (UFO-101/auto-circuit 1.0), as `torch.save` writes them.

A dictionary of reader modules (`blocks.0.hook_q_input`, `blocks.0.hook_mlp_in`, `blocks.1.hook_resid_post`) to scores of shape
`[position?, head?, writer]`; or, as its experiments save them, such dictionaries by algorithm, by task. Writers are counted
from `Resid Start` on, layer by layer, heads before the MLP. Nodes: `Resid Start`, `A0.3`, `MLP 2`, `Resid End`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, cast

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, Port, Request, ToolCircuit, scored
from specs.foreign.names import short_node
from specs.foreign.pickles import read_archive, rows

__all__ = ["read"]

_READER = re.compile(r"blocks\.(?P<layer>\d{1,4})\.hook_(?P<port>q_input|k_input|v_input|attn_in|mlp_in|resid_post)")


def read(request: Request) -> ToolCircuit:
    """Read a file of prune scores; `entry` is `KEY` or `TASK/ALGORITHM` where it holds several. It keeps nothing by itself.

    Raises: InputError: it holds no such scores, or those of another factorisation.
    """
    request.refuse_listed()
    file = request.file
    scores = _chosen(read_archive(file), request)
    modules = {name: _module(name, value, file) for name, value in scores.items()}
    shape = _Shape.of(modules, file)
    nodes = {node.name: node for node in shape.writers()}
    end = Node("Resid End", "output")
    edges: list[Edge] = []
    positions = 0
    for name, module in modules.items():
        writers = list(nodes)[: shape.read_by(module)]
        table = rows(scores[name], file, name)
        if not module.heads:
            table = [[row] for row in table] if module.positions else [table]
        by_position = table if module.positions else [table]
        positions = max(positions, len(by_position))
        for at, head in product(range(len(by_position)), range(module.heads or 1)):
            reader, label = shape.reader(module, head, end)
            for source, score in zip(writers, by_position[at][head], strict=True):
                edge = f"{source}->{label}" + (f"@{at}" if module.positions else "")
                edges.append(Edge(edge, source, reader.name, None, scored(float(score)), module.reads))
    notes = (f"edges are scored at each of {positions} positions; a node stands for all of them",) if positions > 1 else ()
    return ToolCircuit("auto-circuit", (*nodes.values(), end), tuple(edges), about="edges", notes=notes)


@dataclass(frozen=True, slots=True)
class _Module:
    """One reader module: its layer, what it is, and the shape of its scores. `heads` is 0 where it has none."""

    name: str
    layer: int
    port: str
    positions: int
    heads: int
    writers: int

    @property
    def reads(self) -> Port | None:
        """For queries, keys or values alone; None for all."""
        return cast("Port", self.port[0]) if self.port in ("q_input", "k_input", "v_input") else None


def _module(name: str, value: Any, file: str) -> _Module:
    import torch

    found = _READER.fullmatch(name)
    if found is None:
        raise InputError(file, name, "no reader of the factorised graph", "hook_q_input, hook_mlp_in and the like")
    if not isinstance(value, torch.Tensor):
        raise InputError(file, name, f"a {type(value).__name__}", "a tensor of scores")
    port, shape = found["port"], list(value.shape)
    by_head = port not in ("mlp_in", "resid_post")
    if len(shape) - by_head not in (1, 2):
        raise InputError(file, name, f"scores of shape {shape}", "[position?, head?, writer]")
    positions = shape[0] if len(shape) - by_head == 2 else 0
    return _Module(name, int(found["layer"]), port, positions, shape[-2] if by_head else 0, shape[-1])


def _chosen(value: Any, request: Request) -> dict[str, Any]:
    """The one dictionary of scores that is meant."""
    import torch

    steps = [] if request.entry is None else request.entry.split("/")
    for _ in range(3):
        if not isinstance(value, dict) or not value:
            raise InputError(request.file, "", f"a {type(value).__name__}", "a dictionary of prune scores")
        entries = {str(key): entry for key, entry in cast("dict[Any, Any]", value).items()}
        if all(isinstance(entry, torch.Tensor) for entry in entries.values()):
            if steps:
                raise InputError("certify", "--entry", f"{request.entry!r} goes too deep", "a key of the file", "")
            return entries
        if not steps and len(entries) > 1:
            raise InputError(
                request.file, "", f"{len(entries)} entries: {', '.join(sorted(entries)[:8])}", "one", "say --entry"
            )
        key = steps.pop(0) if steps else next(iter(entries))
        if key not in entries:
            raise InputError("certify", "--entry", f"{key!r}", f"one of: {', '.join(sorted(entries)[:8])}", "")
        value = entries[key]
    raise InputError(request.file, "", "dictionaries more than two deep", "scores, by algorithm, by task")


@dataclass(frozen=True, slots=True)
class _Shape:
    """Layers and heads of the model, as its readers show them. Without an MLP it is attention only."""

    layers: int
    heads: int
    mlps: bool
    parallel: bool

    @classmethod
    def of(cls, modules: dict[str, _Module], file: str) -> _Shape:
        layers = 1 + max(module.layer for module in modules.values())
        by_head = [module.heads for module in modules.values() if module.heads]
        if not by_head or min(by_head) != max(by_head):
            raise InputError(file, "", f"readers of {sorted(set(by_head))} heads", "one number of heads in all layers")
        mlp = next((module for module in modules.values() if module.port == "mlp_in"), None)
        heads = by_head[0]
        parallel = mlp is not None and mlp.writers == 1 + mlp.layer * (heads + 1)
        shape = cls(layers, heads, mlp is not None, parallel)
        for module in modules.values():
            if module.port == "resid_post" and module.layer != layers - 1:
                raise InputError(
                    file, module.name, "a reader in the middle", "the factorised graph, which reads at the end only"
                )
            if module.writers != shape.read_by(module):
                found = f"{module.writers} writers; the factorised graph of {layers} layers with {heads} heads"
                raise InputError(file, module.name, found, f"{shape.read_by(module)} there")
        return shape

    def read_by(self, module: _Module) -> int:
        """How many writers a reader reads: all those of earlier layers, and the heads of its own where it is an MLP."""
        block = self.heads + self.mlps
        if module.port == "resid_post":
            return 1 + self.layers * block
        return 1 + module.layer * block + (self.heads if module.port == "mlp_in" and not self.parallel else 0)

    def writers(self) -> Iterator[Node]:
        """In auto-circuit's order."""
        yield Node("Resid Start", "input")
        for layer in range(self.layers):
            for head in range(self.heads):
                yield _node(f"A{layer}.{head}")
            if self.mlps:
                yield _node(f"MLP {layer}")

    def reader(self, module: _Module, head: int, end: Node) -> tuple[Node, str]:
        """The node that reads there, and what auto-circuit calls the reader."""
        if module.port == "resid_post":
            return end, end.name
        if module.port == "mlp_in":
            return _node(f"MLP {module.layer}"), f"MLP {module.layer}"
        node = _node(f"A{module.layer}.{head}")
        letter = "" if module.port == "attn_in" else f".{module.port[0].upper()}"
        return node, f"{node.name}{letter}"


def _node(name: str) -> Node:
    node = short_node(name)
    assert node is not None
    return node
