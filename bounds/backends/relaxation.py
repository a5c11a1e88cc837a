"""Linear relaxations solved by HiGHS from a warm start, and lower bounds of them that do not depend on HiGHS being right.

What is proven rests on the multipliers alone. For any multipliers `y` of the rows, and any point with `low <= A x <= high`,
`lower <= x <= upper`,

    c.x  =  y.(A x) + (c - A^T y).x  >=  sum_i min(y_i low_i, y_i high_i) + sum_j min(z_j lower_j, z_j upper_j),  z = c - A^T y,

so every tolerance of the solver (primal and dual feasibility, 1e-9 here; its dropping of coefficients below 1e-9; its scaling)
can only make the bound looser, by the dual infeasibility of each column times its range. `z` and the sums are rounded outward
(`bounds.rounding.gamma`). That no point exists is believed on the same grounds: where the bound with `c = 0` is positive.

Source: Neumaier, Shcherbina 2004, "Safe bounds in linear and mixed-integer linear programming", Math. Program. 99.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import highspy
import numpy as np
import torch

from bounds.backends.program import Array, Goal
from bounds.rounding import gamma

__all__ = ["Relaxation", "Solved"]

_OPTIONS: dict[str, object] = {
    "output_flag": False,
    "presolve": "off",
    "solver": "simplex",
    "simplex_strategy": 1,
    "threads": 1,
    "parallel": "off",
    "primal_feasibility_tolerance": 1e-9,
    "dual_feasibility_tolerance": 1e-9,
}

_SLICE_S = 0.25
"""Seconds that the solver runs between looks at the clock."""

_ENDED = (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kObjectiveBound)
_SLICED = highspy.HighsModelStatus.kTimeLimit
_EMPTY = highspy.HighsModelStatus.kInfeasible


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """What is proven of one relaxation: no point of it lies below `bound` (infinite: there is no point). `point` and the rows'
    multipliers are the solver's, and promise nothing; None where it has none."""

    bound: float
    point: Array | None = None
    multipliers: Array | None = None


class Relaxation:
    """A goal without its kinks' other sides, to be solved over and over under tighter ends. Not to be used by two threads at
    once; HiGHS does not hold the interpreter's lock while it runs."""

    def __init__(self, goal: Goal) -> None:
        self.goal = goal
        self._transposed, self._sizes = goal.matrix.T.tocsr(), abs(goal.matrix).T.tocsr()
        rows, columns = cast("tuple[int, int]", goal.matrix.shape)
        self._slack = gamma(rows, torch.float64)
        self._sum_slack = gamma(rows + columns, torch.float64)
        self._ends = [goal.lower, goal.upper, goal.low, goal.high]
        self._solver: Any = highspy.Highs()
        for name, value in _OPTIONS.items():
            self._solver.setOptionValue(name, value)
        program, matrix = highspy.HighsLp(), cast(Any, goal.matrix)
        program.num_row_, program.num_col_ = rows, columns
        program.col_cost_, program.offset_ = goal.cost, goal.constant
        program.col_lower_, program.col_upper_ = goal.lower, goal.upper
        program.row_lower_, program.row_upper_ = goal.low, goal.high
        program.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        program.a_matrix_.start_, program.a_matrix_.index_ = matrix.indptr, matrix.indices
        program.a_matrix_.value_ = matrix.data
        if self._solver.passModel(program) == highspy.HighsStatus.kError:
            raise RuntimeError("HiGHS did not take the program")

    def solve(self, lower: Array, upper: Array, low: Array, high: Array, cutoff: float, expired: Callable[[], bool]) -> Solved:
        """Bound the cost under these ends, which lie within the goal's. Stops early above `cutoff`, or when `expired` says so:
        then with what the multipliers prove by then. Cost: one dual simplex run from the last basis."""
        self._move(lower, upper, low, high)
        solver = self._solver
        solver.setOptionValue("objective_bound", cutoff + 1e-7 * (1 + abs(cutoff)))
        status = None
        while not expired():
            solver.setOptionValue("time_limit", solver.getRunTime() + _SLICE_S)
            solver.run()
            status = solver.getModelStatus()
            if status != _SLICED:
                break
        if status == _EMPTY:
            ray = _ray(solver)
            for y in () if ray is None else (ray, -ray):
                if self._bound(y, np.zeros_like(self.goal.cost), 0.0) > 0:
                    return Solved(math.inf)
            return Solved(-math.inf)
        solution = solver.getSolution()
        if status is None or not solution.dual_valid:
            return Solved(-math.inf)
        y, x = np.array(solution.row_dual), np.array(solution.col_value)
        bound = self._bound(y, self.goal.cost, self.goal.constant)
        return Solved(bound, x if status in _ENDED else None, y)

    @np.errstate(invalid="ignore", over="ignore")
    def _bound(self, y: Array, cost: Array, constant: float) -> float:
        lower, upper, low, high = self._ends
        z = cost - self._transposed @ y
        error = self._slack * (abs(cost) + self._sizes @ abs(y))
        rows = np.minimum(y * low, y * high)
        columns = np.minimum(z * lower, z * upper) - error * np.maximum(abs(lower), abs(upper))
        total = rows.sum() + columns.sum() + constant
        slack = self._sum_slack * (abs(rows).sum() + abs(columns).sum() + abs(constant)) + np.finfo(float).tiny * z.size
        found = float(total - slack)
        return found if math.isfinite(found) else -math.inf

    def _move(self, *ends: Array) -> None:
        for change, i in ((self._solver.changeColsBounds, 0), (self._solver.changeRowsBounds, 2)):
            a, b = ends[i], ends[i + 1]
            at = ((a != self._ends[i]) | (b != self._ends[i + 1])).nonzero()[0].astype(np.int32)
            if at.size:
                change(at.size, at, a[at], b[at])
        self._ends = list(ends)


def _ray(solver: Any) -> Array | None:
    """Multipliers that show that no point exists, where the solver has any."""
    found = solver.getDualRay()
    return np.array(found[2]) if found[1] and len(found[2]) else None
