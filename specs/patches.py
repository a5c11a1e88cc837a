"""From the record of a patching domain to the box of values that each gated tensor may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from bounds.graph import Graph
from bounds.region import Box
from specs import patching as records
from specs.arrays import inputs, resolve, to_shape
from specs.errors import InputError, nearest
from specs.record import ArrayFile
from specs.sets import as_received

__all__ = ["patch_boxes"]

_BATCH = 256


def patch_boxes(
    record: records.Patching, graph: Graph, groups: Mapping[str, tuple[Tensor, int]], dtype: torch.dtype, *, file: str
) -> dict[str, Box]:
    """Patch values of each site in `groups` (element to component, and how many components), in float64.

    Values are rounded to the model's precision: they are what the model is run with. Cost: for `mean`, `constant` and `box` over a
    file of inputs, one forward pass of the model for each. Raises: InputError: a site without values, values of a wrong shape, an
    empty interval, or a kind of patching that is not there yet.
    """
    where = "$.patching"
    if isinstance(record, records.Zero):
        zero = {site: torch.zeros(graph.shape(site), dtype=torch.float64) for site in groups}
        return {site: Box(z, z) for site, z in zero.items()}
    if isinstance(record, records.Mean | records.Constant):
        given = record.mean if isinstance(record, records.Mean) else record.constant
        if isinstance(given, records.Inputs):
            seen = _activations(given, graph, groups, file, where)
            return {site: _point(_received(a.mean(0), dtype)) for site, a in seen.items()}
        return {site: _point(_values(given, site, graph, groups, dtype, file, f"{where}.{record.kind}")) for site in groups}
    if isinstance(record, records.Box):
        if isinstance(record.box, records.Quantiles):
            seen = _activations(record.box, graph, groups, file, where)
            q = torch.tensor(record.box.quantiles, dtype=torch.float64)
            ends = {site: a.quantile(q, dim=0) for site, a in seen.items()}
            return {site: Box(_received(e[0], dtype), _received(e[1], dtype)) for site, e in ends.items()}
        found: dict[str, Box] = {}
        for site in groups:
            lower, upper = (
                _values(values, site, graph, groups, dtype, file, f"{where}.box.{key}")
                for key, values in (("lower", record.box.lower), ("upper", record.box.upper))
            )
            if bool((lower > upper).any()):
                i = int((lower > upper).flatten().nonzero()[0])
                raise InputError(file, f"{where}.box.lower.{site}", f"element {i} is above its upper end", "lower <= upper", "swap them")
            found[site] = Box(lower, upper)
        return found
    raise InputError(file, f"{where}.kind", f"{record.kind!r} patching is not supported yet", "zero, mean, constant or box")


def _point(value: Tensor) -> Box:
    return Box(value, value)


def _received(values: Tensor, dtype: torch.dtype) -> Tensor:
    return values.to(dtype).double()


def _values(
    given: records.SiteValues, site: str, graph: Graph, groups: Mapping[str, tuple[Tensor, int]], dtype: torch.dtype, file: str, where: str
) -> Tensor:
    """Values of one site, in its shape: one number for all, one a component, or one an element."""
    if site not in given:
        raise InputError(file, where, f"no values for site {site!r}, which is in scope", "values for every site in scope",
                         f"add {site!r}" + (f" or {nearest(site, given)} by that name" if given else ""))  # fmt: skip
    place = f"{where}.{site}"
    array = resolve(_plain(given[site]), file=file, where=place)
    group, size = groups[site]
    if array.ndim == 1 and len(array) == size != group.numel():
        return as_received(array, dtype)[group]
    return as_received(to_shape(array, tuple(group.shape), file=file, where=place), dtype)


def _plain(value: object) -> ArrayFile | Sequence[object] | float:
    return value  # pyright: ignore[reportReturnType]


def _activations(
    data: records.Inputs, graph: Graph, groups: Mapping[str, tuple[Tensor, int]], file: str, where: str
) -> dict[str, Tensor]:
    """What the model computes at each site on the inputs of a file. Shapes: `(count, *shape)`."""
    x = torch.tensor(inputs(data, graph.input_shape, file=file, where=where))
    parts = [graph.evaluate(part, keep=frozenset(groups)) for part in x.split(_BATCH)]
    return {site: torch.cat([part[site] for part in parts]) for site in groups}
