"""A greedy deletion with `certify` as its judge, in one process: what the part `sequence` starts, `python -m …walk SETTINGS`.

Every component in turn, least important first, is taken out; it stays out where the circuit without it is certified. A line of
JSON for each circuit met. Importance is |activation times gradient|, summed over a component's elements, of the model's first
output over its second at the region's centre (of the first of the claim's outputs, where it names some).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.decide.cases import GAP, SEQUENCE, Case
from benchmarks.decide.question import spec_document

if TYPE_CHECKING:
    from torch import Tensor

    from specs.encode import Problem

__all__ = ["main", "order", "problem_of", "walk"]


def problem_of(case: Case, data: Path, region: Path, tolerance: float | None = None) -> Problem:
    """The question about a case's whole scope, on the box in the file `region`; by default with the tolerance of its rule."""
    from specs.encode import encode_scope
    from specs.spec import Spec

    model = case.load(data)
    allowed = case.tolerance(data, model) if tolerance is None else tolerance
    spec = Spec.model_validate(spec_document(region, case.agreement(allowed)))
    return encode_scope(case.scope(model), spec, model, file=case.name)


def order(problem: Problem, outputs: tuple[int, ...] | None) -> list[int]:
    """Components by importance, least first; equal ones by number. Cost: one backward pass a site."""
    import torch

    query = problem.claims[0].query
    graph, gates = query.graph, query.gates
    x = query.region.box().center.unsqueeze(0)
    tensors = frozenset(gate.tensor for gate in gates.gates)
    with torch.no_grad():
        values = graph.evaluate(x, keep=tensors)
    first = values[graph.output].flatten().argsort(descending=True)[:2].tolist()
    found: list[Tensor] = []
    start = 0
    for gate in gates.gates:
        # Only this site is patched, with its own value: what is downstream of it is recomputed.
        mask = torch.ones((1, gates.size), dtype=torch.bool)
        mask[:, start : start + gate.size] = False
        start += gate.size
        own = values[gate.tensor].clone().requires_grad_()
        patches = {name: own if name == gate.tensor else values[name] for name in tensors}
        y = graph.evaluate(x, gates, mask, patches)[graph.output].flatten()
        goal = y[outputs[0]] if outputs is not None else y[first[0]] - y[first[1]]
        (gradient,) = torch.autograd.grad(goal, own)
        each = (own * gradient).detach().flatten().abs()
        found.append(torch.zeros(gate.size, dtype=each.dtype).index_add_(0, gate.group.flatten(), each))
    return torch.cat(found).argsort(stable=True).tolist()


def walk(case: Case, data: Path, region: Path, budget_s: float, hard: bool = False) -> Iterator[dict[str, Any]]:
    """The circuits met, in order, each with its verdict; then a last record with `end`. `budget_s` is that of one question;
    with `hard` it is kept by the process's timer."""
    import torch

    from verify.ladder.choice import chosen, splits
    from verify.ladder.decide import Ladder
    from verify.verdict import Certified, Falsified
    from verify.work.budget import Budget

    problem = problem_of(case, data, region)
    tolerance = problem.spec.agreement.tolerance
    backends = chosen("auto", "cpu")
    ladder = Ladder(problem, problem.claims[0], backends, skip_refusals=True, split=splits("auto"))
    kept = torch.ones(len(problem.components), dtype=torch.bool)
    for number, component in enumerate(order(problem, case.outputs)):
        candidate = kept.clone()
        candidate[component] = False
        began = time.monotonic()
        decision = ladder.decide(candidate.unsqueeze(0), Budget(budget_s, hard))[0]
        verdict = decision.verdict
        if isinstance(verdict, Certified):
            kept = candidate
        margin = verdict.margin if isinstance(verdict, Certified) else None if isinstance(verdict, Falsified) else verdict.bound
        yield {
            "query": number,
            "verdict": verdict.name,
            "time_s": time.monotonic() - began,
            "rung": decision.rung,
            "proven": None if margin is None or margin == float("-inf") else tolerance - margin,
            "tolerance": tolerance,
            "kept": problem.kept(candidate),
        }
    yield {"end": True, "components": len(problem.components), "left": int(kept.sum()), "tolerance": tolerance}


def main() -> None:
    """Walk as the first argument, JSON, says; records go to standard output."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    case = (SEQUENCE | GAP)[asked["case"]]
    for record in walk(case, Path(asked["data"]), Path(asked["region"]), asked["budget_s"], hard=True):
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
