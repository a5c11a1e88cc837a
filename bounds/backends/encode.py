"""From the traces of a model and of one circuit to a program: both halves, as far as the question depends on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bounds.backends.program import Array, Goal, Index, Program, flat
from bounds.backends.wanted import Flags, flags, wanted_elements
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Affine, Lines
from bounds.ops.relu import LeakyRelu
from bounds.query import Clauses, Margins, Norm
from bounds.region import Box, Hull, Region
from bounds.rounding import gamma
from bounds.stack import Stack

__all__ = ["Encoding", "TooLarge", "count_open", "encode"]

_CHUNK = 1 << 22
"""Numbers of a dense block of an affine operator's matrix held at once."""


class TooLarge(ValueError):
    """The program would have more coefficients than allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A program, and the columns of the input, of each gated tensor's patch values, and of the two outputs.

    Shapes: flat; a column number of -1 stands for an element that the question does not depend on.
    """

    program: Program
    input: Index
    patches: dict[str, Index]
    circuit: Index
    model: Index

    def goal(self, margins: Margins, rows: Sequence[int], known: Array) -> Goal:
        """The least value of a clause (the greatest of its forms), or of an L1 norm's margin: `rows` are its forms.

        Shapes: `known` `(forms,)`, lower bounds of all forms. Guarantees: exact once every kink is settled, but for the width
        of rows that rounding made wide.
        """
        program = self.program.copy()
        forms = [self._form(margins, row) for row in rows]
        if isinstance(margins, Clauses):
            if len(forms) == 1:
                return program.goal(*forms[0])
            size = max(self._size(*form) for form in forms)
            most = program.variables(np.array([-size]), np.array([size]))
            for cost, constant in forms:
                _tie(program, most, cost, constant, np.inf)
            return program.goal(_unit(program.columns, most), 0.0)
        assert isinstance(margins, Norm)
        # |d| = max(d, -d) is a kink of slope -1. A norm's forms are d, then -d, without offsets.
        sizes: list[Index] = []
        half = len(rows) // 2
        for (cost, constant), above, below in zip(forms[:half], rows[:half], rows[half:], strict=True):
            size = self._size(cost, constant)
            l, u = np.maximum(known[[above]], -size), np.minimum(-known[[below]], size)
            d, v = program.variables(l, u), program.variables(np.zeros(1), np.maximum(abs(l), abs(u)))
            _tie(program, d, cost, 0.0, 0.0)
            if l[0] >= 0 or u[0] <= 0:
                program.constrain([(v, 1.0), (d, -1.0 if l[0] >= 0 else 1.0)], np.zeros(1), np.zeros(1))
            else:
                lines = LeakyRelu(-1.0).envelope(torch.from_numpy(l), torch.from_numpy(u))
                program.bend(d, v, -1.0, lines.au.numpy(), lines.bu.numpy())
            sizes.append(v)
        return program.goal(-_unit(program.columns, np.concatenate(sizes)), margins.tolerance)

    def _form(self, margins: Margins, row: int) -> tuple[Array, float]:
        cost = np.zeros(self.program.columns)
        for coefficients, columns in ((margins.circuit, self.circuit), (margins.model, self.model)):
            values = coefficients[row].flatten().double().cpu().numpy()
            used = values != 0
            np.add.at(cost, columns[used], values[used])
        return cost, float(margins.offset[row])

    def _size(self, cost: Array, constant: float) -> float:
        """No less than the form's absolute value."""
        lower, upper = np.concatenate(self.program.lower), np.concatenate(self.program.upper)
        return float(abs(cost) @ np.maximum(abs(lower), abs(upper)) + abs(constant)) * (1 + gamma(cost.size, torch.float64))


def _unit(columns: int, at: Index) -> Array:
    cost = np.zeros(columns)
    cost[at] = 1.0
    return cost


def _tie(program: Program, column: Index, cost: Array, constant: float, above: float) -> None:
    """A row: `column` is the form, plus at most `above`."""
    at = cost.nonzero()[0]
    program.row(np.concatenate([column, at]), np.concatenate([np.ones(1), -cost[at]]), constant, constant + above)


def count_open(circuit: Trace) -> int:
    """How many kinks the program of a circuit's trace has at most: activations with an open sign, in both halves. Cost: none
    to speak of."""
    assert circuit.model is not None
    found = 0
    for node in circuit.graph.nodes:
        if not isinstance(node.op, LeakyRelu):
            continue
        source = node.inputs[0]
        boxes = [circuit.model.read[source]] + [circuit.read[source]] * (source in circuit.delta)
        found += sum(int((~node.op.settled(box.lower, box.upper)).sum()) for box in boxes)
    return found


def encode(circuit: Trace, margins: Margins, entries: int = 1 << 22, expired: Callable[[], bool] = lambda: False) -> Encoding:
    """A program of both halves, from the trace of one circuit (batch 1), for these margins.

    Left out is what no margin depends on: what an ablated or an inactive element would have read. Operators: affine ones, ReLU
    and LeakyReLU; regions: boxes and hulls. Raises: TooLarge: over `entries` coefficients; TimeoutError: `expired` said so
    on the way.
    """
    return _Encoder(circuit, entries, expired).encode(margins)


@dataclass(eq=False)
class _Encoder:
    circuit: Trace
    entries: int
    expired: Callable[[], bool]
    program: Program = field(default_factory=Program)

    def encode(self, margins: Margins) -> Encoding:
        circuit, model = self.circuit, self._model
        graph = circuit.graph
        wanted_c, wanted_m = wanted_elements(circuit, margins)
        columns_m = {graph.input: self._input()}
        for node in graph.nodes:
            columns_m[node.name] = self._value(model, node, columns_m, wanted_m[node.name])
        columns_c, patches = dict(columns_m), dict[str, Index]()
        for node in (node for node in graph.nodes if node.name in circuit.delta):
            name, wanted = node.name, wanted_c[node.name]
            value = columns_m[name]
            if any(x in circuit.delta for x in node.inputs):
                kept = wanted & flags(circuit.kept[name]) if name in circuit.kept else wanted
                value = self._value(circuit, node, columns_c, kept)
                self._differ(node, value, columns_m[name], columns_c, columns_m)
            if name in circuit.kept:
                kept = flags(circuit.kept[name])
                patches[name] = self._patch(name, wanted & ~kept, columns_m)
                value = np.where(kept, value, patches[name])
            columns_c[name] = np.where(wanted, value, -1)
        return Encoding(self.program, columns_m[graph.input], patches, columns_c[graph.output], columns_m[graph.output])

    @property
    def _model(self) -> Trace:
        assert self.circuit.model is not None
        return self.circuit.model

    def _input(self) -> Index:
        region, program = self.circuit.region, self.program
        box = self._model.read[self.circuit.graph.input]
        x = program.variables(flat(box.lower), flat(box.upper))
        self._confine(region, x)
        return x

    def _confine(self, region: Region, x: Index) -> None:
        """Rows that keep a point to a region; its box is in the columns' ends already."""
        program = self.program
        if isinstance(region, Stack):
            for part, half in zip((region.first, region.second), np.split(x, 2), strict=True):
                self._confine(part, half)
        elif isinstance(region, Hull):
            count, points = len(region.points), region.points.flatten(1).double().cpu().numpy()
            weights = program.variables(np.zeros(count), np.ones(count))
            program.row(weights, np.ones(count), 1.0, 1.0)
            room = region.rounding.flatten().double().cpu().numpy()
            program.equate(x, [(weights, points.T)], -room, room)
        else:
            assert isinstance(region, Box)

    def _patch(self, name: str, wanted: Flags, columns_m: dict[str, Index]) -> Index:
        """Columns of the wanted patch values: of their own, or of the tensor of the model that they come from."""
        found = np.full(wanted.size, -1)
        if name in self.circuit.sources:
            found[wanted] = columns_m[self.circuit.sources[name]][wanted]
            return found
        box = self.circuit.patch[name]
        found[wanted] = self.program.variables(flat(box.lower)[wanted], flat(box.upper)[wanted])
        return found

    def _value(self, trace: Trace, node: Node, columns: dict[str, Index], wanted: Flags) -> Index:
        """Columns of the wanted elements of what a node computes in one half."""
        found = np.full(wanted.size, -1)
        at = wanted.nonzero()[0]
        if not at.size:
            return found
        box = trace.value[node.name]
        lower, upper = flat(box.lower)[at], flat(box.upper)[at]
        if isinstance(node.op, Affine):
            found[at] = self._affine(trace, node, columns, at, lower, upper)
            return found
        assert isinstance(node.op, LeakyRelu)
        source, slope = columns[node.inputs[0]], node.op.slope
        read = trace.read[node.inputs[0]]
        l, u = flat(read.lower)[at], flat(read.upper)[at]
        active, inactive = (l >= 0) & (u > 0), u <= 0
        found[at[active]] = source[at[active]]
        if inactive.any():
            off = at[inactive]
            if slope == 0:
                found[off] = self.program.variables(np.zeros(off.size), np.zeros(off.size))
            else:
                found[off] = self.program.variables(lower[inactive], upper[inactive])
                zero = np.zeros(off.size)
                self.program.constrain([(found[off], 1.0), (source[off], -slope)], zero, zero)
        open_ = ~active & ~inactive
        if open_.any():
            kinks, lines = at[open_], trace.lines(node)
            assert isinstance(lines, Lines)
            found[kinks] = self.program.variables(lower[open_], upper[open_])
            a, b = (lines.au, lines.bu) if slope <= 1 else (lines.al, lines.bl)
            self.program.bend(source[kinks], found[kinks], slope, flat(a)[kinks], flat(b)[kinks])
        return found

    def _affine(self, trace: Trace, node: Node, columns: dict[str, Index], at: Index, lower: Array, upper: Array) -> Index:
        """Columns of elements of an affine node; one that only hands an element on is that element's column."""
        assert isinstance(node.op, Affine)
        offset, shape = node.op.offset(), node.shape
        size = int(torch.Size(shape).numel())
        constant = np.zeros(size) if offset is None else flat(offset.expand(shape).unsqueeze(0))
        rounding = trace.rounding(node).double().cpu().numpy()
        found = np.full(at.size, -1)
        for part in np.array_split(np.arange(at.size), 1 + at.size * size // _CHUNK):
            units = torch.zeros((part.size, size), dtype=trace.graph.dtype, device=trace.graph.device)
            units[torch.arange(part.size), torch.from_numpy(at[part])] = 1
            blocks = [a.flatten(1).cpu().numpy() for a in node.op.adjoint(units.reshape(part.size, *shape))]
            joined, reads = np.hstack(blocks), np.concatenate([columns[x] for x in node.inputs])
            handed = (np.count_nonzero(joined, axis=1) == 1) & (joined.max(axis=1) == 1) & (constant[at[part]] == 0)
            handed &= node.op.terms == 0
            found[part[handed]] = reads[joined[handed].argmax(axis=1)]
            rest = part[~handed]
            if rest.size:
                found[rest] = self.program.variables(lower[rest], upper[rest])
                b, room = constant[at[rest]], rounding[at[rest]]
                self.program.equate(found[rest], [(reads, joined[~handed])], b - room, b + room)
            if self.program.entries > self.entries:
                raise TooLarge(f"over {self.entries} coefficients at tensor {node.name!r}")
            if self.expired():
                raise TimeoutError(f"no time left at tensor {node.name!r}")
        return found

    def _differ(
        self, node: Node, circuit: Index, model: Index, columns_c: dict[str, Index], columns_m: dict[str, Index]
    ) -> None:
        """Rows on what a node computes in the circuit less what it computes in the model, where the program holds both."""
        trace, program = self.circuit, self.program
        both = (circuit >= 0) & (model >= 0) & (circuit != model)
        if isinstance(node.op, Affine):
            if node.name in trace.kept or not _feeds_kinks(trace, node):
                return
            at = both.nonzero()[0]
            box = trace.delta[node.name]
            program.constrain([(circuit[at], 1.0), (model[at], -1.0)], flat(box.lower)[at], flat(box.upper)[at])
            return
        source = node.inputs[0]
        lines, valid = trace.difference(node)
        assert isinstance(lines, Lines)
        x_c, x_m = columns_c[source], columns_m[source]
        both &= flat(valid.to(torch.float64)) > 0
        both &= (x_c >= 0) & (x_m >= 0)
        at = both.nonzero()[0]
        if not at.size:
            return
        endless = np.full(at.size, np.inf)
        for slope, low, high in ((lines.al, flat(lines.bl)[at], endless), (lines.au, -endless, flat(lines.bu)[at])):
            a = flat(slope)[at]
            program.constrain([(circuit[at], 1.0), (model[at], -1.0), (x_c[at], -a), (x_m[at], a)], low, high)


def _feeds_kinks(trace: Trace, node: Node) -> bool:
    return any(not isinstance(reader.op, Affine) for reader in trace.graph.readers[node.name]) or (
        node.name == trace.graph.output
    )
