"""Wrong readings of a stream: what each consumer is given of each producer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bounds import narrow, stream
from bounds.graph import Graph
from bounds.ops.base import Op
from bounds.query import Query
from bounds.stream import Producer, Read
from specs import edges
from tests.mutants.planting import Patch, changed, mutant


def _read_otherwise(patch: Patch, change: Any) -> None:
    def wrong(original: Any, graph: Graph, consumer: str) -> Read | None:
        read = original(graph, consumer)
        return None if read is None else change(read)

    changed(patch, edges, "read_at", wrong)


@mutant("edges")
def projection_bias_forgotten(patch: Patch) -> None:
    _read_otherwise(patch, lambda read: replace(read, offsets=()))


@mutant("edges")
def projection_bias_with_every_head(patch: Patch) -> None:
    def wrong(original: Any, op: Op) -> Op:
        return op

    changed(patch, stream, "_homogeneous", wrong)


@mutant("edges")
def heads_read_for_each_other(patch: Patch) -> None:
    def swapped(read: Read) -> Read:
        return read if read.heads is None else replace(read, heads=(1 - read.heads[0], 2))

    _read_otherwise(patch, swapped)


@mutant("edges")
def one_edge_for_all_heads(patch: Patch) -> None:
    """What one head reads is patched wherever the other's is."""

    def wrong(read: Read) -> tuple[Tensor, int]:
        count = read.readers * len(read.producers)
        line = torch.arange(len(read.producers)).reshape(-1, *[1] * len(read.shape))
        return line.expand(read.stacked).contiguous(), count

    patch.setattr(Read, "group", property(wrong))


@mutant("edges")
def head_that_adds_what_all_add(patch: Patch) -> None:
    def whole(producer: Producer) -> Producer:
        return producer if producer.part is None else replace(producer, part=torch.ones_like(producer.part))

    _read_otherwise(patch, lambda read: replace(read, producers=tuple(map(whole, read.producers))))


@mutant("edges")
def producers_mistaken_for_one_another(patch: Patch) -> None:
    _read_otherwise(patch, lambda read: replace(read, producers=tuple(reversed(read.producers))))


@mutant("edges")
def gates_gone_around_that_patch_an_edge(patch: Patch) -> None:
    """A head counts as reading whole where it keeps most of its edges."""

    def wrong(original: Any, query: Query, masks: Tensor) -> Tensor:
        noisy = masks | (torch.rand(masks.shape, generator=torch.Generator().manual_seed(0)) < 0.5)
        return original(query, noisy)

    changed(patch, narrow, "_whole_reads", wrong)


@mutant("edges")
def constants_that_differ_taken_for_one(patch: Patch) -> None:
    """Nodes are told apart by their operators' kinds and shapes alone."""

    def wrong(original: Any, value: object) -> object:
        return tuple(value.shape) if isinstance(value, Tensor) else original(value)

    changed(patch, narrow, "_field_key", wrong)
