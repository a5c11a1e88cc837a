"""The true least margin of a small piecewise-linear query, by going through every activation pattern.

Slow, plain, and independent of every relaxation: it shares with `bounds` only the operators' forward pass. Over the inputs and
patch values `z` (a polytope), every tensor of both halves is an affine function of `z` as long as no unit changes sides; each
unit that can be on either side splits the polytope in two. On every piece the margin is a minimum of linear programs, which
HiGHS solves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from bounds.graph import Node
from bounds.ops import Clip, LeakyRelu
from bounds.ops.base import Affine, Elementwise
from bounds.query import Clauses, Norm, Query
from bounds.region import Box, Hull
from tests.laws.evaluation import kept_elements

__all__ = ["TooLarge", "exact_margin"]

_OPTIONS = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
_THIN = 1e-9
"""A unit whose argument passes its kink by no more than this is not split: both sides agree to within it."""

Array = NDArray[np.float64]
Forms = Tensor
"""An affine function of `z`: shape `(1 + len(z), *shape)`, the constant first."""


class TooLarge(Exception):
    """More pieces than allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """`z` in a box, with rows `a z <= b` and `e z = f`."""

    lower: Array
    upper: Array
    a: Array
    b: Array
    e: Array
    f: Array

    def cut(self, form: Array) -> _Set:
        """Where an affine function is at most 0."""
        return _Set(self.lower, self.upper, np.vstack([self.a, form[None, 1:]]), np.append(self.b, -form[0]), self.e, self.f)

    def least(self, form: Array, extra: tuple[Array, Array, int] | None = None) -> float | None:
        """The least value of an affine function; None where the set is empty. `extra`: rows over `z` and more, free,
        variables."""
        free = 0 if extra is None else extra[2]
        a, e = (np.hstack([m, np.zeros((len(m), free))]) for m in (self.a, self.e))
        b = self.b
        if extra is not None:
            a, b = np.vstack([a, extra[0]]), np.append(b, extra[1])
        bounds = [*zip(self.lower, self.upper, strict=True), *[(None, None)] * free]
        equal = (e, self.f) if len(e) else (None, None)
        found = linprog(form[1:], a, b, *equal, bounds, method="highs", options=_OPTIONS)
        if found.status == 2:
            return None
        if found.status != 0:
            raise RuntimeError(f"HiGHS: {found.message}")
        return float(found.fun) + float(form[0])

    def outer(self, form: Array) -> tuple[float, float]:
        """An interval of an affine function, over the box alone."""
        low = np.where(form[1:] > 0, self.lower, self.upper) @ form[1:] + form[0]
        high = np.where(form[1:] > 0, self.upper, self.lower) @ form[1:] + form[0]
        return float(low), float(high)


def exact_margin(query: Query, mask: Tensor, pieces: int = 512) -> float:
    """The least margin over the region and all patch values, to about 1e-8 of the size of the network's values.

    Shapes: `mask` `(gates.size,)` bool. Takes affine operators, ReLU, LeakyReLU and Clip; boxes and hulls; margins in clauses
    or in the L1 norm. Cost: two linear programs a unit that may split, on every piece. Raises: TooLarge: over `pieces`
    patterns; NotImplementedError: anything else.
    """
    start, x, patches = _inputs(query)
    kept = kept_elements(query.gates, mask)
    best = np.inf
    for i, (piece, model, circuit) in enumerate(_pieces(query, start, x, patches, kept)):
        if i >= pieces:
            raise TooLarge(f"more than {pieces} activation patterns")
        best = min(best, _margin(query, piece, model, circuit))
    return float(best)


def _inputs(query: Query) -> tuple[_Set, Forms, dict[str, Forms]]:
    """All variables, and the input and patch values as functions of them."""
    region, gates = query.region, query.gates.gates
    parts: list[tuple[Array, Array]] = []
    points: Tensor | None = None
    if isinstance(region, Hull):
        points = region.points
        parts.append((np.zeros(len(points)), np.ones(len(points))))
        parts.append((-region.rounding.flatten().numpy(), region.rounding.flatten().numpy()))
    elif isinstance(region, Box):
        parts.append((region.lower.flatten().numpy(), region.upper.flatten().numpy()))
    else:
        raise NotImplementedError(f"exact margins over a {type(region).__name__}")
    gates = tuple(gate for gate in gates if gate.source is None)
    parts += [(gate.patch.lower.flatten().numpy(), gate.patch.upper.flatten().numpy()) for gate in gates]
    lower, upper = (np.concatenate(ends) for ends in zip(*parts, strict=True))
    n = len(lower)
    x = torch.zeros((1 + n, *region.shape), dtype=torch.float64)
    at = 1 if points is None else 1 + len(points)
    size = x[0].numel()
    x[at : at + size] = torch.eye(size, dtype=torch.float64).reshape(size, *region.shape)
    if points is not None:
        x[1:at] = points
    patches: dict[str, Forms] = {}
    at += size
    for gate in gates:
        size = gate.group.numel()
        form = torch.zeros((1 + n, *gate.group.shape), dtype=torch.float64)
        form[at : at + size] = torch.eye(size, dtype=torch.float64).reshape(size, *gate.group.shape)
        patches[gate.tensor] = form
        at += size
    e, f = np.zeros((0, n)), np.zeros(0)
    if points is not None:
        e, f = np.zeros((1, n)), np.ones(1)
        e[0, : len(points)] = 1
    return _Set(lower, upper, np.zeros((0, n)), np.zeros(0), e, f), x, patches


Halves = tuple[dict[str, Forms], dict[str, Forms]]


def _pieces(
    query: Query, start: _Set, x: Forms, patches: Mapping[str, Forms], kept: Mapping[str, Tensor]
) -> Iterator[tuple[_Set, Forms, Forms]]:
    """Every piece of the domain on which both halves are affine, with the two outputs there. Depth first."""
    graph = query.graph
    stack: list[tuple[int, _Set, Halves]] = [(0, start, ({graph.input: x}, {graph.input: x}))]
    while stack:
        i, piece, (model, circuit) = stack.pop()
        if i == 2 * len(graph.nodes):
            yield piece, model[graph.output], circuit[graph.output]
            continue
        node, ours = graph.nodes[i // 2], bool(i % 2)
        values = circuit if ours else model
        for cut, y in _results(node, [values[name] for name in node.inputs], piece):
            if ours and node.name in kept and node.name != graph.output:
                source = query.gates.sources.get(node.name)
                y = torch.where(kept[node.name], y, patches[node.name] if source is None else model[source])
            after = {**values, node.name: y}
            stack.append((i + 1, cut, (model, after) if ours else (after, circuit)))


def _results(node: Node, inputs: list[Forms], piece: _Set) -> Iterator[tuple[_Set, Forms]]:
    """What a node computes, on each of the parts that its units' sides cut a piece into."""
    if isinstance(node.op, Affine):
        moved = node.op.forward(*inputs)
        constant = node.op.forward(*(torch.zeros_like(v[:1]) for v in inputs))
        yield piece, torch.cat([moved[:1], moved[1:] - constant])
        return
    argument = inputs[0].flatten(1).numpy()
    todo: list[tuple[int, _Set, list[Array]]] = [(0, piece, [])]
    while todo:
        k, cut, done = todo.pop()
        if k == argument.shape[1]:
            yield cut, torch.tensor(np.stack(done, axis=1)).reshape(inputs[0].shape)
            continue
        for part, value in _sides(node.op, argument[:, k], cut):
            todo.append((k + 1, part, [*done, value]))


def _sides(op: object, form: Array, piece: _Set) -> Iterator[tuple[_Set, Array]]:
    """The sides of one unit that a piece reaches: a part of the piece, and the unit's value there."""
    constant = np.zeros_like(form)
    if isinstance(op, LeakyRelu):
        regimes = [(-np.inf, 0.0, op.slope * form), (0.0, np.inf, form)]
    elif isinstance(op, Clip):
        ends = [constant + np.eye(len(form))[0] * end if np.isfinite(end) else constant for end in (op.low, op.high)]
        regimes = [(-np.inf, op.low, ends[0]), (op.low, op.high, form), (op.high, np.inf, ends[1])]
    else:
        name = type(op).__name__ if isinstance(op, Elementwise) else repr(op)
        raise NotImplementedError(f"exact margins through {name}")
    low, high = piece.outer(form)
    kinks = [end for end, _, _ in regimes[1:] if np.isfinite(end)]
    if any(low < k < high for k in kinks):
        least, most = piece.least(form), piece.least(-form)
        if least is None or most is None:
            return  # an empty piece
        low, high = least, -most
    for start, end, value in regimes:
        if start >= end or high < start - _THIN or low > end + _THIN or (high - start <= _THIN and start > low) or (
            end - low <= _THIN and end < high
        ):  # fmt: skip
            continue
        part = piece
        if low < start:
            part = part.cut(np.append(start - form[0], -form[1:]))
        if high > end:
            part = part.cut(np.append(form[0] - end, form[1:]))
        yield part, value


def _margin(query: Query, piece: _Set, model: Forms, circuit: Forms) -> float:
    """The least margin on one piece."""
    margins = query.margins
    forms = (circuit.flatten(1) @ margins.circuit.flatten(1).T + model.flatten(1) @ margins.model.flatten(1).T).numpy().copy()
    forms[0] += margins.offset.numpy()
    best = np.inf
    if isinstance(margins, Clauses):
        for clause in margins.clauses.tolist():
            literals = forms[:, sorted(set(clause))].T
            if len(literals) == 1:
                found = piece.least(literals[0])
            else:  # the least t that is at least every literal
                n = forms.shape[0] - 1
                rows = np.hstack([literals[:, 1:], -np.ones((len(literals), 1))])
                found = piece.least(np.append(np.zeros(n + 1), 1.0), (rows, -literals[:, 0], 1))
            best = best if found is None else min(best, found)
        return best
    if isinstance(margins, Norm) and margins.order == 1:
        half = forms[:, : forms.shape[1] // 2]
        for signs in itertools.product((1.0, -1.0), repeat=half.shape[1]):
            found = piece.least(-(half @ np.array(signs)))
            best = best if found is None else min(best, margins.tolerance + found)
        return best
    raise NotImplementedError(f"exact margins of {type(margins).__name__}")
