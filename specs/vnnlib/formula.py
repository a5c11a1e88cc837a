"""What a query asserts, as alternatives: lists of linear conditions, any list of which may hold. In exact arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any, Literal, TypeAlias

import vnnlib

from specs.errors import InputError
from specs.vnnlib.text import Text

__all__ = ["Atom", "Formula", "Relation", "Variable", "read_formula"]

Variable: TypeAlias = tuple[str, int]
"""A declared tensor and a flat position in it."""

Relation: TypeAlias = Literal["<=", "<", "=="]

_MOST = 1 << 17
"""Conditions in all alternatives together."""


@dataclass(frozen=True, slots=True)
class Atom:
    """`sum_i c_i v_i + constant` stands in `relation` to 0. Every `c_i` is not 0, every variable comes once."""

    terms: tuple[tuple[Variable, Fraction], ...]
    constant: Fraction
    relation: Relation

    def holds(self, value: Callable[[Variable], Fraction]) -> bool:
        """Whether it holds at a point. Exact."""
        total = sum((c * value(v) for v, c in self.terms), self.constant)
        return total < 0 if self.relation == "<" else total == 0 if self.relation == "==" else total <= 0


@dataclass(frozen=True, slots=True)
class Formula:
    """All of `common`, and all of at least one of `alternatives`."""

    common: tuple[Atom, ...]
    alternatives: tuple[tuple[Atom, ...], ...]

    def holds(self, value: Callable[[Variable], Fraction]) -> bool:
        """Whether it holds at a point. Exact."""
        if not all(atom.holds(value) for atom in self.common):
            return False
        return any(all(atom.holds(value) for atom in atoms) for atoms in self.alternatives)


def read_formula(text: Text) -> Formula:
    """The conjunction of a query's assertions. Raises: InputError: a product of variables, or too many alternatives."""
    common: list[Atom] = []
    choices: list[list[tuple[Atom, ...]]] = []
    pending = [assertion.expr for assertion in reversed(text.query.assertions)]
    while pending:
        expression = pending.pop()
        if isinstance(expression, vnnlib.And):
            pending.extend(reversed(expression.args))
            continue
        found = _alternatives(text.file, expression)
        if len(found) == 1:
            common.extend(found[0])
        else:
            choices.append(found)
    return Formula(tuple(common), tuple(_every(text.file, choices)))


def _alternatives(file: str, expression: Any) -> list[tuple[Atom, ...]]:
    """A Boolean expression in disjunctive normal form."""
    if isinstance(expression, vnnlib.Or):
        found: list[tuple[Atom, ...]] = []
        for part in expression.args:
            found.extend(_alternatives(file, part))
            _limit(file, sum(map(len, found)))
        return found
    if isinstance(expression, vnnlib.And):
        return _every(file, [_alternatives(file, part) for part in expression.args])
    return _compared(file, expression)


def _every(file: str, choices: list[list[tuple[Atom, ...]]]) -> list[tuple[Atom, ...]]:
    """One alternative of each choice, in all ways."""
    count, size = 1, 0
    for choice in choices:
        size = size * len(choice) + count * sum(map(len, choice))
        count *= len(choice)
        _limit(file, max(size, count))
    return [tuple(atom for part in picked for atom in part) for picked in product(*choices)]


def _limit(file: str, size: int) -> None:
    if size > _MOST:
        said = "more conditions than can be listed, once every `and` of `or`s is multiplied out"
        raise InputError(file, "", said, f"at most {_MOST}", "split the query")


def _compared(file: str, expression: Any) -> list[tuple[Atom, ...]]:
    sides: dict[type[Any], tuple[Relation, int]] = {
        vnnlib.LessEqual: ("<=", 1), vnnlib.LessThan: ("<", 1), vnnlib.GreaterEqual: ("<=", -1), vnnlib.GreaterThan: ("<", -1),
        vnnlib.Equal: ("==", 1), vnnlib.NotEqual: ("<", 1),
    }  # fmt: skip
    if type(expression) not in sides:
        raise InputError(file, "", f"{type(expression).__name__} in {str(expression)[:80]}", "and, or and comparisons")
    relation, sign = sides[type(expression)]
    left, right = _linear(file, expression.lhs), _linear(file, expression.rhs)
    difference = _sum([(left, Fraction(sign)), (right, Fraction(-sign))])
    found = [(_atom(difference, relation),)]
    if isinstance(expression, vnnlib.NotEqual):
        found.append((_atom(_sum([(difference, Fraction(-1))]), relation),))
    return found


_Linear = Mapping["Variable | None", Fraction]
"""Coefficients of variables; that of None is the constant."""


def _atom(linear: _Linear, relation: Relation) -> Atom:
    terms = tuple((v, c) for v, c in linear.items() if v is not None and c != 0)
    return Atom(terms, linear.get(None, Fraction(0)), relation)


def _sum(parts: Iterable[tuple[_Linear, Fraction]]) -> _Linear:
    total: dict[Variable | None, Fraction] = {}
    for linear, scale in parts:
        for variable, c in linear.items():
            total[variable] = total.get(variable, Fraction(0)) + scale * c
    return total


def _linear(file: str, expression: Any) -> _Linear:
    """Raises: InputError: it is no linear expression."""
    one = Fraction(1)
    match expression:
        case vnnlib.Var():
            return {(expression.name, _flat(expression.indices, expression.shape)): one}
        case vnnlib.Literal():
            return {None: _number(file, expression.lexeme)}
        case vnnlib.Negate():
            return _sum([(_linear(file, expression.expr), -one)])
        case vnnlib.Plus():
            return _sum([(_linear(file, part), one) for part in expression.args])
        case vnnlib.Minus():
            rest = [(_linear(file, part), -one) for part in expression.rest]
            return _sum([(_linear(file, expression.head), one), *rest])
        case vnnlib.Multiply():
            total: _Linear = {None: one}
            for factor in (_linear(file, part) for part in expression.args):
                if any(v is not None for v in total) and any(v is not None for v in factor):
                    said = f"a product of variables, {str(expression)[:80]}"
                    raise InputError(file, f"line {_where(expression)}", said, "linear conditions", "")
                a, b = (total, factor) if all(v is None for v in factor) else (factor, total)
                total = _sum([(a, b.get(None, Fraction(0)))])
            return total
        case _:
            raise InputError(file, "", f"{type(expression).__name__} in {str(expression)[:80]}", "+, -, * and numbers")


def _number(file: str, lexeme: str) -> Fraction:
    try:
        return Fraction(lexeme)
    except (ValueError, ZeroDivisionError):
        raise InputError(file, "", f"{lexeme[:40]!r}", "a decimal number") from None


def _where(expression: Any) -> int:
    """The first line that a part of an expression knows of."""
    for part in (expression, *expression.children()):
        if (line := getattr(part, "line", None)) is not None:
            return line
        if part is not expression and (line := _where(part)):
            return line
    return 0


def _flat(indices: list[int], shape: list[int]) -> int:
    at = 0
    for i, n in zip(indices, shape, strict=True):
        at = at * n + i
    return at
