"""Queries whose patched values are activations: what the model, or a circuit, reaches over a region of inputs."""

from __future__ import annotations

from dataclasses import replace

from bounds.domains.refine import closure, ranges
from bounds.gates import Gates
from bounds.query import Query
from bounds.region import Box, Region
from bounds.twin import reaching
from specs import patching as records
from specs.errors import InputError
from specs.model import Model
from specs.sets import read_regions
from specs.tokens import check_tokens

__all__ = ["patched_from", "second_regions"]

_MEMORY = 1 << 24


def second_regions(patching: records.Patching, model: Model, count: int, *, file: str) -> list[Region | None]:
    """The region that continuous patching names for each of `count` claims: one for all, or one each. None for other kinds.

    Raises: InputError: neither one nor `count` regions; as `read_regions`; the model is misread on one of them.
    """
    match patching:
        case records.Reachable(reachable=record) | records.Resample(resample=record) | records.Closed(closed=record):
            where = f"$.patching.{patching.kind}"
        case _:
            return [None] * count
    found = [stated.region for stated in read_regions(record, model.graph.input_shape, model.dtype, file=file, where=where)]
    if len(found) not in (1, count):
        raise InputError(
            file, where, f"{len(found)} regions", f"one for all, or one for each of the {count} that `input` states"
        )
    for region in found:
        check_tokens(region, model.tokens, file=file, where=where)
        box = region.box()
        model.check(box.lower, box.upper)
    return list(found) if len(found) == count else [found[0]] * count


def patched_from(patching: records.Patching, query: Query, second: Region, *, file: str) -> Query:
    """The query with patched values from what is reached over `second`.

    `reachable`: the model's on one input for all components together. `resample`: the interval of an element's values over all
    inputs, as far as bounds can tell; each on its own, which for components of one element is what resampling is, and for
    larger ones more. `closed`: the interval that an element is in whenever all upstream are in theirs.
    Raises: InputError: the region of `closed` does not contain the query's own.
    """
    if isinstance(patching, records.Reachable):
        return reaching(query, second)
    names = [gate.tensor for gate in query.gates.gates]
    if isinstance(patching, records.Resample):
        boxes = ranges(query.graph, second, names, _MEMORY)
    else:
        if not _covers(second.box(), query.region.box()):
            raise InputError(
                file, "$.patching.closed", "a region that does not contain the input's", "one that does", "widen it"
            )
        boxes = closure(query.graph, second.box(), names)
    return replace(query, gates=Gates(tuple(replace(gate, patch=boxes[gate.tensor]) for gate in query.gates.gates)))


def _covers(outer: Box, inner: Box) -> bool:
    return bool(((outer.lower <= inner.lower) & (inner.upper <= outer.upper)).all())
