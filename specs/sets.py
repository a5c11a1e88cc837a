"""From the record of a region to the set of inputs that the model receives."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import region as sets
from bounds.ops.base import Shape
from bounds.rounding import up
from specs import region as records
from specs.arrays import resolve, resolve_each, resolve_rows, to_input, to_shape
from specs.errors import InputError
from specs.tokens import read_tokens

__all__ = ["Stated", "as_received", "read_regions"]


Ended: TypeAlias = records.Linf | records.L2 | records.Box | records.Hull


class Stated(NamedTuple):
    """One region that a record states: a label that tells it from the others, and its center, where it has one."""

    label: str
    region: sets.Region
    center: Tensor | None = None


def as_received(array: NDArray[np.float64], dtype: torch.dtype, *, file: str, where: str) -> Tensor:
    """Numbers rounded to the model's own precision, held in float64: what the model is given, not what the file says.

    Raises: InputError, at `file` `where`: a number too large for that precision.
    """
    given = torch.tensor(array, dtype=torch.float64)
    rounded = given.to(dtype).double()
    if not bool(rounded.isfinite().all()):
        worst, name = float(given.abs().max()), str(dtype).removeprefix("torch.")
        raise InputError(file, where, f"{worst:g}", f"numbers of at most {torch.finfo(dtype).max:g}, as the model takes {name}")
    return rounded


def read_regions(record: records.Region, shape: Shape, dtype: torch.dtype, *, file: str, where: str) -> list[Stated]:
    """The sets that a record states: one, or one for every index of a list.

    Centres, points and ends are rounded to the model's input precision first, so a region around a point contains it as the
    model receives it; radii and clip are taken exactly, and ends computed from them rounded outward. Raises: InputError: as
    `specs.arrays`, or the region is empty.
    """
    if isinstance(record, records.Tokens):
        return [Stated("tokens", read_tokens(record, shape, file=file, where=where))]
    ends = _clip(record, shape, file, where)
    if isinstance(record, records.Hull):
        rows = [
            _input(record, row, shape, file, f"{where}.points")
            for row in resolve_rows(record.points, file=file, where=f"{where}.points")
        ]
        points = torch.stack([as_received(row, dtype, file=file, where=f"{where}.points") for row in rows])
        if bool(((points < ends.lower) | (points > ends.upper)).any()):
            raise InputError(
                file, f"{where}.clip", "a point of the hull outside", "points inside", "clip them first or delete `clip`"
            )
        ulp = torch.finfo(dtype).eps * points.abs().amax(0)
        return [Stated("hull", sets.Hull(points, up(ulp + torch.finfo(dtype).tiny)))]
    if isinstance(record, records.Box):
        lower, upper = (
            _received(record, resolve(end, file=file, where=f"{where}.{key}"), shape, dtype, file, f"{where}.{key}")
            for key, end in (("lower", record.lower), ("upper", record.upper))
        )
        return [Stated("box", _nonempty(sets.Box(lower, upper), ends, file, where))]
    found: list[Stated] = []
    centers = resolve_each(record.center, file=file, where=f"{where}.center")
    for label, center in zip(_labels(record, len(centers)), centers, strict=True):
        c = _received(record, center, shape, dtype, file, f"{where}.center")
        place = f"{where}.epsilon"
        e = torch.tensor(
            to_shape(resolve(record.epsilon, file=file, where=place), shape, layout=record.layout, file=file, where=place)
        )
        if bool((e < 0).any()):
            raise InputError(file, place, f"{float(e.min())}", "radii of 0 or more")
        box = _nonempty(sets.Box(-_sum_above(-c, e), _sum_above(c, e)), ends, file, where)
        if isinstance(record, records.L2):
            found.append(Stated(label, _ball(c, record.epsilon, box, file, where), c))
        else:
            found.append(Stated(label, box, c))
    return found


def _ball(center: Tensor, radius: float, box: sets.Box, file: str, where: str) -> sets.Ball:
    """The ball cut by a box. Raises: InputError: they do not meet, although the ball's extent in each coordinate does."""
    gap = float((box.project(center) - center).norm())
    if gap > radius * (1 + 1e-9):
        said = f"the region is empty: the nearest point that clip allows is {gap:g} from the center"
        raise InputError(file, where, said, f"a distance of at most epsilon ({radius:g})", "check clip and the centre's scale")
    return sets.Ball(center, radius, box)


def _sum_above(a: Tensor, b: Tensor) -> Tensor:
    """The least floats that are at least `a + b`, from the sum and its exact error. Source: Knuth, TAOCP 2, 4.2.2 (TwoSum)."""
    total = a + b
    rest = total - a
    error = (a - (total - rest)) + (b - rest)
    return torch.where(error > 0, up(total), total)


def _labels(record: records.Linf | records.L2, count: int) -> list[str]:
    index = getattr(record.center, "index", None)
    if isinstance(index, tuple):
        return [f"index {i}" for i in index]
    return [f"index {index}" if isinstance(index, int) else "center"] * count


def _received(record: Ended, array: NDArray[np.float64], shape: Shape, dtype: torch.dtype, file: str, where: str) -> Tensor:
    return as_received(_input(record, array, shape, file, where), dtype, file=file, where=where)


def _input(record: Ended, array: NDArray[np.float64], shape: Shape, file: str, where: str) -> NDArray[np.float64]:
    return to_input(array, shape, scale=record.scale, layout=record.layout, file=file, where=where)


def _clip(record: Ended, shape: Shape, file: str, where: str) -> sets.Box:
    """The valid range as a box, infinite where there is none."""
    ends: list[Tensor] = []
    for i, endless in enumerate((-np.inf, np.inf)):
        end = None if record.clip is None else record.clip[i]
        if end is None:
            ends.append(torch.full(shape, endless, dtype=torch.float64))
        else:
            place = f"{where}.clip[{i}]"
            ends.append(
                torch.tensor(
                    to_shape(resolve(end, file=file, where=place), shape, layout=record.layout, file=file, where=place)
                )
            )
    return sets.Box(ends[0], ends[1])


def _nonempty(box: sets.Box, clip: sets.Box, file: str, where: str) -> sets.Box:
    cut = box.intersect(clip)
    empty = (cut.lower > cut.upper).flatten()
    if bool(empty.any()):
        i = int(empty.nonzero()[0])
        low, high = float(cut.lower.flatten()[i]), float(cut.upper.flatten()[i])
        raise InputError(
            file, where, f"the region is empty at coordinate {i} (lower {low:g}, upper {high:g})", "lower <= upper everywhere",
            "check clip and the centre's scale",
        )  # fmt: skip
    return cut
