"""Edges patched in a model's own runtime, by as many runs of it as there are consumers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch

from bounds.graph import Graph
from bounds.stream import Read
from specs.models.runtime import NOTHING, Array, Intervention, Runtime

__all__ = ["EdgeRuntime"]


class EdgeRuntime(Runtime):
    """A model whose consumers' sites are their edges (`bounds.stream`): `(heads, producers, *shape)`.

    A consumer is run the way path patching is done by hand: the producers' values are read off the run as it is patched so far;
    those of patched edges are replaced; the stream is set to their sum in a run of its own, and what the consumer is there is
    what all of its readers are shown from then on. All but that sum is computed by the model's own runtime.
    """

    def __init__(self, inner: Runtime, graph: Graph, reads: Sequence[Read], end: str | None = None) -> None:
        """`graph` is the model's own, before it was rewired; `reads` in its order. `end` is the tensor that counts as the
        output, by default the model's."""
        self._inner, self._graph, self._end = inner, graph, end
        self._reads = {read.consumer: read for read in reads}

    def outputs(self, x: Array) -> Array:
        return self._inner.outputs(x) if self._end is None else self.activations(x, [self._end])[self._end]

    def intervened(self, x: Array, under: Intervention) -> Array:
        if self._end is not None:
            return self.activations(x, [self._end], under)[self._end]
        settled = self._settled(x, under)
        if self._graph.output in settled.patch:
            return settled.patch[self._graph.output]
        return self._inner.intervened(x, settled)

    def ending_at(self, tensor: str) -> EdgeRuntime:
        return EdgeRuntime(self._inner, self._graph, tuple(self._reads.values()), tensor)

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        settled = self._settled(x, under)
        plain = [site for site in sites if site not in self._reads]
        found = self._inner.activations(x, plain, settled) if plain else {}
        return found | {site: self._edges(x, self._reads[site], settled) for site in sites if site in self._reads}

    def _settled(self, x: Array, under: Intervention) -> Intervention:
        """The same intervention with every consumer that it changes otherwise than through its producers set to its value."""
        masks = {site: mask for site, mask in under.kept.items() if site not in self._reads}
        values = {site: under.patch[site] for site in masks}
        settled = Intervention(masks, values)
        for consumer, read in self._reads.items():  # in graph order: those upstream are settled first
            if consumer in under.kept or read.passed.intersection(masks):
                found = self._consumed(x, read, under.shown(consumer, self._edges(x, read, settled)))
                masks[consumer], values[consumer] = np.zeros(found.shape, dtype=bool), found
        return settled

    def _edges(self, x: Array, read: Read, under: Intervention) -> Array:
        """The producers' values, for each head the same, in float64."""
        seen = self._seen(x, {producer.span.start for producer in read.producers}, under)
        rows: list[Array] = []
        for producer in read.producers:
            between, value = producer.span, seen[producer.span.start].astype(np.float64)
            if producer.part is not None:
                own = self._from(x, between.start, np.where(producer.part.numpy(), value, 0), between.end)
                value = own - self._from(x, between.start, np.zeros_like(value), between.end)
            elif between.nodes:  # repeated to fit the others
                value = between.nodes[0].op.forward(torch.from_numpy(value).unsqueeze(0))[0].numpy()
            rows.append(value)
        return np.broadcast_to(np.stack(rows), read.stacked)

    def _consumed(self, x: Array, read: Read, edges: Array) -> Array:
        """The consumer's value where its stream is the sum of these edges."""
        rest = sum((bias.numpy() for bias in read.biases), np.zeros(read.shape))
        for between in read.offsets:
            nothing = np.zeros(self._graph.shape(between.start))
            rest = rest + self._from(x, between.start, nothing, between.end)
        found: list[Array] = []
        for own in edges:
            stream = own.sum(0) + rest
            found.append(self._from(x, read.span.start, stream, read.consumer) if read.span.nodes else stream)
        if read.heads is None:
            return found[0]
        return np.take_along_axis(np.stack(found), read.heads[0].numpy()[None], 0)[0]

    def _seen(self, x: Array, names: Collection[str], under: Intervention) -> dict[str, Array]:
        """Tensors as their readers see them."""
        own = sorted(set(names) - {self._graph.input})
        found = self._inner.activations(x, own, under) if own else {}
        return {name: under.shown(name, value) for name, value in found.items()} | {self._graph.input: x}

    def _from(self, x: Array, start: str, value: Array, end: str) -> Array:
        """What the model computes at `end` where all of `start` is replaced. Of float64, whatever the model's type."""
        if start == self._graph.input:
            return self._inner.activations(value, [end])[end].astype(np.float64)
        whole = Intervention({start: np.zeros(value.shape, dtype=bool)}, {start: value})
        return self._inner.activations(x, [end], whole)[end].astype(np.float64)
