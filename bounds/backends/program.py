"""A query on one circuit as a linear program with kinks: everything linear but for the activations whose sign is open.

Columns are the elements of both halves that the question depends on, rows what ties them together. All rows hold in real
arithmetic, for the floats in them: a row whose coefficients were rounded is as wide as that rounding may make it. An
activation that is not settled, `v = max(x, s x)` (`min` where `s > 1`), is enclosed by its three lines and noted as a kink;
with all kinks on one side or the other the program is exact. Columns and rows are bounded from both sides, always.

Source: the formulation is that of Tjeng, Xiao, Tedrake 2019, arXiv:1711.07356, without its binary variables and big constants;
rows on the difference of the halves (`bounds.domains.difference`) are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array
from torch import Tensor

from bounds.rounding import gamma

__all__ = ["Array", "Goal", "Index", "Kinks", "Program"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Kinks:
    """Activations with an open sign, one an entry: columns of argument `x` and value `v`, rows of `v - x` (`line`), of
    `v - slope x` (`flat`) and of the chord."""

    x: Index
    v: Index
    slope: Array
    line: Index
    flat: Index
    chord: Index

    def __len__(self) -> int:
        return len(self.x)

    def value(self, point: Array) -> Array:
        """What the activations are at the arguments of a point."""
        x = point[self.x]
        return np.where(self.slope <= 1, np.maximum(x, self.slope * x), np.minimum(x, self.slope * x))


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """Least value wanted of `cost . columns + constant`, over `low <= matrix columns <= high`, `lower <= columns <= upper` and
    the kinks. All ends are finite."""

    lower: Array
    upper: Array
    matrix: csc_array
    low: Array
    high: Array
    cost: Array
    constant: float
    kinks: Kinks


def _array() -> list[Array]:
    return []


def _index() -> list[Index]:
    return []


@dataclass(eq=False)
class Program:
    """Columns, rows and kinks as they are added."""

    lower: list[Array] = field(default_factory=_array)
    upper: list[Array] = field(default_factory=_array)
    columns: int = 0
    at: list[Index] = field(default_factory=_index)
    to: list[Index] = field(default_factory=_index)
    values: list[Array] = field(default_factory=_array)
    low: list[Array] = field(default_factory=_array)
    high: list[Array] = field(default_factory=_array)
    rows: int = 0
    kinks: list[Kinks] = field(default_factory=list[Kinks])

    @property
    def entries(self) -> int:
        """Coefficients so far."""
        return sum(len(values) for values in self.values)

    def copy(self) -> Program:
        """The same program, to be added to on its own."""
        lists = {name: list(value) for name, value in vars(self).items() if isinstance(value, list)}
        return replace(self, **lists)

    def variables(self, lower: Array, upper: Array) -> Index:
        """New columns between two ends; their numbers."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.columns += lower.size
        return np.arange(self.columns - lower.size, self.columns)

    def constrain(self, terms: Sequence[tuple[Index, Array | float]], low: Array, high: Array) -> Index:
        """Rows `low <= sum_k value_k * column_k <= high`, each term one column and one value a row; their numbers."""
        at = np.arange(self.rows, self.rows + low.size)
        for columns, values in terms:
            self._enter(at, columns, np.broadcast_to(np.asarray(values, dtype=np.float64), at.shape))
        return self._close(low, high)

    def row(self, columns: Index, values: Array, low: float, high: float) -> None:
        """One row `low <= values . columns <= high`."""
        self._enter(np.full(columns.size, self.rows), columns, values)
        self._close(np.array([low]), np.array([high]))

    def equate(self, result: Index, sources: Sequence[tuple[Index, Array]], low: Array, high: Array) -> Index:
        """Rows `low <= result - sum_k matrix_k columns_k <= high`; their numbers."""
        at = np.arange(self.rows, self.rows + result.size)
        self._enter(at, result, np.ones(result.size))
        for columns, matrix in sources:
            i, j = matrix.nonzero()
            self._enter(at[i], columns[j], -matrix[i, j])
        return self._close(low, high)

    def bend(self, x: Index, v: Index, slope: float, a: Array, b: Array) -> None:
        """Kinks `v = max(x, slope x)`, or `min` for a slope above 1, that the chord `a x + b` closes from the other side."""
        n, zero, endless = x.size, np.zeros(x.size), np.full(x.size, np.inf)
        above, below = (zero, endless), (-endless, zero)
        side, chord = (above, (-endless, b)) if slope <= 1 else (below, (b, endless))
        line = self.constrain([(v, 1.0), (x, -1.0)], *side)
        flat = self.constrain([(v, 1.0), (x, -slope)], *side)
        chords = self.constrain([(v, 1.0), (x, -a)], *chord)
        self.kinks.append(Kinks(x, v, np.full(n, slope), line, flat, chords))

    def goal(self, cost: Array, constant: float) -> Goal:
        """The program with an objective. Rows open to one side are closed by what their columns' ends allow."""
        lower, upper = np.concatenate(self.lower), np.concatenate(self.upper)
        none = np.zeros(0, dtype=np.int64)
        at, to = np.concatenate([none, *self.at]), np.concatenate([none, *self.to])
        values = np.concatenate([np.zeros(0), *self.values])
        matrix = csc_array(coo_array((values, (at, to)), shape=(self.rows, self.columns)))
        matrix.sum_duplicates()
        reach = abs(matrix) @ np.maximum(abs(lower), abs(upper)) * (1 + gamma(self.columns, torch.float64)) + 1e-300
        low = np.maximum(np.concatenate([np.zeros(0), *self.low]), -reach)
        high = np.minimum(np.concatenate([np.zeros(0), *self.high]), reach)
        parts = [*self.kinks, Kinks(none, none, np.zeros(0), none, none, none)]
        kinks = Kinks(*(np.concatenate([getattr(part, name) for part in parts]) for name in Kinks.__slots__))
        return Goal(lower, upper, matrix, low, high, np.pad(cost, (0, self.columns - cost.size)), constant, kinks)

    def _enter(self, at: Index, to: Index, values: Array) -> None:
        assert not to.size or to.min() >= 0, "a row reads an element that nothing was said to depend on"
        self.at.append(at)
        self.to.append(to)
        self.values.append(values)

    def _close(self, low: Array, high: Array) -> Index:
        self.low.append(low)
        self.high.append(high)
        self.rows += low.size
        return np.arange(self.rows - low.size, self.rows)


def flat(values: Tensor) -> Array:
    """The entries of a tensor of batch 1, in order."""
    return values[0].flatten().double().cpu().numpy()
