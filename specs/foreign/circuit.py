"""The record of a circuit in another tool's words: nodes and edges, kept or not, scored or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from specs.errors import InputError

__all__ = ["Edge", "Kind", "Node", "Port", "Reader", "Request", "ToolCircuit", "node_of", "scored"]

Port: TypeAlias = Literal["q", "k", "v"]
Kind: TypeAlias = Literal["head", "mlp", "neuron", "input", "feature", "error", "output", "edge"]


@dataclass(frozen=True, slots=True)
class Node:
    """A component by the tool's own name. `layer` and `index` (head, neuron, feature) where it has them.

    `kept` is None where the file does not say, `score` where there is none (NaN is none). `units` says of each of its neurons
    whether it is kept, where the file does.
    """

    name: str
    kind: Kind
    layer: int | None = None
    index: int | None = None
    kept: bool | None = None
    score: float | None = None
    units: tuple[bool, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What a map may call it: the tool's name, or `a0.h3`, `m2`, `input` whatever the tool."""
        if self.kind == "head":
            return self.name, f"a{self.layer}.h{self.index}"
        if self.kind == "mlp":
            return self.name, f"m{self.layer}"
        return (self.name, "input") if self.kind == "input" else (self.name,)


@dataclass(frozen=True, slots=True)
class Edge:
    """What `source` writes as `target` reads it; both are names of nodes, `name` is the tool's or made as `source->target`.

    `port`: whether a head reads it for its queries, keys or values; None where it is a head for all three. `cut`: what lies
    between that place and the target's own output is ablated in the file.
    """

    name: str
    source: str
    target: str
    kept: bool | None = None
    score: float | None = None
    port: Port | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True)
class ToolCircuit:
    """`listed`: whether the file names `all` components there are, the `kept` ones only, or the `removed` ones only; the others
    are then of the kinds of `universe`. `about`: what the choice is one of; `either` is for the file's flags to tell. `notes`:
    what reading it lost."""

    tool: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    listed: Literal["all", "kept", "removed"] = "all"
    about: Literal["nodes", "edges", "either"] = "either"
    universe: frozenset[Kind] = frozenset({"head", "mlp"})
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """How a file is to be read. `listed`: what a file that cannot say so itself lists; `entry`: which of several circuits."""

    file: str
    listed: Literal["kept", "removed", "both"] | None = None
    entry: str | None = None

    def refuse_listed(self) -> None:
        """Raises: InputError: a polarity was given for a format that states it."""
        if self.listed is not None:
            raise InputError("certify", "--listed", self.listed, "a format that does not say what it lists", "leave it out")

    def refuse_entry(self) -> None:
        """Raises: InputError: an entry was given for a format that holds one circuit a file."""
        if self.entry is not None:
            raise InputError("certify", "--entry", self.entry, "a format that holds several circuits a file", "leave it out")


Reader: TypeAlias = Callable[[Request], ToolCircuit]


def node_of(nodes: dict[str, Node], node: Node) -> str:
    """Add a node unless it is there; its name."""
    nodes.setdefault(node.name, node)
    return node.name


def scored(value: float) -> float | None:
    """A score, None for NaN: the tools' mark of what was not scored."""
    return None if math.isnan(value) else value
