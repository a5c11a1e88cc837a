"""A query about one circuit as a network with one input and one output, a box, and a disjunction over the outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import onnx
import torch
from torch import Tensor

from bounds.gates import Gate
from bounds.graph import Graph
from bounds.query import Clauses, Margins, Norm, Query
from bounds.region import Box
from specs.export.operators import write_operator
from specs.export.writer import INPUT, OUTPUT, Writer

__all__ = ["Atom", "Patched", "Question", "ask"]

Atom: TypeAlias = tuple[int, float]
"""`(i, c)`: output `i` is at most `c`."""


@dataclass(frozen=True, slots=True, eq=False)
class Patched:
    """Elements of a gated tensor that take values of their own: inputs `first`, `first + 1`, … of the network.

    Shape: `elements` `(count,)`, flat positions, ascending.
    """

    tensor: str
    elements: Tensor
    first: int


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Is there a point of the box at which all atoms of some clause hold?

    `network` takes `(1, inputs)`: the elements of the graph's input, then the patched values that have a choice; it is float32.
    `lower`, `upper` `(inputs,)` are float64. `rounded` names a tensor with a constant that float32 cannot hold, where there is
    one.

    Guarantees: in real arithmetic, and where no constant was rounded, a point of the region and patch boxes that violates the
    claim is such a point; so where there is none the claim is proven. The other way round but for the boundary: atoms are not
    strict (VNN-LIB 1.0 has no `<`), so a point at which an atom holds with equality may violate nothing.
    """

    network: onnx.ModelProto
    lower: Tensor
    upper: Tensor
    patched: tuple[Patched, ...]
    clauses: tuple[tuple[Atom, ...], ...]
    outputs: int
    rounded: str | None


def ask(query: Query, mask: Tensor) -> Question:
    """The network of a query for one circuit: the model once, and again what lies downstream of what the circuit ablates.

    Shapes: `mask` `(components,)`, True for kept. Raises: ValueError: the region is no box, or margins of an unknown kind;
    WriterError: an operator or constant that cannot be written.
    """
    if not isinstance(query.region, Box):
        raise ValueError(f"a region of kind {type(query.region).__name__}; a box is needed")
    kept = {name: elements[0] for name, elements in query.gates.expand(mask.reshape(1, -1)).items()}
    patched: list[Patched] = []
    lower, upper = [query.region.lower.flatten()], [query.region.upper.flatten()]
    inputs = lower[0].numel()
    for gate in query.gates.gates:
        free = (_free(gate) & ~kept[gate.tensor]).flatten().nonzero().squeeze(1)
        if len(free):
            patched.append(Patched(gate.tensor, free, inputs))
            lower.append(gate.patch.lower.flatten()[free])
            upper.append(gate.patch.upper.flatten()[free])
            inputs += len(free)
    network = _Network(query.graph, inputs)
    forms = network.forms(query, kept, {part.tensor: part for part in patched})
    outputs, clauses = _outputs(network.writer, forms, query.margins)
    made = network.writer.model(OUTPUT)
    box = torch.cat(lower).double().cpu(), torch.cat(upper).double().cpu()
    return Question(made, *box, tuple(patched), clauses, outputs, network.writer.rounded)


def _free(gate: Gate) -> Tensor:
    """Where a patched element has a choice of its own."""
    return gate.patch.lower < gate.patch.upper if gate.source is None else torch.zeros_like(gate.group, dtype=torch.bool)


class _Network:
    """Both halves in one ONNX graph."""

    def __init__(self, graph: Graph, inputs: int) -> None:
        self.graph, self.writer = graph, Writer(inputs)

    def forms(self, query: Query, kept: dict[str, Tensor], patched: dict[str, Patched]) -> tuple[str, Tensor]:
        """The two outputs side by side, or the one where nothing is ablated; and the forms' coefficients over that."""
        graph, w = self.graph, self.writer
        size = math.prod(graph.input_shape)
        x = w.take(INPUT, torch.arange(size).reshape(graph.input_shape), None, "input")
        model, circuit = {graph.input: x}, {graph.input: x}
        gates = query.gates.by_tensor
        for node in graph.nodes:
            ours, theirs = ([half[name] for name in node.inputs] for half in (model, circuit))
            model[node.name] = write_operator(w, node.op, ours, f"model_{node.name}", node.shape)
            y = model[node.name]
            if theirs != ours:
                y = write_operator(w, node.op, theirs, f"circuit_{node.name}", node.shape)
            if node.name in gates and not bool(kept[node.name].all()):
                y = self._gated(gates[node.name], y, kept[node.name], patched.get(node.name), model)
            circuit[node.name] = y
        c, g = w.flat(circuit[graph.output]), w.flat(model[graph.output])
        a, b = query.margins.circuit.flatten(1), query.margins.model.flatten(1)
        if c == g:
            return g, a + b
        both = w.node("Concat", [c, g], "outputs", (1, a.shape[1] + b.shape[1]), axis=1)
        return both, torch.cat([a, b], dim=1)

    def _gated(self, gate: Gate, y: str, kept: Tensor, patched: Patched | None, model: dict[str, str]) -> str:
        """What readers of a gated tensor see: `y` where kept, else the source's value, an input of its own, or a constant."""
        w, shape = self.writer, self.graph.shape(gate.tensor)
        name = f"patched_{gate.tensor}"
        if gate.source is not None:
            return w.add(
                w.masked(y, kept, None, f"{name}_kept"), w.masked(model[gate.source], ~kept, None, f"{name}_source"), name
            )
        fixed = torch.where(kept | _free(gate), 0.0, gate.patch.lower)
        y = w.masked(y, kept, fixed if bool((fixed != 0).any()) else None, name if patched is None else f"{name}_kept")
        if patched is None:
            return y
        index = torch.full((kept.numel(),), -1, dtype=torch.long)
        index[patched.elements] = torch.arange(patched.first, patched.first + len(patched.elements))
        return w.add(y, w.take(INPUT, index.reshape(shape), None, f"{name}_values"), name)


def _outputs(w: Writer, forms: tuple[str, Tensor], margins: Margins) -> tuple[int, tuple[tuple[Atom, ...], ...]]:
    """Write `Y`; how many outputs it has, and the clauses over them.

    Tolerances stand in the atoms, where a float64 is exact. A form's offset of a hair's breadth below 0 says that the form must
    be positive, not just non-negative; its violation, at most 0, is what a non-strict atom states.
    """
    x, weight = forms
    if isinstance(margins, Norm):
        w_half = weight[: len(weight) // 2]
        minus = -torch.ones((1, len(weight) if margins.order == 1 else len(w_half)), dtype=torch.float64)
        if margins.order == 1:
            d = w.linear(x, weight, None, "differences")  # d and -d: their positive parts add up to |d|
            sizes, most = w.node("Relu", [d], "sizes", w.shape(d)), margins.tolerance
        else:
            d = w.linear(x, w_half, None, "differences")
            sizes = w.node("Mul", [d, d], "squares", w.shape(d))
            most = math.nextafter(margins.tolerance**2, 0.0)  # not above the square: the stricter claim
        w.linear(sizes, minus, None, OUTPUT)
        return 1, (((0, -most),),)
    if isinstance(margins, Clauses):
        w.linear(x, weight, None, OUTPUT)
        hair = torch.finfo(torch.float64).tiny
        ends = [0.0 if abs(offset) <= hair else -offset for offset in margins.offset.tolist()]
        rows = margins.clauses.tolist()
        return len(ends), tuple(tuple((i, ends[i]) for i in dict.fromkeys(row)) for row in rows)
    raise ValueError(f"margins of kind {type(margins).__name__}; clauses or a norm are needed")
