"""Exported queries: the network computes the forms, the property file states the region and the claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from benchmarks.peers.vnnlib import read_property
from bounds import ops
from bounds.build import Builder
from bounds.gates import Gate, Gates
from bounds.ops.base import Affine, Elementwise, Joint, Nonlinear, Op
from bounds.query import Query
from bounds.region import Ball, Box
from specs.agreement import Logits
from specs.export import operators, writer
from specs.export.check import ExportFault, check
from specs.export.operators import WRITTEN
from specs.export.question import Question, ask
from specs.export.vnnlib import vnnlib_text
from specs.export.writer import WriterError
from specs.margins import agreement_margins
from specs.strategies.graphs import PLAIN, graphs
from specs.strategies.operators import activations
from specs.strategies.queries import cases, queries

# Where sums round differently, signs and sides of jumps differ; constants of GELU are no float32 numbers; the reference has erf
# in float32 only.
_UNLIKE = ops.Sign | ops.Gelu | ops.TanhGelu | ops.Erf | ops.JumpRelu
SMOOTH = activations().filter(lambda op: not isinstance(op, _UNLIKE))


def exact(query: Query) -> Query:
    """The query with constants that float32 holds."""
    return replace(query, graph=query.graph.to(torch.float32).to(torch.float64))


def doubled(network: onnx.ModelProto) -> onnx.ModelProto:
    """The network in float64."""
    made = onnx.ModelProto.FromString(network.SerializeToString())
    for constant in made.graph.initializer:
        if constant.data_type == TensorProto.FLOAT:
            constant.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(constant).astype(np.float64), constant.name))
    for end in (*made.graph.input, *made.graph.output):
        end.type.tensor_type.elem_type = TensorProto.DOUBLE
    return made


def outputs(network: onnx.ModelProto, rows: Tensor) -> Tensor:
    """`Y` in float64, by ONNX's own reference, a row at a time."""
    run = ReferenceEvaluator(doubled(network))
    found = [run.run(None, {"X": row[None].numpy()}) for row in rows]
    return torch.from_numpy(np.concatenate([np.asarray(values[0]) for values in found if isinstance(values, list)]))


def halves(query: Query, mask: Tensor, question: Question, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The circuit's output and the model's, each evaluated on the graph by itself."""
    graph, count = query.graph, len(rows)
    patches = {gate.tensor: gate.patch.lower.expand(count, *gate.patch.shape).clone() for gate in query.gates.gates}
    for part in question.patched:
        for i, element in enumerate(part.elements.tolist()):
            patches[part.tensor].view(count, -1)[:, element] = rows[:, part.first + i]
    x = rows[:, : query.region.box().lower.numel()].reshape(count, *graph.input_shape)
    return graph.evaluate(x, query.gates, mask.expand(count, -1), patches)[graph.output], graph(x)


def points(question: Question) -> Tensor:
    return Box(question.lower, question.upper).sample(6, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dense", [writer._DENSE, 0], ids=["matrices", "slices"])
@given(case=cases(queries(graphs(of=SMOOTH, blocks=PLAIN), kinds=("box",)), max_circuits=1))
def test_a_counterexample_is_what_violates_the_claim(
    dense: int, case: tuple[Query, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> None:
    query, mask = exact(case[0]), case[1][0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_DENSE", dense)
        patch.setattr(operators, "_WHOLE", dense)
        question = ask(query, mask)
    onnx.checker.check_model(question.network, full_check=True)
    assert question.rounded is None
    path = tmp_path_factory.mktemp("query") / "query.vnnlib"
    path.write_text(vnnlib_text(question, ["what is asked"]))
    stated = read_property(path)
    assert torch.equal(torch.from_numpy(stated.lower), question.lower)
    assert torch.equal(torch.from_numpy(stated.upper), question.upper)
    rows = points(question)
    circuit, model = halves(query, mask, question, rows)
    size = float(torch.cat([circuit, model]).abs().max())
    margin = query.margins.at(circuit, model)
    y = outputs(question.network, rows)
    slack = 1e-9 * (1 + size) ** 2
    for found, wanted in zip(y, margin.tolist(), strict=True):
        excess = stated.excess(found.numpy())
        if wanted < -slack:
            assert excess <= slack
        if excess < -slack:
            assert wanted <= slack
    if hasattr(query.margins, "clauses"):
        assert float((y - (query.margins.forms(circuit, model) - query.margins.offset)).abs().max()) <= slack


def concrete(kind: type[Op]) -> list[type[Op]]:
    found = [part for below in kind.__subclasses__() for part in concrete(below)]
    public = kind.__module__.startswith("bounds.ops") and not kind.__name__.startswith("_")
    return [*found, kind] if public and kind not in (Op, Affine, Elementwise, Joint, Nonlinear) else found


def test_transformers_are_written() -> None:
    """Each operator of its own kind, as onnxruntime computes it."""
    b = Builder("x", (1, 3, 4))
    last = b.scale("x", 0.5, name="scores")
    last = b.softmax(last, -1, torch.ones(3, 4, dtype=torch.bool).triu(1), name="pattern")
    last = b.matmul(b.transpose(last, (0, 2, 1), name="turned"), "x", name="head")
    curves = ops.Gelu(), ops.TanhGelu(), ops.Silu(), ops.Erf()
    for op in (*curves, ops.Exp(), ops.Log(), ops.Square(), ops.Reciprocal(), ops.Sqrt()):
        if isinstance(op, ops.Reciprocal):
            last = b.scale(last, bias=1.0, name="shifted")
        last = b.elementwise(op, last, name=type(op).__name__.lower())
    graph = b.build(b.reshape(b.mul(last, "head", name="product"), (1, 16), name="y"))
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(1, 3, 4)
    zero = torch.zeros(1, 4, 4, dtype=torch.float64)
    gate = Gate("gelu", torch.arange(16).reshape(1, 4, 4), 16, Box(zero, zero))
    query = Query(graph, Gates((gate,)), Box(x - 0.125, x + 0.125), agreement_margins(Logits(tolerance=1.0), (1, 16)))
    mask = torch.arange(16) > 3
    question = ask(query, mask)
    check(query, mask, question, question.network.SerializeToString())


def test_every_operator_has_a_rule() -> None:
    assert set(concrete(Op)) - {ops.TopK} == WRITTEN


@pytest.mark.parametrize("op", [ops.Sign(), ops.JumpRelu(torch.tensor(0.25))], ids=repr)
def test_steps_are_written_too(op: Elementwise) -> None:
    query, mask = small(op)
    question = ask(query, mask)
    check(query, mask, question, question.network.SerializeToString())


def small(activation: Elementwise, constant: float = 0.5) -> tuple[Query, Tensor]:
    """`x (1, 2) -> dense -> act -> dense`; of three components the last two are ablated, the third by an interval."""
    builder = Builder("x", (1, 2))
    builder.dense("x", torch.tensor([[1.0, -1.0], [0.5, 2.0], [constant, 1.0]]), torch.tensor([0.5, 0.0, 1.0]), name="h")
    builder.elementwise(activation, "h", name="a site, called so")
    builder.dense("a site, called so", torch.tensor([[1.0, 2.0, -1.0], [0.0, 1.0, 3.0]]), name="y")
    graph = builder.build("y")
    low, high = torch.tensor([[0.0, 0.25, -1.0]]), torch.tensor([[0.0, 0.25, 1.0]])
    gate = Gate("a site, called so", torch.arange(3).reshape(1, 3), 3, Box(low.double(), high.double()))
    end = torch.ones((1, 2), dtype=torch.float64)
    margins = agreement_margins(Logits(tolerance=0.1), (1, 2))
    return Query(graph, Gates((gate,)), Box(-end, end), margins), torch.tensor([True, False, False])


def test_an_interval_is_an_input_and_a_value_a_constant() -> None:
    query, mask = small(ops.Relu())
    question = ask(query, mask)
    assert (question.lower.tolist(), question.upper.tolist()) == ([-1.0, -1.0, -1.0], [1.0, 1.0, 1.0])
    (part,) = question.patched
    assert (part.tensor, part.elements.tolist(), part.first) == ("a site, called so", [2], 2)
    x = torch.tensor([[0.3, -0.2, 0.7]])
    h = torch.relu(torch.tensor([0.3 + 0.2 + 0.5, 0.15 - 0.4, 0.15 - 0.2 + 1.0]))
    model = [h[0] + 2 * h[1] - h[2], h[1] + 3 * h[2]]
    circuit = [h[0] + 2 * 0.25 - 0.7, 0.25 + 3 * 0.7]
    d = torch.tensor([circuit[0] - model[0], circuit[1] - model[1]]).double()
    assert torch.allclose(outputs(question.network, x.double()), torch.cat([d, -d])[None], atol=1e-6)
    assert question.clauses == (((0, -0.1),), ((1, -0.1),), ((2, -0.1),), ((3, -0.1),))
    assert "; X_2 .. X_2: patched at a site, called so, elements 2" in vnnlib_text(question, [])


def test_only_what_is_downstream_of_an_ablation_is_there_twice() -> None:
    query, mask = small(ops.Relu())
    kinds = [node.op_type for node in ask(query, mask).network.graph.node]
    assert kinds.count("Relu") == 1 and "Sub" not in kinds
    whole = ask(query, torch.ones(3, dtype=torch.bool))
    assert len(whole.lower) == 2 and not whole.patched and "Concat" not in [node.op_type for node in whole.network.graph.node]


def test_numbers_read_back_and_have_no_exponent(tmp_path: Path) -> None:
    values = torch.tensor([1e-300, -1e-7, 0.1, -0.0, 3e20, 1 / 3], dtype=torch.float64)
    question = replace(ask(*small(ops.Relu())), lower=values, upper=values, patched=())
    text = vnnlib_text(question, ["line\nbreak; ünicode"])
    (tmp_path / "q").write_text(text, encoding="ascii")
    assert read_property(tmp_path / "q").lower.tolist() == values.tolist()
    assert "e" not in "".join(line.split()[-1] for line in text.splitlines() if line.startswith("(assert (>="))
    assert "X_3 0.0)" in text and text.startswith("; line\\nbreak")


def test_squares_of_tolerances_round_towards_the_stricter_claim() -> None:
    query, mask = small(ops.Relu())
    margins = agreement_margins(Logits(tolerance=0.1, norm="l2"), (1, 2))
    ((atom,),) = ask(replace(query, margins=margins), mask).clauses
    assert -atom[1] <= 0.1**2 and -atom[1] == pytest.approx(0.01)


def test_what_cannot_be_written_is_named() -> None:
    class Odd(ops.Relu):
        """A kind without a rule."""

    with pytest.raises(WriterError, match=r"model_a site.*operator Odd"):
        ask(*small(Odd()))
    with pytest.raises(WriterError, match="float32"):
        ask(*small(ops.Relu(), 1e300))
    query, mask = small(ops.Relu())
    ball = Ball(torch.zeros((1, 2), dtype=torch.float64), 1.0, query.region.box())
    with pytest.raises(ValueError, match="Ball"):
        ask(replace(query, region=ball), mask)


def test_constants_that_float32_rounds_are_told() -> None:
    query, mask = small(ops.Relu())
    assert ask(query, mask).rounded is None
    node = query.graph.nodes[0]
    wide = replace(node, op=ops.Dense(torch.full((3, 2), 0.1, dtype=torch.float64)))
    graph = replace(query.graph, nodes=(wide, *query.graph.nodes[1:]))
    assert ask(replace(query, graph=graph), mask).rounded == "model_h"


@pytest.mark.parametrize("fault", ["mask", "weight", "patch"])
def test_a_wrong_network_is_a_fault(fault: str) -> None:
    query, mask = small(ops.Relu())
    question = ask(query, mask)
    check(query, mask, question, question.network.SerializeToString())
    if fault == "mask":
        mask = torch.tensor([False, False, False])
    elif fault == "weight":
        tensor = next(t for t in question.network.graph.initializer if list(t.dims) == [4, 4] or list(t.dims) == [2, 3])
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.01), tensor.name))
    else:
        question = replace(question, patched=(replace(question.patched[0], elements=torch.tensor([1])),))
    with pytest.raises(ExportFault):
        check(query, mask, question, question.network.SerializeToString())
