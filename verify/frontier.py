"""The smallest circuit against radius or tolerance: one search after another, each from where a harder one ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from specs.errors import InputError
from specs.region import L2, Linf
from verify.api import Interrupted
from verify.discover import discover
from verify.found import Found

if TYPE_CHECKING:
    import torch

    from specs.model import Model
    from specs.spec import Spec
    from verify.api import Path_
    from verify.work.progress import Progress

__all__ = ["Over", "Point", "Stopped", "frontier"]

Over: TypeAlias = Literal["epsilon", "tolerance"]


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """What was found at one value. `lower` and `upper` bound the cost of a cheapest circuit there (`upper` infinite where no
    circuit was certified), by this search and by what harder and easier values say."""

    value: float
    found: Found
    lower: float
    upper: float


class Stopped(KeyboardInterrupt):
    """Stopped from outside. `points`: what was found by then."""

    def __init__(self, points: list[Point]) -> None:
        super().__init__()
        self.points = points


def frontier(
    model: Path_ | Model | torch.nn.Module | None,
    spec: Spec,
    over: Over,
    values: Sequence[float],
    *,
    progress: Callable[[float], Progress] | None = None,
    **options: Any,
) -> list[Point]:
    """Discover at each value of the region's radius (`epsilon`) or of the agreement's `tolerance`, in the order of `values`.

    Regions of one centre and norm are nested, so a circuit that is faithful at a radius is faithful at every smaller one, and a
    lower bound at a radius is one at every larger; for tolerances the other way round. So the hardest value is searched first,
    each next search starts from its circuit, and brackets are shared. `options` are those of `discover`; each value has the
    whole budget. Raises: as `discover`; InputError: the region has no radius, or a value is no number of 0 or more; Stopped.
    """
    if not values or any(not math.isfinite(value) or value < 0 for value in values):
        raise InputError("values", "", repr(list(values)), "one or more finite numbers of 0 or more")
    hardest_first = sorted(set(values), reverse=over == "epsilon")
    found: dict[float, Found] = {}
    start: Found | None = None
    for value in hardest_first:
        shown = {} if progress is None else {"progress": progress(value)}
        begun = {} if start is None else {"start": start.circuit}
        try:
            found[value] = discover(model, changed(spec, over, value), **begun, **shown, **options)
        except KeyboardInterrupt as stop:
            if isinstance(stop, Interrupted) and stop.circuit is not None:
                found[value] = Found(stop.circuit, stop.report)
            raise Stopped(_points(values, hardest_first, found)) from None
        start = found[value] if found[value].report.verdict == "certified" else None
    return _points(values, hardest_first, found)


def changed(spec: Spec, over: Over, value: float) -> Spec:
    """The spec with another radius or tolerance. Raises: InputError: its region has no radius."""
    if over == "tolerance":
        return spec.model_copy(update={"agreement": spec.agreement.model_copy(update={"tolerance": float(value)})})
    region = spec.input
    if not isinstance(region, Linf | L2):
        raise InputError(spec.file, "$.input.kind", region.kind, "linf or l2, which have a radius", "or vary the tolerance")
    return spec.model_copy(update={"input": region.model_copy(update={"epsilon": float(value)})})


def _points(values: Sequence[float], hardest_first: Sequence[float], found: dict[float, Found]) -> list[Point]:
    brackets = dict(_bracketed([value for value in hardest_first if value in found], found))
    return [Point(value, found[value], *brackets[value]) for value in values if value in found]


def _bracketed(hardest_first: Sequence[float], found: dict[float, Found]) -> Iterator[tuple[float, tuple[float, float]]]:
    uppers: dict[float, float] = {}
    upper = math.inf
    for value in hardest_first:
        told = found[value].report.minimality
        upper = min(upper, math.inf if told is None or told.upper is None else told.upper)
        uppers[value] = upper
    lower = 0.0
    for value in reversed(hardest_first):
        told = found[value].report.minimality
        lower = max(lower, 0.0 if told is None or told.lower is None else told.lower)
        yield value, (lower, uppers[value])
