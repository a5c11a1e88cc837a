"""VNN-LIB queries read: what they say in exact arithmetic, against plain evaluation; and what is refused, in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.errors import InputError
from specs.vnnlib.question import Question, read_question
from specs.vnnlib.text import read_text
from tests.golden.conftest import save_model

WEIGHTS = [np.array([[1.0, -1.0, 0.5], [1.0, 1.0, -2.0]]), np.array([[1.0, 0.5], [-1.0, 1.0], [2.0, -1.0]])]

BOX = "".join(f"(assert (>= X_{i} -1.0)) (assert (<= X_{i} 1.0))\n" for i in range(2))
DECLARED = "".join(f"(declare-const {v} Real)\n" for v in ("X_0", "X_1", "Y_0", "Y_1"))
TWO = """(vnnlib-version <2.0>)
(declare-network f
    (declare-input X float32 [1, 2]) (declare-hidden H float32 [1, 3] "relu_1") (declare-output Y float32 [1, 2]))
(declare-network g (equal-to f) (declare-input V float32 [1, 2]) (declare-output W float32 [1, 2]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0) (== V[0,0] X[0,0])))
(assert (and (>= V[0,1] -1.0) (<= V[0,1] 1.0)))
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "net.onnx", WEIGHTS)
    return tmp_path / "net.onnx"


@pytest.fixture
def read(model: Path, tmp_path: Path) -> Callable[..., Question]:
    def read(text: str, name: str = "") -> Question:
        file = tmp_path / "query.vnnlib"
        file.write_text(text)
        return read_question(str(file), {name: str(model)})

    return read


def atoms(depth: int = 2) -> st.SearchStrategy[str]:
    """Formulas of version 1.0 over two inputs and two outputs."""
    number = st.sampled_from(["0.5", "-0.25", "1e-1", "0.0", "2", "-1.5"])
    variable = st.sampled_from(["X_0", "X_1", "Y_0", "Y_1"])
    term = st.one_of(variable, number, st.tuples(number, variable).map(lambda p: f"(* {p[0]} {p[1]})"))
    sums = st.one_of(term, st.lists(term, min_size=2, max_size=3).map(lambda p: f"(+ {' '.join(p)})"))
    sums = st.one_of(sums, st.tuples(sums, sums).map(lambda p: f"(- {p[0]} {p[1]})"))
    leaf = st.tuples(st.sampled_from(["<=", ">=", "<", ">"]), variable, sums).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return st.recursive(
        leaf,
        lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)).map(
            lambda p: f"({p[0]} {' '.join(p[1])})"
        ),
        max_leaves=6,
    )


def evaluated(text: str, values: dict[str, Fraction]) -> bool:
    """An assertion, evaluated by a reader of its own."""
    tokens = re.findall(r"[()]|[^\s()]+", text)

    def take() -> Fraction | bool:
        token = tokens.pop(0)
        if token != "(":
            return values[token] if token in values else Fraction(token)
        head, parts = tokens.pop(0), list[Fraction]()
        while tokens[0] != ")":
            parts.append(take())  # pyright: ignore[reportArgumentType]
        tokens.pop(0)
        rest = parts[1:]
        match head:
            case "and" | "or":
                return all(parts) if head == "and" else any(parts)
            case "+":
                return sum(parts, Fraction(0))
            case "-":
                return parts[0] - sum(rest, Fraction(0))
            case "*":
                return parts[0] * rest[0]
            case _:
                a, b = parts
                return {"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b}[head]

    return bool(take())


@settings(max_examples=60, deadline=None)
@given(text=atoms(), seed=st.integers(0, 2**16))
def test_claims_fail_exactly_where_the_query_holds(text: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """At points of the inputs' box: the formula as read is the formula as written, and wherever it holds, the claim of some
    region that the point lies in is violated."""
    folder = tmp_path_factory.mktemp("query")
    save_model(folder / "net.onnx", WEIGHTS)
    file = folder / "query.vnnlib"
    file.write_text(DECLARED + BOX + f"(assert {text})\n")
    question = read_question(str(file), {"": str(folder / "net.onnx")})
    points = np.random.default_rng(seed).uniform(-1, 1, (40, 2)).astype(np.float32)
    points[:9] = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    for x in points:
        value = question.networks.run(x)
        assert value is not None
        named = {f"{name}_{i}": value((name, i)) for name in "XY" for i in range(2)}
        holds = evaluated(text, named)
        assert question.formula.holds(value) == holds
        if not holds:
            continue
        violated = False
        for claim in question.claims:
            query = claim.query
            if query.region.contains(torch.from_numpy(x).double().reshape(query.region.shape)):
                output = query.graph(torch.from_numpy(x).double().reshape(1, *query.region.shape))
                # Float64 beside float32: a point on a boundary may fall to either side.
                violated |= float(query.margins.at(output, output)) < 1e-5
        assert violated


def test_the_regions_of_alternatives_are_their_own(read: Callable[..., Question]) -> None:
    question = read(
        DECLARED
        + BOX
        + "(assert (or (and (<= X_0 0.0) (<= Y_0 0.1)) (and (>= X_0 0.5) (>= Y_1 3)) (and (<= X_0 -2) (<= Y_0 0))"
        "(and (<= X_0 0) (>= Y_0 (+ Y_1 0.3)))))"
    )
    boxes = [claim.query.region.box() for claim in question.claims]
    assert [(b.lower.tolist(), b.upper.tolist()) for b in boxes] == [([[-1, -1]], [[0, 1]]), ([[0.5, -1]], [[1, 1]])]
    assert [len(claim.query.margins.clauses) for claim in question.claims] == [2, 1]  # pyright: ignore[reportAttributeAccessIssue]


def test_decimals_are_enclosed_and_strictness_kept(read: Callable[..., Question]) -> None:
    """0.1 is no float: the region reaches beyond it. A form at exactly 0 does not refute a condition that is not strict."""
    question = read(DECLARED + BOX.replace("1.0", "0.1") + "(assert (<= Y_0 0.5)) (assert (< Y_1 0.5))")
    box = question.claims[0].query.region.box()
    assert all(Fraction(end) >= Fraction("0.1") for end in (*box.upper.flatten().tolist(), *(-box.lower).flatten().tolist()))
    offsets = question.claims[0].query.margins.offset.tolist()
    assert offsets == [np.nextafter(-0.5, -1), -0.5]


def test_coefficients_are_scaled_to_floats(read: Callable[..., Question]) -> None:
    question = read(DECLARED + BOX + "(assert (<= (* 0.1 Y_0) (* 0.3 Y_1)))")
    assert question.claims[0].query.margins.model.flatten().tolist() == [1, -3]


def test_inputs_that_are_equal_are_one(read: Callable[..., Question]) -> None:
    question = read(TWO + "(assert (or (<= Y[0,0] (+ W[0,0] H[0,2] V[0,1])) (> X[0,1] V[0,1])))", "f")
    assert question.networks.size == 3
    x = np.array([0.25, -0.5, 0.75], dtype=np.float32)
    value = question.networks.run(x)
    assert value is not None and value(("X", 0)) == value(("V", 0)) == Fraction(1, 4) and value(("V", 1)) == Fraction(3, 4)
    first, second = ({n: float(value((n, i))) for n in names for i in (0,)} for names in ("Y", "W"))
    hidden = [max(0.0, v) for v in np.array([0.25, -0.5]) @ WEIGHTS[0]]
    assert float(value(("H", 2))) == pytest.approx(hidden[2])
    assert first["Y"] == pytest.approx(float(hidden @ WEIGHTS[1][:, 0]))
    assert second["W"] == pytest.approx(float(np.maximum(np.array([0.25, 0.75]) @ WEIGHTS[0], 0) @ WEIGHTS[1][:, 0]))
    # Our one graph for both computes the same.
    query = question.claims[0].query
    output = query.graph(torch.from_numpy(x).double().reshape(1, 3))
    forms = query.margins.forms(output, output)[0].tolist()
    assert forms[0] == pytest.approx(first["Y"] - second["W"] - hidden[2] - 0.75, abs=1e-6)


BAD = {
    "no bounds": (DECLARED + "(assert (<= X_0 1)) (assert (<= Y_0 0))", "input 0 of X is not bounded on both sides"),
    "a gap": ("(declare-const X_0 Real)(declare-const X_2 Real)(declare-const Y_0 Real)", "up to X_2"),
    "no declarations": ("", "0 variables X_i"),
    "an odd name": ("(declare-const Z_0 Real)", "line 1: variable Z_0"),
    "a huge number of inputs": ("(declare-const X_999999999 Real)(declare-const Y_0 Real)", "up to X_999999999"),
    "other sizes": (DECLARED.replace("Y_1", "X_2") + BOX, "X of shape [3]"),
    "deep nesting": (
        DECLARED + "(assert " + "(or " * 100_000 + "(<= X_0 1)" + ")" * 100_001,
        "nested more than 200 levels deep",
    ),
    "open brackets": (DECLARED + "(assert (<= X_0 1)", "1 brackets left open"),
    "closed twice": (DECLARED + ")", "line 5: a `)` too many"),
    "another version": (TWO.replace("<2.0>", "<2.4>"), "VNN-LIB version '2.4'"),
    "a product": (DECLARED + BOX + "(assert (<= (* Y_0 Y_1) 1.0))", "a product of variables"),
    "a huge exponent": (DECLARED + BOX + "(assert (<= X_0 1e999999))", "line 7"),
    "a long number": (DECLARED + BOX + f"(assert (<= X_0 {'1' * 500}))", "a word of 500 characters"),
    "an unknown variable": (DECLARED + BOX + "(assert (<= Z_0 1))", "Z_0"),
    "an unknown operator": (DECLARED + BOX + "(assert (=> (<= X_0 1) (<= X_0 1)))", "line 7"),
    "too many alternatives": (DECLARED + BOX + "(assert (or (<= Y_0 1.0) (<= Y_1 2.0)))" * 20, "multiplied out"),
    "too wide": (DECLARED + BOX.replace("1.0", "1e300"), "bounded by more than"),
    "many digits": (DECLARED + BOX + "(assert (<= (* 0.1234567890123456789 Y_0) Y_1))", "more digits"),
    "not text": ("\0", "a zero byte"),
    "hidden of another name": (TWO.replace("relu_1", "relu_9"), "hidden H is 'relu_9'"),
    "another type": (TWO.replace("float32", "float64"), "X of type F64"),
    "huge shape": (TWO.replace("float32 [1, 2]", "float32 [1, 1000000000]"), "1000000000"),
    "index out of range": (TWO + "(assert (<= X[0,7] 1.0))", "Index out of bounds"),
    "a model that is not there": (TWO.replace("(equal-to f)", ""), "give --network g=MODEL"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_one_line(name: str, read: Callable[..., Question]) -> None:
    text, said = BAD[name]
    with pytest.raises(InputError) as caught:
        read(text, "f" if text.startswith("(vnnlib") else "")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_version_1_keeps_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "q.vnnlib"
    file.write_text("; (declare-const X_7 Real)\n" + DECLARED + "(assert\n (<= X_0 1E-3)) ; X_1\n(assert (>= Y_1 +.5))\n")
    found = read_text(str(file)).query
    assert [a.expr.lhs.line for a in found.assertions] == [7, 8]
    assert [a.expr.rhs.lexeme for a in found.assertions] == ["0.001", "0.5"]
