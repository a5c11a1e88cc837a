"""Laws of claims over finite sets of token sequences: what looking at every sequence says, every way of deciding says."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.models.transformer import Transformer, written
from bounds.domains import points
from bounds.domains.split import split_trace
from bounds.domains.trace import Trace
from bounds.enumeration import PointBoxes, enumeration
from bounds.query import Query
from specs.encode import Problem, encode_scope
from specs.model import Model, load_model
from specs.record import Origin
from specs.spec import Spec
from verify.branch.run import Branching
from verify.ladder import enumerate as rung
from verify.ladder.cost import Cost
from verify.ladder.enumerate import EnumerationRung
from verify.ladder.round import Round, Tally
from verify.witness.evidence import Evidence
from verify.witness.pool import Points, circuit_outputs
from verify.work.budget import Budget

__all__ = [
    "check_choices",
    "check_deep",
    "check_enumeration",
    "check_halves",
    "check_point_boxes",
    "check_sharp_points",
    "posed",
]

_NEAR = 0.02
"""How far, of the exact deviation, the tolerances stand that a decision must tell apart."""


@cache
def _model(seed: int, layers: int = 2, hidden: int = 0) -> Model:
    """Layers of two heads, four tokens, three positions, random weights."""
    torch.manual_seed(seed)
    module = Transformer(vocabulary=4, length=3, width=4, heads=2, layers=layers, hidden=hidden)
    with TemporaryDirectory() as folder:
        (Path(folder) / "net.onnx").write_bytes(written(module, "net").SerializeToString())
        return load_model("net.onnx", shown="net", where="", base=Path(folder))


_INPUTS: tuple[dict[str, Any], ...] = (
    {"positions": "all"},
    {"positions": [[0, 1, 3], "all", [2, 1]]},
    {"sequences": [[0, 1, 0], [2, 3, 2], [1, 1, 3], [3, 0, 3], [2, 0, 1]]},
)


def posed(
    seed: int, share: float = 1.0, model: Model | None = None, patching: dict[str, Any] | None = None, **agreement: Any
) -> tuple[Problem, Tensor]:
    """A claim on a random network, and a random circuit of its first heads; the tolerance is `share` of the exact deviation."""
    model, random = model or _model(seed % 3), torch.Generator().manual_seed(seed)
    entries: dict[str, Any] = {
        "format": "certify.spec/1",
        "input": {"kind": "tokens", **_INPUTS[seed % len(_INPUTS)]},
        "patching": patching or {"kind": "zero"},
        "agreement": {"metric": "logits", **agreement, "tolerance": 0.0},
    }
    scope = {f"blocks.{layer}.attn.hook_z": "head" for layer in (0, 1)}

    def ask() -> Problem:
        spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))
        return encode_scope(scope, spec, model, file="spec.yaml")

    mask = torch.rand((1, 4), generator=random) < 0.6
    mask[0, int(torch.randint(0, 4, (1,), generator=random))] = False
    entries["agreement"]["tolerance"] = -share * exact(ask().claims[0].query, mask)
    return ask(), mask


def exact(query: Query, mask: Tensor) -> float:
    """The least margin over all sequences, in floats."""
    every = enumeration(query.region)
    assert every is not None
    x = every.points(0, every.count)
    return float(query.margins.at(circuit_outputs(query, Points(x, {}), mask), query.graph(x)).min())


def check_point_boxes(seed: int) -> None:
    """Enclosures at points hold what is evaluated there, and are hardly wider than rounding."""
    problem, mask = posed(seed)
    query = problem.claims[0].query
    every = enumeration(query.region)
    assert every is not None
    x = every.points(0, every.count)
    boxes = PointBoxes(query.graph, query.gates)
    values = boxes.values(x)
    for box, y in (
        (values[query.graph.output], query.graph(x)),
        (boxes.outputs(values, mask), circuit_outputs(query, Points(x, {}), mask)),
    ):
        assert bool(((box.lower <= y + 1e-15) & (y - 1e-15 <= box.upper)).all()), "a point outside its box"
        assert bool((box.upper - box.lower <= 1e-9).all()), "wider than rounding"


def check_sharp_points(seed: int) -> None:
    """Enclosures by backward bounds hold what is evaluated, of the model and of circuits, whatever values are patched in."""
    other: dict[str, Any] = {"kind": "reachable", "reachable": {"kind": "tokens", "positions": [[1, 2], [0], [2]]}}
    problem, mask = posed(seed, model=_model(seed % 3, layers=3, hidden=4), patching=other if seed % 2 else None)
    query = problem.claims[0].query
    every = enumeration(query.region)
    assert every is not None
    x = every.points(0, min(every.count, 40))
    with patch.multiple(points, _GROWN=0.0, _GROWING=0.0):
        model = points.of_model(query.graph, x)
        circuit = points.of_circuit(model, query.gates, mask)
        y, c = query.graph(x), circuit_outputs(query, Points(x, {}), mask)
        units = torch.eye(y[0].numel(), dtype=y.dtype).reshape(-1, *y.shape[1:])
        for trace, values in ((model, y), (circuit, c)):
            box, name, flat = trace.value[query.graph.output], query.graph.output, values.flatten(1)
            assert bool(((box.lower <= values + 1e-15) & (values - 1e-15 <= box.upper)).all()), "a point outside its box"
            low, high = points.least(trace, name, units), -points.least(trace, name, -units)
            assert bool(((low <= flat + 1e-15) & (flat - 1e-15 <= high)).all()), "a form above a point"
            assert float((high - low).max()) <= 1e-10, "wider than rounding"
    values = query.graph.evaluate(x, keep=frozenset(query.graph.node))
    for name, y in values.items():
        box = model.value[name]
        slack = 1e-15 * (1 + y.abs())
        assert bool(((box.lower <= y + slack) & (y - slack <= box.upper)).all()), f"{name}: a value outside its box"


def check_deep(seed: int) -> None:
    """Tolerances just above and below the exact deviation are told apart where intervals alone say nothing any more."""
    model = _model(seed % 3, layers=16, hidden=4)
    problem, mask = posed(seed, model=model)
    query = problem.claims[0].query
    boxes, every = PointBoxes(query.graph, query.gates), enumeration(query.region)
    assert every is not None
    deviation = -exact(query, mask)
    alone = boxes.values(every.points(0, 1))[query.graph.output]
    assert float(alone.radius.max()) > _NEAR * deviation, "not deep enough to need more than intervals"
    _decides(seed, model)
    with patch.object(rung, "_SHARE", 1e-12):
        problem, mask = posed(seed, 1 + _NEAR, model)
        evidence, climbing = Evidence(problem, problem.claims[0], "cpu", 0, False), Round(mask)
        EnumerationRung(evidence, Cost(evidence.query, Tally())).run(climbing, Budget(60))
        assert climbing.open, "other rungs have the rest of the time"


def check_enumeration(seed: int) -> None:
    """Enumeration decides tolerances just above and just below the exact deviation, and rightly."""
    _decides(seed, None)


def _decides(seed: int, model: Model | None) -> None:
    for share in (1 - _NEAR, 1 + _NEAR):
        problem, mask = posed(seed, share, model)
        claim = problem.claims[0]
        least = exact(claim.query, mask)
        evidence = Evidence(problem, claim, "cpu", 0, False)
        climbing = Round(mask)
        EnumerationRung(evidence, Cost(evidence.query, Tally())).run(climbing, Budget(60))
        decision = climbing.decisions()[0].verdict
        assert decision.name == ("certified" if least >= 0 else "falsified"), f"{decision} where the least margin is {least}"
        assert climbing.bounds[0] <= least + 1e-12, "a bound above a point"


def check_halves(seed: int) -> None:
    """Both halves of a choice together hold every sequence, and their boxes all that is computed from it."""
    problem, mask = posed(seed, 0.5)
    query = problem.claims[0].query
    every = enumeration(query.region)
    assert every is not None
    x = every.points(0, every.count)
    names = frozenset(node.name for node in query.graph.nodes)
    model = query.graph.evaluate(x, keep=names)
    branching = Branching(query, mask)
    branching.root()
    for _ in range(3):
        taken = branching._take()  # pyright: ignore[reportPrivateUsage]
        if not taken:
            return
        halves = branching._halves(taken)  # pyright: ignore[reportPrivateUsage]
        limits = branching._limits(halves)  # pyright: ignore[reportPrivateUsage]
        trace, empty = split_trace(branching.base, limits, len(halves), branching.fronts)
        whole, _ = split_trace(branching.base, branching._limits(taken), len(taken), branching.fronts)  # pyright: ignore[reportPrivateUsage]
        held = _within(trace, x) & ~empty.unsqueeze(1)
        before = _within(whole, x)
        assert bool((held.unflatten(0, (len(taken), 2)).any(1) | ~before).all()), "a sequence is in neither half"
        for name in names:
            assert trace.model is not None
            box, y = trace.model.value[name], model[name].unsqueeze(0)
            low, high = (end.unsqueeze(1) for end in (box.lower, box.upper))
            inside = ((y >= low - 1e-9) & (y <= high + 1e-9)).flatten(2).all(2)
            assert bool((inside | ~held).all()), f"a sequence's {name} is outside the box of its part"
        for part in taken:
            branching._parts.push(part)  # pyright: ignore[reportPrivateUsage]
        branching.step()


def _within(trace: Trace, x: Tensor) -> Tensor:
    """Which points lie in the input boxes of which parts. Shape: `(parts, points)`."""
    assert trace.model is not None
    box = trace.model.read[trace.graph.input]
    low, high = (end.flatten(1).unsqueeze(1) for end in (box.lower, box.upper))
    return ((x.flatten(1) >= low) & (x.flatten(1) <= high)).all(2)


def check_choices(seed: int, steps: int = 60) -> None:
    """Branch and bound over token choices never proves more than is so, and proves what is."""
    problem, mask = posed(seed, 1 + _NEAR)
    query = problem.claims[0].query
    least = exact(query, mask)
    branching = Branching(query, mask)
    branching.root()
    assert branching.bound <= least + 1e-9, f"the root proves {branching.bound}, and a point has {least}"
    for _ in range(steps):
        if not branching.open:
            break
        branching.step()
        assert branching.bound <= least + 1e-9, f"parts prove {branching.bound}, and a point has {least}"
    assert branching.open == 0 and branching.bound >= 0, f"{branching.open} parts open, {branching.bound} proven of {least}"
