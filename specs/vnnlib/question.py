"""A VNN-LIB query as claims: where every one holds, no point satisfies the query.

Alternatives become boxes of inputs with clauses over the rest: at every point of the box some condition of each alternative
must fail. Conditions are scaled to coefficients that floats hold exactly; constants are rounded so that claims get stricter.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.query import Clauses, Query
from bounds.region import Box
from specs.encode import Claim
from specs.errors import InputError
from specs.monotone import Monotone
from specs.vnnlib.formula import Atom, Formula, Variable, read_formula
from specs.vnnlib.networks import INPUTS, Networks, Placed, read_networks
from specs.vnnlib.text import read_text

__all__ = ["Question", "read_question"]

_NUMBERS = 1 << 26
"""Coefficients of all forms of one claim."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A query. `claims` have no gates; their regions hold inputs, in the model's shape or as coordinates of `networks`.

    Guarantees: if all claims hold in real arithmetic, no input satisfies the query, for the networks' real-number functions.
    `narrow` names an input between whose bounds the models' precision has no number: nothing can be shown to satisfy the query.
    """

    file: str
    formula: Formula
    networks: Networks
    claims: tuple[Claim, ...]
    flat: bool
    narrow: str | None


def read_question(file: str, paths: Mapping[str, str]) -> Question:
    """Read a query and its networks (see `read_networks`). Raises: InputError: either cannot be read; an input without bounds;
    a coefficient that no scaling makes a float."""
    text = read_text(file)
    declared = read_networks(text, paths)
    formula = read_formula(text)
    sizes = {network.input: network.inputs for network in declared}
    number = _coordinates(formula, sizes)
    columns = tuple(
        torch.tensor([number[network.input, i] for i in range(network.inputs)]).reshape(network.model.graph.input_shape)
        for network in declared
    )
    networks = Networks(declared, columns, max(number.values()) + 1)
    cases = _cases(file, formula, networks, number)
    claims = tuple(_claim(file, networks, number, label, case) for label, case in cases)
    for claim in claims:
        box = claim.query.region.box()
        for network, column in zip(declared, columns, strict=True):
            network.model.check(box.lower.flatten()[column], box.upper.flatten()[column])
    return Question(file, formula, networks, claims, text.flat, _narrow(claims, networks, number))


def _coordinates(formula: Formula, sizes: Mapping[str, int]) -> dict[Variable, int]:
    """A number for each input element; those that must be equal share one."""
    head: dict[Variable, Variable] = {(name, i): (name, i) for name, size in sizes.items() for i in range(size)}

    def find(v: Variable) -> Variable:
        while head[v] != v:
            head[v] = v = head[head[v]]
        return v

    for atom in formula.common:
        if (pair := _pair(atom, head)) is not None:
            a, b = find(pair[0]), find(pair[1])
            head[b] = a
    tops: dict[Variable, int] = {}
    return {v: tops.setdefault(find(v), len(tops)) for v in head}


def _pair(atom: Atom, inputs: Container[Variable]) -> tuple[Variable, Variable] | None:
    """The two inputs that an atom states to be equal."""
    if atom.relation != "==" or atom.constant != 0 or len(atom.terms) != 2:
        return None
    (v, c), (w, d) = atom.terms
    return (v, w) if c == -d and v in inputs and w in inputs else None


@dataclass(slots=True)
class _Case:
    """A box, by coordinate, and alternatives over it."""

    lower: list[Fraction]
    upper: list[Fraction]
    alternatives: list[tuple[Atom, ...]] = field(default_factory=list[tuple[Atom, ...]])


def _cases(file: str, formula: Formula, networks: Networks, number: Mapping[Variable, int]) -> list[tuple[str, _Case]]:
    """Alternatives by the box that they hold in. Those that cannot hold are left out."""
    lower: list[Fraction | None] = [None] * networks.size
    upper: list[Fraction | None] = [None] * networks.size
    shared = _narrowed(lower, upper, formula.common, number)
    cases: dict[tuple[tuple[Fraction, ...], tuple[Fraction, ...]], _Case] = {}
    for atoms in formula.alternatives if shared is not None else ():
        low, high = list(lower), list(upper)
        rest = _narrowed(low, high, atoms, number)
        if rest is None:
            continue
        ends = _bounded(file, low, networks, number), _bounded(file, high, networks, number)
        if any(a > b for a, b in zip(*ends, strict=True)):
            continue
        cases.setdefault((tuple(ends[0]), tuple(ends[1])), _Case(*ends)).alternatives.append((*(shared or ()), *rest))
    return [(f"case {i}", case) for i, case in enumerate(cases.values())]


def _narrowed(
    lower: list[Fraction | None], upper: list[Fraction | None], atoms: Iterable[Atom], number: Mapping[Variable, int]
) -> tuple[Atom, ...] | None:
    """Enter what atoms say about single inputs into a box (strict ones as if they were not); the other atoms, or None where one
    cannot hold."""
    rest: list[Atom] = []
    for atom in atoms:
        if not atom.terms:
            if not atom.holds(lambda _: Fraction(0)):
                return None
        elif len(atom.terms) == 1 and atom.terms[0][0] in number:
            (v, c), end = atom.terms[0], -atom.constant / atom.terms[0][1]
            i, equal = number[v], atom.relation == "=="
            low, high = lower[i], upper[i]
            if equal or c > 0:
                upper[i] = end if high is None else min(high, end)
            if equal or c < 0:
                lower[i] = end if low is None else max(low, end)
            if atom.relation == "<":
                rest.append(atom)
        elif (pair := _pair(atom, number)) is None or number[pair[0]] != number[pair[1]]:
            rest.append(atom)
    return tuple(rest)


def _bounded(file: str, ends: list[Fraction | None], networks: Networks, number: Mapping[Variable, int]) -> list[Fraction]:
    """Raises: InputError: an end is missing, or no number of the models' precision is that large."""
    largest = torch.finfo(networks.dtype).max
    for i, end in enumerate(ends):
        if end is None or abs(end) > largest:
            name, at = next(v for v, k in number.items() if k == i)
            said = "is not bounded on both sides" if end is None else f"is bounded by more than {largest:.3g} only"
            raise InputError(file, "", f"input {at} of {name} {said}", "a box of inputs", "assert both bounds")
    return [end for end in ends if end is not None]


def _claim(file: str, networks: Networks, number: Mapping[Variable, int], label: str, case: _Case) -> Claim:
    used = dict.fromkeys(
        INPUTS if v in number else v[0] for atoms in case.alternatives for atom in atoms for v, _ in atom.terms
    )
    placed = networks.placed(list(used) or [networks.networks[0].output])
    graph = placed.graph
    box = Box(
        torch.tensor([_down(x) for x in case.lower], dtype=torch.float64).reshape(graph.input_shape),
        torch.tensor([-_down(-x) for x in case.upper], dtype=torch.float64).reshape(graph.input_shape),
    )
    margins = _margins(file, placed, number, case.alternatives)
    return Claim(label, Query(graph, Gates(()), box, margins), Monotone(False, "no circuit is asked about"))


def _margins(file: str, placed: Placed, number: Mapping[Variable, int], alternatives: list[tuple[Atom, ...]]) -> Clauses:
    """A clause an alternative: some condition fails. A form is non-negative only where its condition fails."""
    shape = placed.graph.shape(placed.graph.output)
    size = math.prod(shape)
    rows: dict[tuple[tuple[tuple[int, float], ...], float], int] = {}
    clauses: list[list[int]] = []
    for atoms in alternatives:
        clause: list[int] = []
        for atom in atoms:
            for sign in (1, -1) if atom.relation == "==" else (1,):
                form = _form(file, atom, sign, placed, number)
                clause.append(rows.setdefault(form, len(rows)))
        # With no condition left every point satisfies the alternative: a form that is negative everywhere.
        clauses.append(clause or [rows.setdefault(((), -1.0), len(rows))])
    longest = max(len(clause) for clause in clauses)
    if max(len(rows) * size, len(clauses) * longest) > _NUMBERS:
        said = f"{len(rows)} conditions over {size} values in {len(clauses)} alternatives"
        raise InputError(file, "", said, f"at most {_NUMBERS} numbers", "split the query")
    weight = torch.zeros((len(rows), size), dtype=torch.float64)
    for (terms, _), row in rows.items():
        for at, c in terms:
            weight[row, at] = c
    offset = torch.tensor([offset for _, offset in rows], dtype=torch.float64)
    padded: Tensor = torch.tensor([clause + clause[-1:] * (longest - len(clause)) for clause in clauses])
    weight = weight.reshape(-1, *shape)
    return Clauses(torch.zeros_like(weight), weight, offset, padded)


def _form(
    file: str, atom: Atom, sign: int, placed: Placed, number: Mapping[Variable, int]
) -> tuple[tuple[tuple[int, float], ...], float]:
    """Coefficients by position in the output, and the offset, of a form that is non-negative only where `atom` fails: where
    `sign` times its sum is more than 0 (or, for a strict one, not less)."""
    terms: dict[int, Fraction] = {}
    for v, c in atom.terms:
        at = placed.first[INPUTS] + number[v] if v in number else placed.first[v[0]] + v[1]
        terms[at] = terms.get(at, Fraction(0)) + sign * c
    scale = (
        Fraction(1) if all(_exact(c) for c in terms.values()) else Fraction(math.lcm(*(c.denominator for c in terms.values())))
    )
    scaled = {at: c * scale for at, c in terms.items() if c != 0}
    if not all(_exact(c) for c in scaled.values()):
        c = next(c for c in scaled.values() if not _exact(c)) / scale
        raise InputError(file, "", f"coefficient {float(c)!r}, written with more digits", "at most 15 digits", "round it")
    constant = sign * atom.constant * scale
    offset = _down(constant)
    if atom.relation != "<" and Fraction(offset) == constant:
        offset = math.nextafter(offset, -math.inf)
    return tuple(sorted((at, float(c)) for at, c in scaled.items())), offset


def _exact(value: Fraction) -> bool:
    try:
        return Fraction(float(value)) == value
    except OverflowError:
        return False


def _down(value: Fraction) -> float:
    """The largest float that is not above."""
    try:
        near = float(value)
    except OverflowError:
        return -math.inf if value < 0 else math.nextafter(math.inf, 0)
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)


def _narrow(claims: Iterable[Claim], networks: Networks, number: Mapping[Variable, int]) -> str | None:
    """An input that cannot take any number of the models' precision, in every claim."""
    found: str | None = None
    for claim in claims:
        box = claim.query.region.box()
        x = box.inward(box.center, networks.dtype).double()
        outside = ((x < box.lower) | (x > box.upper)).flatten()
        if not bool(outside.any()):
            return None
        i = int(outside.nonzero()[0])
        found = found or next(f"{name}[{at}]" for (name, at), k in number.items() if k == i)
    return found
