"""VNN-LIB 1.0 as verifiers are given it: a box of inputs, and a disjunction of conjunctions over the outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Property", "read_property"]

Floats: TypeAlias = NDArray[np.float64]
Term: TypeAlias = "str | list[Term]"

_TOKEN = re.compile(r"[()]|[^\s()]+")
_NAME = re.compile(r"([XY])_(\d+)")


@dataclass(frozen=True, slots=True, eq=False)
class Property:
    """A counterexample is an input in the box with outputs that meet one of the disjuncts.

    Shapes: `lower`, `upper` `(inputs,)`; a disjunct is `(A, b)` with `A` `(rows, outputs)` and `b` `(rows,)`: it is met where
    `A y <= b` in every row.
    """

    lower: Floats
    upper: Floats
    disjuncts: tuple[tuple[Floats, Floats], ...]

    def excess(self, y: Floats) -> float:
        """How far the outputs are from a counterexample: the least, over disjuncts, of the greatest `A y - b`. A counterexample
        has 0 or less; what is not a number is none."""
        found = [float((a @ y - b).max()) for a, b in self.disjuncts]
        return min((e for e in found if e == e), default=float("inf"))


def read_property(path: Path) -> Property:
    """The property in a file. Raises: ValueError: it is not of the kind that this module's first line says."""
    declared: dict[str, int] = {"X": 0, "Y": 0}
    box: list[Term] = []
    formulas: list[Term] = []
    for statement in _statements(path.read_text()):
        match statement:
            case ["declare-const", str(name), "Real"]:
                kind, index = _variable(name)
                declared[kind] = max(declared[kind], index + 1)
            case ["assert", term]:
                (box if _inputs_only(term) else formulas).append(term)
            case _:
                raise ValueError(f"{path}: {_shown(statement)} is neither a declaration nor an assertion")
    lower, upper = np.full(declared["X"], -np.inf), np.full(declared["X"], np.inf)
    for term in box:
        for clause in [_conjunctions(term)]:
            if len(clause) != 1:
                raise ValueError(f"{path}: {_shown(term)}: inputs must lie in one box")
            for row, b in clause[0]:
                _bounded(row, b, lower, upper)
    found: list[list[tuple[dict[str, float], float]]] = [[]]
    for term in formulas:
        found = [[*one, *other] for one in found for other in _conjunctions(term)]
    return Property(lower, upper, tuple(_rows(clause, declared["Y"], path) for clause in found))


def _statements(text: str) -> Iterator[list[Term]]:
    stack: list[list[Term]] = [[]]
    for line in text.splitlines():
        for token in _TOKEN.findall(line.split(";", 1)[0]):
            if token == "(":
                stack.append([])
            elif token == ")":
                if len(stack) < 2:
                    raise ValueError("a closing parenthesis too many")
                closed = stack.pop()
                stack[-1].append(closed)
            else:
                stack[-1].append(token)
    if len(stack) > 1:
        raise ValueError("a closing parenthesis is missing")
    for statement in stack[0]:
        if isinstance(statement, str):
            raise ValueError(f"{statement!r} outside parentheses")
        yield statement


def _variable(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r}: variables are X_0, X_1, … and Y_0, Y_1, …")
    return match[1], int(match[2])


def _inputs_only(term: Term) -> bool:
    return not term.startswith("Y_") if isinstance(term, str) else all(_inputs_only(part) for part in term)


def _conjunctions(term: Term) -> list[list[tuple[dict[str, float], float]]]:
    """Disjunctive normal form: comparisons as `(coefficients, b)`, `sum of coefficients * variables <= b`."""
    match term:
        case ["or", *parts]:
            return [clause for part in parts for clause in _conjunctions(part)]
        case ["and", *parts]:
            found: list[list[tuple[dict[str, float], float]]] = [[]]
            for part in parts:
                found = [[*one, *other] for one in found for other in _conjunctions(part)]
            return found
        case ["<=" | ">=" as sign, str(left), str(right)]:
            small, large = (left, right) if sign == "<=" else (right, left)
            row: dict[str, float] = {}
            b = 0.0
            for side, factor in ((small, 1.0), (large, -1.0)):
                if _NAME.fullmatch(side):
                    row[side] = row.get(side, 0.0) + factor
                else:
                    b -= factor * float(side)
            return [[(row, b)]]
        case _:
            raise ValueError(f"{_shown(term)}: only and, or, <= and >= between variables and numbers are read")


def _bounded(row: dict[str, float], b: float, lower: Floats, upper: Floats) -> None:
    if len(row) != 1:
        raise ValueError("inputs must lie in one box")
    ((name, factor),) = row.items()
    at = _variable(name)[1]
    if factor > 0:
        upper[at] = min(upper[at], b)
    else:
        lower[at] = max(lower[at], -b)


def _rows(clause: list[tuple[dict[str, float], float]], outputs: int, path: Path) -> tuple[Floats, Floats]:
    a, b = np.zeros((len(clause), outputs)), np.zeros(len(clause))
    for i, (row, bound) in enumerate(clause):
        for name, factor in row.items():
            kind, at = _variable(name)
            if kind != "Y":
                raise ValueError(f"{path}: a comparison of inputs with outputs")
            a[i, at] = factor
        b[i] = bound
    return a, b


def _shown(term: Term) -> str:
    text = term if isinstance(term, str) else "(" + " ".join(_shown(part) for part in term) + ")"
    return text if len(text) < 80 else text[:77] + "…"
