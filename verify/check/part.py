"""A part of the region as proofs see it: the constraints on the way to it, what a certificate states for it, what is enclosed
on it, and a form on its way through the model. Trusted base."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from verify.check.enclosure import Lines, bent, chords, steepness, triangle
from verify.check.interval import Array, Box, U, gamma
from verify.check.operators import Curve, Relu
from verify.check.program import Step

__all__ = ["Add", "Bounds", "Constraint", "Empty", "Total", "Tuned", "lines_of", "side"]


@dataclass(frozen=True, slots=True)
class Constraint:
    """`side * (v - threshold) >= 0` of element `at` of a tensor, in the model's run or (`circuit`) as the circuit's readers see
    it."""

    circuit: bool
    tensor: str
    at: int
    side: int
    threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """What a certificate states for one leaf: for each ReLU the lower slopes of `f(y)` and `f(y + d)` and the weights, in [0,
    1]; and a multiplier for each constraint."""

    slopes: Mapping[str, Array]
    circuit_slopes: Mapping[str, Array]
    weights: Mapping[str, Array]
    multipliers: Array


@dataclass(slots=True, eq=False)
class Bounds:
    """Intervals of what readers of each tensor see: `y` in the model's run, `c` in the circuit's, `d` their difference; tensors
    without `d` do not differ. `lines` and `sizes` are kept for use again."""

    y: dict[str, Box] = field(default_factory=dict[str, Box])
    c: dict[str, Box] = field(default_factory=dict[str, Box])
    d: dict[str, Box] = field(default_factory=dict[str, Box])
    lines: dict[str, tuple[Lines, Lines, Lines]] = field(default_factory=dict[str, "tuple[Lines, Lines, Lines]"])
    sizes: dict[str, tuple[Array, Array | None]] = field(default_factory=dict[str, "tuple[Array, Array | None]"])


@dataclass(slots=True, eq=False)
class Total:
    """The constant of each row's form, and what rounding may have changed the form by so far."""

    value: Array
    error: Array

    def add(self, part: Array | float, error: Array | float) -> None:
        self.value = self.value + part
        self.error = self.error + error + U * np.abs(self.value)


Add = Callable[[dict[str, Array], str, Array], None]
"""Adds coefficients on a tensor to those that are there."""


class Empty(Exception):
    """No point satisfies the constraints."""


def side(a: Array, lines: Lines, total: Total) -> Array:
    """`a f(t)` from below as a form of `t`: the lower line where `a` is positive, else the upper one."""
    above, below = np.maximum(a, 0.0), np.minimum(a, 0.0)
    size = above @ np.abs(lines.bl) - below @ np.abs(lines.bu)
    total.add(above @ lines.bl + below @ lines.bu, 2 * gamma(2 * a.shape[1] + 2) * size)
    return above * lines.al + below * lines.au


def lines_of(b: Bounds, step: Step, tuned: Tuned | None) -> tuple[Lines, Lines, Lines]:
    """The lines of `f(y)`, of `f(y + d)` and of their difference."""
    op, x = step.op, step.inputs[0]
    assert isinstance(op, Relu | Curve)
    if step.name not in b.lines:
        y, c = b.y[x], b.c.get(x, b.y[x])
        on_y, on_c = (triangle(op.slope, t, None) if isinstance(op, Relu) else bent(op.kind, t) for t in (y, c))
        b.lines[step.name] = on_y, on_c, chords(*steepness(op, y, c), b.d[x]) if x in b.d else on_y
    if tuned is None or not isinstance(op, Relu):
        return b.lines[step.name]
    y, c = b.y[x], b.c.get(x, b.y[x])
    on_y, on_c = triangle(op.slope, y, tuned.slopes[step.name]), triangle(op.slope, c, tuned.circuit_slopes[step.name])
    return on_y, on_c, b.lines[step.name][2]
