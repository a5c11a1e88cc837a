"""A model as the rest of the program sees it: our graph, the original in its own runtime, and the sites people may name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops.base import Elementwise, Shape
from bounds.stream import Read, rewired
from specs.components import GRANULARITIES, cut
from specs.edges import listed, read_at
from specs.errors import InputError, nearest
from specs.models.comparison import compare
from specs.models.edge_runtime import EdgeRuntime
from specs.models.runtime import Runtime

__all__ = ["Model", "Site", "load_model", "model_from_module"]


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor whose elements may be replaced. `granularities` maps each way of cutting it into components to their number."""

    name: str
    shape: Shape
    granularities: Mapping[str, int]
    operator: str
    after_activation: bool


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """`graph` computes in float64 what `runtime` computes in the model's own precision.

    `source` is the file or a description; `sha256` that of the file's bytes (of a module: of its state's names and bytes);
    `dtype` the type of the model's input; `operators` the model's own name of the operator that computes a tensor. With
    `dropped_softmax` the output is the input of the softmax that the model ends in. With `tokens` the model takes token
    numbers, and `graph` and `runtime` one-hot rows in their place, which nothing but one-hot rows may stand for.
    """

    graph: Graph
    runtime: Runtime
    source: str
    sha256: str
    dtype: torch.dtype = torch.float32
    dropped_softmax: bool = False
    operators: Mapping[str, str] = field(default_factory=dict[str, str])
    tokens: bool = False

    def sites(self) -> tuple[Site, ...]:
        """Every tensor that the model's author named, in order of evaluation. The input is left out; so is the output, but
        where it can be cut into edges."""
        edges = {read.consumer: read.group[1] for read in listed(self.graph)}
        return tuple(self._site(node, edges) for node in self.graph.nodes if self._named(node) or node.name in edges)

    def edges(self) -> tuple[Read, ...]:
        """The consumers that `sites` lists, each with its producers (`specs.edges`)."""
        return listed(self.graph)

    def read_by_edges(self, consumers: Collection[str]) -> Model:
        """The same model where these sites are tensors of edges: what each one reads of each of its producers.

        Shapes: `(heads, producers, *shape)` for each of these, that of the stream. Cost: none; the result computes a copy of
        what lies between the stream and each consumer. Raises: ValueError: one reads no stream.
        """
        if not consumers:
            return self
        reads = self.reads(consumers)
        return replace(self, graph=rewired(self.graph, reads), runtime=EdgeRuntime(self.runtime, self.graph, reads))

    def reads(self, consumers: Collection[str]) -> tuple[Read, ...]:
        """What these sites read, in order of evaluation. Raises: ValueError: one of them reads no stream; InputError: one reads
        token numbers, of which there is no sum."""
        found = [read_at(self.graph, node.name) for node in self.graph.nodes if node.name in consumers]
        reads = tuple(read for read in found if read is not None)
        if len(reads) != len(consumers):
            raise ValueError(f"not all of {', '.join(consumers)} read a stream")
        for read in reads:
            if self.tokens and read.span.start == self.graph.input:
                needed = "one that reads what is computed from them"
                raise InputError(self.source, "", f"edges of {read.consumer}, which reads token numbers", needed)
        return reads

    def _named(self, node: Node) -> bool:
        return node.site and node.name != self.graph.output

    def _site(self, node: Node, edges: Mapping[str, int]) -> Site:
        cuts = {name: cut(self.graph, node, name) for name in GRANULARITIES} if self._named(node) else {}
        sizes = {name: found[1] for name, found in cuts.items() if found is not None}
        if node.name in edges:
            sizes["edge"] = edges[node.name]
        operator = self.operators.get(node.name, type(node.op).__name__)
        return Site(node.name, node.shape, sizes, operator, isinstance(node.op, Elementwise))

    def group(self, site: str, granularity: str, *, shown: str | None = None, where: str = "") -> tuple[Tensor, int]:
        """The component of each element of a site, and how many components there are.

        Shapes: a long tensor of the site's shape, with values 0..count-1 (`specs.components` tells what each granularity is).
        For `edge` the tensor is that of `read_by_edges`, whose components are numbered `head * producers + producer`. Raises:
        InputError (at `shown` `where`, by default the model itself): no such site; no such granularity there.
        """
        shown = self.source if shown is None else shown
        read = read_at(self.graph, site) if granularity == "edge" and site in self.graph.node else None
        if read is not None:
            return read.group
        known = {node.name: node for node in self.graph.nodes if self._named(node)}
        if site not in known:
            raise InputError(
                shown, where, f"the model has no site {site!r}", nearest(site, known), "`certify show MODEL` lists the sites"
            )
        node = known[site]
        if (found := cut(self.graph, node, granularity)) is not None:
            return found
        has = " or ".join(repr(name) for name in self._site(node, {}).granularities)
        raise InputError(
            shown, where, f"site {site} of shape {list(node.shape)} has no granularity {granularity!r}", f"use {has}"
        )

    def check(self, lower: Tensor | float = 0.0, upper: Tensor | float = 1.0, seed: int = 0) -> None:
        """Evaluate the graph beside the model's own runtime, at random inputs of a box, as it is and with random patches.

        Shapes: `lower`, `upper` broadcast to the input's. Raises: InputError: an output differs by more than 1e-4 of the
        largest output, so our reading of the model is wrong (or the model is numerically unstable there).
        """
        compare(self.graph, self.runtime, self.dtype, self.source, lower, upper, seed, self.tokens)


def load_model(
    path: str,
    *,
    shown: str,
    where: str,
    base: Path,
    sha256: str | None = None,
    allow_code: bool = False,
    input_shape: Shape | None = None,
) -> Model:
    """Read a model and check the reading against the model's own runtime on inputs in [0, 1].

    `path` is an `.onnx` or `.pt2` file, relative to `base`, or `package.module:callable`, which is called without arguments and
    returns an `nn.Module`. `shown` and `where` are the file and place that name it. `input_shape` (leading axis included) is
    needed where the model does not state one: always for a callable.
    Raises: InputError: missing, unreadable, unsupported, of another hash, code without `allow_code`, or misread.
    """
    from specs.models.source import load

    model = load(path, shown, where, base, sha256, allow_code, input_shape)
    model.check()
    return model


def model_from_module(module: torch.nn.Module, example: Tensor, source: str | None = None) -> Model:
    """A model from an `nn.Module` and one input, the leading axis included. A module in training mode is copied and put in
    evaluation mode. Sites are named as `torch.export` names them (`relu`, `relu_1`, `conv2d`). Raises: InputError: as above."""
    from specs.models.source import from_module

    model = from_module(module, example, source or f"module {type(module).__name__}")
    model.check()
    return model
