"""From the record of a patching domain to the box of values that each gated tensor may take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bounds.graph import Graph
from bounds.region import Box
from specs import patching as records
from specs.arrays import inputs, resolve, to_shape
from specs.document import jsonpath
from specs.errors import InputError, nearest
from specs.sets import as_received

__all__ = ["patch_boxes"]

_BATCH = 256
_QUANTILE_NUMBERS = 1 << 22


def patch_boxes(
    record: records.Patching, graph: Graph, groups: Mapping[str, tuple[Tensor, int]], dtype: torch.dtype, *, file: str
) -> dict[str, Box]:
    """Patch values of each site in `groups` (element to component, and how many components), in float64.

    Values are rounded to the model's precision: they are what the model is run with. Cost: for `mean`, `constant` and `box`
    over a file of inputs, one forward pass of the model for each. Raises: InputError: a site without values, values of a wrong
    shape, or an empty interval. Kinds that take activations over a region of inputs have no bounds here.
    """
    where = jsonpath(("patching", record.kind))
    if isinstance(record, records.Zero):
        zero = {site: torch.zeros(graph.shape(site), dtype=torch.float64) for site in groups}
        return {site: Box(z, z) for site, z in zero.items()}
    if isinstance(record, records.Mean | records.Constant):
        given = record.mean if isinstance(record, records.Mean) else record.constant
        if isinstance(given, records.Inputs):
            seen = _means(given, graph, groups, dtype, file, where)
            return {site: _point(_received(mean, site, dtype, file, where)) for site, mean in seen.items()}
        return {site: _point(_values(given, site, graph, groups, dtype, file, ("patching", record.kind))) for site in groups}
    if isinstance(record, records.Box):
        if isinstance(record.box, records.Quantiles):
            parts = list(_activations(record.box, graph, groups, dtype, file, where))
            found: dict[str, Box] = {}
            for site in groups:
                low, high = _quantiles(torch.cat([part[site] for part in parts]), record.box.quantiles)
                found[site] = Box(*(_received(end, site, dtype, file, where) for end in (low, high)))
            return found
        found = {}
        for site in groups:
            lower, upper = (
                _values(values, site, graph, groups, dtype, file, ("patching", "box", key))
                for key, values in (("lower", record.box.lower), ("upper", record.box.upper))
            )
            if bool((lower > upper).any()):
                i = int((lower > upper).flatten().nonzero()[0])
                place = jsonpath(("patching", "box", "lower", site))
                raise InputError(file, place, f"element {i} is above its upper end", "lower <= upper", "swap them")
            found[site] = Box(lower, upper)
        return found
    # Every other kind takes its values from a region of inputs: see `specs.reach`.
    endless = {site: torch.full(graph.shape(site), torch.inf, dtype=torch.float64) for site in groups}
    return {site: Box(-end, end) for site, end in endless.items()}


def _point(value: Tensor) -> Box:
    return Box(value, value)


def _received(values: Tensor, site: str, dtype: torch.dtype, file: str, where: str) -> Tensor:
    """Activations in the model's precision. Raises: InputError: they overflow it."""
    rounded = values.to(dtype).double()
    if not bool(rounded.isfinite().all()):
        said = f"the model's activations at site {site!r} are not finite on these inputs"
        raise InputError(file, where, said, "inputs in the model's own scale", "check `scale`")
    return rounded


def _values(
    given: records.SiteValues,
    site: str,
    graph: Graph,
    groups: Mapping[str, tuple[Tensor, int]],
    dtype: torch.dtype,
    file: str,
    keys: tuple[str, ...],
) -> Tensor:
    """Values of one site, in its shape: one number for all, one a component, or one an element."""
    if site not in given:
        said = f"no values for site {site!r}, which is in scope"
        unused = [name for name in given if name not in groups]
        near = f"; {nearest(site, unused).removeprefix('use ')} is there and not in scope" if unused else ""
        raise InputError(file, jsonpath(keys), said, "values for every site in scope", f"add {site!r}{near}")
    place = jsonpath((*keys, site))
    array = resolve(given[site], file=file, where=place)
    group, size = groups[site]
    if array.ndim == 1 and len(array) == size != group.numel():
        return as_received(array, dtype, file=file, where=place)[group]
    return as_received(to_shape(array, graph.shape(site), file=file, where=place), dtype, file=file, where=place)


def _activations(
    data: records.Inputs,
    graph: Graph,
    groups: Mapping[str, tuple[Tensor, int]],
    dtype: torch.dtype,
    file: str,
    where: str,
) -> Iterator[dict[str, Tensor]]:
    """What the model computes at each site on the inputs of a file, batch by batch. Shapes: `(batch, *shape)`."""
    x = as_received(inputs(data, graph.input_shape, file=file, where=where), dtype, file=file, where=where)
    for part in x.split(_BATCH):
        yield graph.evaluate(part, keep=frozenset(groups))


def _means(
    data: records.Inputs,
    graph: Graph,
    groups: Mapping[str, tuple[Tensor, int]],
    dtype: torch.dtype,
    file: str,
    where: str,
) -> dict[str, Tensor]:
    """The average of every element of each site. Shapes: the sites'."""
    totals = {site: torch.zeros(graph.shape(site), dtype=torch.float64) for site in groups}
    count = 0
    for part in _activations(data, graph, groups, dtype, file, where):
        for site in groups:
            totals[site] += part[site].sum(0)
        count += len(next(iter(part.values())))
    return {site: total / count for site, total in totals.items()}


def _quantiles(activations: Tensor, levels: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Quantiles of every element, linear between samples. Shapes: `(count, *shape)` to `shape` each."""
    q = torch.tensor(levels, dtype=torch.float64)
    # Elements are taken in parts: torch refuses to take quantiles of many numbers at once.
    columns = activations.flatten(1).split(max(1, _QUANTILE_NUMBERS // len(activations)), dim=1)
    low, high = torch.cat([part.quantile(q, dim=0) for part in columns], dim=1)
    return low.reshape(activations.shape[1:]), high.reshape(activations.shape[1:])
