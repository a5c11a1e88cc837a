"""Exact answers for small piecewise-linear networks: one mixed-integer program over the model and the circuit, solved by HiGHS.

Only units that the linear domain leaves unstable get a binary variable; all others are linear. Source: Tjeng, Xiao, Tedrake
2019, arXiv:1711.07356.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.native import Native, NativeBounder
from bounds.domains.refine import circuit_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Affine
from bounds.ops.relu import LeakyRelu
from bounds.query import Bound, Query
from bounds.region import Box

__all__ = ["Milp", "MilpBounder"]

_WIDEN = 1e-5
"""What the solver's tolerances (1e-6 and less, on rows of the size of the network's values) may be worth, relative to the
largest value in the program. Taken off every bound."""


_MEMORY = 1 << 28


@dataclass(frozen=True, slots=True)
class Milp(Backend):
    """HiGHS on both halves at once, at most `time_s` seconds a form; `unstable` is the most binary variables it will take on.

    Guarantees: the solver's own dual bound, widened by its tolerances: sound as far as HiGHS keeps to them, in real arithmetic.
    Within `time_s` the bound is the best reached, never a guess. Only ReLU and LeakyReLU with boxes for input and patches.
    """

    name: ClassVar[str] = "milp"
    time_s: float = 30.0
    unstable: int = 400

    def open(self, query: Query) -> MilpBounder:
        for node in query.graph.nodes:
            if not isinstance(node.op, Affine | LeakyRelu):
                raise BackendRefusal(f"tensor {node.name!r}: milp has no exact form of {type(node.op).__name__}; use native")
        if not isinstance(query.region, Box):
            raise BackendRefusal("milp takes boxes of inputs only; use native")
        return MilpBounder(query, self)


@dataclass(eq=False)
class _Program:
    """Rows and columns of a mixed-integer program as they are added."""

    lower: list[np.ndarray] = field(default_factory=list[np.ndarray])
    upper: list[np.ndarray] = field(default_factory=list[np.ndarray])
    binary: list[np.ndarray] = field(default_factory=list[np.ndarray])
    columns: int = 0
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(
        default_factory=list[tuple[np.ndarray, np.ndarray, np.ndarray]]
    )
    low: list[np.ndarray] = field(default_factory=list[np.ndarray])
    high: list[np.ndarray] = field(default_factory=list[np.ndarray])
    rows: int = 0

    def variables(self, lower: np.ndarray, upper: np.ndarray, binary: bool = False) -> np.ndarray:
        """New columns between two ends; their numbers."""
        n = lower.size
        self.lower.append(lower.ravel())
        self.upper.append(upper.ravel())
        self.binary.append(np.full(n, binary))
        self.columns += n
        return np.arange(self.columns - n, self.columns)

    def constrain(self, terms: Sequence[tuple[np.ndarray, np.ndarray]], low: np.ndarray, high: np.ndarray) -> None:
        """Rows `low <= sum_k value_k * column_k <= high`; each term holds one column and one value a row."""
        at = np.arange(self.rows, self.rows + low.size)
        for columns, values in terms:
            self.entries.append((at, columns, np.broadcast_to(values, at.shape)))
        self._ends(low, high)

    def equate(self, result: np.ndarray, sources: Sequence[tuple[np.ndarray, np.ndarray]], offset: np.ndarray) -> None:
        """Rows `result - sum_k matrix_k column_k = offset`."""
        at = np.arange(self.rows, self.rows + result.size)
        self.entries.append((at, result, np.ones(result.size)))
        for columns, matrix in sources:
            i, j = matrix.nonzero()
            self.entries.append((at[i], columns[j], -matrix[i, j]))
        self._ends(offset, offset)

    def _ends(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low.append(low)
        self.high.append(high)
        self.rows += low.size

    def least(self, objective: np.ndarray, time_s: float) -> float:
        """A lower bound of the objective's minimum: the solver's dual bound; minus infinity where it has none."""
        i, j, v = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        matrix = coo_matrix((v, (i, j)), shape=(self.rows, self.columns)).tocsr()
        ends: Any = (np.concatenate(self.lower), np.concatenate(self.upper))
        sides: Any = (np.concatenate(self.low), np.concatenate(self.high))
        found = milp(
            objective,
            integrality=np.concatenate(self.binary).astype(int),
            bounds=Bounds(*ends),
            constraints=LinearConstraint(matrix, *sides),
            options={"time_limit": time_s, "mip_rel_gap": 1e-9, "presolve": True},
        )
        bound = found.fun if found.status == 0 and found.mip_dual_bound is None else found.mip_dual_bound
        return -math.inf if bound is None or not math.isfinite(bound) else float(bound)


@dataclass(frozen=True, eq=False)
class MilpBounder(Bounder):
    """One query; the linear domain's bounds of the model are kept between circuits."""

    query: Query
    options: Milp

    @cached_property
    def _native(self) -> NativeBounder:
        return Native("difference").open(self.query)

    def bound(self, masks: Tensor) -> Bound:
        forms = torch.stack([self._bound(mask.unsqueeze(0)) for mask in masks])
        return Bound.of(self.query.margins, forms)

    def _bound(self, mask: Tensor) -> Tensor:
        options, query = self.options, self.query
        model = self._native.model
        circuit = difference_trace(circuit_trace(model, query.gates, mask, _MEMORY), _MEMORY)
        program = _Program()
        columns = _stream(program, model, None)
        both = _stream(program, circuit, columns)
        if int(np.concatenate(program.binary).sum()) > options.unstable:
            return self._native.bound(mask).forms[0]
        output = query.graph.output
        size = max(float(box.magnitude.max()) for trace in (model, circuit) for box in trace.read.values())
        found: list[float] = []
        for c, m, o in zip(query.margins.circuit.flatten(1), query.margins.model.flatten(1), query.margins.offset, strict=True):
            objective = np.zeros(program.columns)
            np.add.at(objective, both[output], c.numpy())
            np.add.at(objective, columns[output], m.numpy())
            weight = float(c.abs().sum() + m.abs().sum())
            found.append(program.least(objective, options.time_s) + float(o) - _WIDEN * (1 + size) * weight)
        return torch.maximum(torch.tensor(found, dtype=torch.float64), self._native.bound(mask).forms[0])


def _stream(program: _Program, trace: Trace, model: dict[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    """Columns of every tensor as its readers see it: of the model, or of a circuit that shares what no gate changes with it."""
    graph = trace.graph
    seen: dict[str, np.ndarray] = {}
    if model is None:
        seen[graph.input] = program.variables(*_ends(trace.read[graph.input]))
    else:
        seen[graph.input] = model[graph.input]
    for node in graph.nodes:
        if model is not None and node.name not in trace.delta:
            seen[node.name] = model[node.name]
            continue
        if model is not None and not any(x in trace.delta for x in node.inputs):
            value = model[node.name]
        else:
            value = _computed(program, trace, node, seen)
        kept = trace.kept.get(node.name)
        if kept is None:
            seen[node.name] = value
            continue
        patch = program.variables(*_ends(trace.patch[node.name]))
        seen[node.name] = np.where(kept[0].flatten().numpy(), value, patch)
    return seen


def _ends(box: Box) -> tuple[np.ndarray, np.ndarray]:
    return box.lower[0].flatten().numpy(), box.upper[0].flatten().numpy()


def _computed(program: _Program, trace: Trace, node: Node, seen: dict[str, np.ndarray]) -> np.ndarray:
    lower, upper = _ends(trace.value[node.name])
    value = program.variables(lower, upper)
    if isinstance(node.op, Affine):
        units = torch.eye(lower.size, dtype=trace.graph.dtype).reshape(lower.size, *node.shape)
        parts = [part.reshape(lower.size, -1).numpy() for part in node.op.adjoint(units)]
        offset = node.op.offset()
        constant = torch.zeros(node.shape, dtype=trace.graph.dtype) if offset is None else offset.expand(node.shape)
        program.equate(
            value, [(seen[x], part) for x, part in zip(node.inputs, parts, strict=False)], constant.flatten().numpy()
        )
        return value
    assert isinstance(node.op, LeakyRelu)
    source, slope = seen[node.inputs[0]], node.op.slope
    l, u = _ends(trace.read[node.inputs[0]])
    stable = (l >= 0) | (u <= 0)
    zero = np.zeros(int(stable.sum()))
    program.constrain([(value[stable], np.ones(1)), (source[stable], -np.where(l >= 0, 1.0, slope)[stable])], zero, zero)
    v, x, l, u = value[~stable], source[~stable], l[~stable], u[~stable]
    n, endless = v.size, np.full(v.size, np.inf)
    z = program.variables(np.zeros(n), np.ones(n), binary=True)
    one, sign = np.ones(1), 1.0 if slope <= 1 else -1.0
    # With sign 1 the function is max(x, slope x): above both, and equal to the one that z picks.
    steep = 1.0 - slope
    for line, end in ((1.0, -steep * l), (slope, steep * u)):
        low, high = (np.zeros(n), endless) if sign > 0 else (-endless, np.zeros(n))
        program.constrain([(v, one), (x, np.full(1, -line))], low, high)
        # value - line x is at most `end` where z picks the other line, and 0 where it picks this one.
        if line == 1.0:
            low, high = (-endless, end) if sign > 0 else (end, endless)
            program.constrain([(v, one), (x, -one), (z, end)], low, high)
        else:
            low, high = (-endless, np.zeros(n)) if sign > 0 else (np.zeros(n), endless)
            program.constrain([(v, one), (x, np.full(1, -line)), (z, -end)], low, high)
    return value
