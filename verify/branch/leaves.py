"""Leaves for certificates: branch and bound until the independent checker has proven every part.

The engine's proofs are not translated. The checker's own bounds of the whole region are taken as known, branch and bound runs
on these, and a part counts as closed only when the checker, given its slopes and multipliers as they are written, has proven
it. So whatever rung decided a claim, its certificate is one tree a goal. Nothing here needs to be trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.trace import Trace
from bounds.graph import Graph
from bounds.ops.relu import LeakyRelu
from bounds.query import Clauses, Margins, Norm, Query
from bounds.region import Box
from verify.branch.run import Batch, Branching
from verify.branch.splits import Split
from verify.check.certificate import holds, spare
from verify.check.claim import Goal
from verify.check.part import Constraint, Tuned
from verify.check.proof import Proof
from verify.check.tree import STEPS, tensors

if TYPE_CHECKING:
    from specs.encode import Claim, Problem

__all__ = ["NotCovered", "Refused", "Trees"]

Key = tuple[bool, str, int, float]
"""Which run, tensor, element and threshold a node splits."""

_MEMORY = 1 << 28
_BATCH = 128


class Refused(Exception):
    """No certificate can be made, and why."""


class NotCovered(Refused):
    """The checker does not follow what is claimed."""


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    path: tuple[Constraint, ...]
    slopes: NDArray[np.uint16]
    multipliers: NDArray[np.float32]


@dataclass(eq=False)
class Trees:
    """The trees of one claim's open goals."""

    proof: Proof
    goals: Sequence[Goal]
    open: Sequence[int]
    leaves: dict[int, list[_Leaf]] = field(default_factory=dict[int, "list[_Leaf]"])

    def grow(self, problem: Problem, claim: Claim, expired: Callable[[], bool]) -> None:
        """Branch and bound until the checker has proven every leaf. Raises: Refused: time is up, or no split is left."""
        self.leaves = {k: [] for k in self.open}
        query = claim.query
        goals = [self.goals[k] for k in self.open]
        margins = _margins(goals, [spare(self.proof, goal) for goal in goals], query.graph.shape(query.graph.output))
        known = self._known(query, problem.mask)
        branching = Branching(replace(query, margins=margins), problem.mask, known=known, accept=self._accept, batch=_BATCH)
        branching.root(expired)
        while branching.open:
            if expired():
                raise Refused("time is up")
            branching.step(expired)
        if not branching.bound >= 0:
            raise Refused(f"{claim.label} is not proven in the checker's calculus")

    def _known(self, query: Query, mask: torch.Tensor) -> Trace:
        """The engine's trace with the checker's intervals in place of its own, wherever both know a tensor."""
        model = model_trace(query.graph, query.region, _MEMORY)
        trace = difference_trace(circuit_trace(model, query.gates, mask, _MEMORY), _MEMORY)
        root, graph = self.proof.root, query.graph
        for name, box in root.y.items():
            if name in graph.node:
                model.value[name] = model.read[name] = _boxed(box, graph, name)
                if name not in root.d:
                    trace.value[name] = trace.read[name] = model.value[name]
        for name, box in root.c.items():
            if name in graph.node and name in trace.delta:
                trace.read[name] = _boxed(box, graph, name)
                trace.delta[name] = _boxed(root.d[name], graph, name)
                if name not in trace.kept:
                    trace.value[name] = trace.read[name]
        fresh: dict[str, Any] = {"_lines": {}, "_rounding": {}}
        model = replace(model, **fresh)
        return replace(trace, model=model, **fresh, _difference={}, _delta_rounding={})

    def _accept(self, batch: Batch, row: int) -> bool:
        k = self.open[batch.parts[row].goal]
        path = tuple(self._constraint(split, batch) for split in batch.parts[row].splits)
        leaf = _Leaf(path, self._slopes(batch, row), self._multipliers(batch, row, path))
        if not holds(self.proof, self.goals[k], path, _tuned(self.proof, leaf)):
            return False
        self.leaves[k].append(leaf)
        return True

    def _constraint(self, split: Split, batch: Batch) -> Constraint:
        graph, name, at = batch.trace.graph, split.tensor, split.at
        if name == graph.input and name not in self.proof.root.y:  # both inputs in one
            names, size = list(self.proof.regions), int(np.prod(graph.input_shape)) // 2
            name, at = names[at // size], at % size
        if name not in self.proof.root.y:
            raise Refused(f"a split of {name!r}, which the checker does not know")
        return Constraint(split.stream == "circuit", name, at, split.side, split.threshold)

    def _slopes(self, batch: Batch, row: int) -> NDArray[np.uint16]:
        """Slopes and weights as they are written, zero where nothing depends on them."""
        trace, tuned = batch.trace, batch.result.tuned
        assert trace.model is not None
        parts: list[NDArray[np.float64]] = []
        for step in self.proof.relus:
            node = trace.graph.node.get(step.name)
            if node is None or not isinstance(node.op, LeakyRelu):
                raise Refused(f"the engine has no ReLU {step.name!r} as the checker reads it")
            for of, slopes in ((trace.model, tuned.model), (trace, tuned.circuit)):
                lower, upper = (_row(end, row) for end in (of.read[node.inputs[0]].lower, of.read[node.inputs[0]].upper))
                value = (upper > -lower) * 1.0 if step.name not in slopes else _row(slopes[step.name], row)
                parts.append(np.where(upper <= 0, 0.0, np.where(lower >= 0, 1.0, value)))
            weights = tuned.weights.get(step.name)
            parts.append(np.zeros(step.size) if weights is None else _row(weights, row))
        return np.rint(np.concatenate([np.zeros(0), *parts]).clip(0, 1) * STEPS).astype(np.uint16)

    def _multipliers(self, batch: Batch, row: int, path: Sequence[Constraint]) -> NDArray[np.float32]:
        """One for each constraint: of several at one end of an element, the tightest has it."""
        tuned = batch.result.tuned
        found = np.zeros(len(path), np.float32)
        tightest: dict[tuple[str, str, int, int], int] = {}
        splits = batch.parts[row].splits
        for i, split in enumerate(splits):
            key = (split.stream, split.tensor, split.at, split.side)
            if key not in tightest or split.side * (split.threshold - splits[tightest[key]].threshold) >= 0:
                tightest[key] = i
        for (stream, tensor, at, side), i in tightest.items():
            if (stream, tensor) in tuned.above:
                above, below = (float(_row(m[stream, tensor], row)[at]) for m in (tuned.above, tuned.below))
                found[i] = max(0.0, side * (below - above))
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All trees in preorder."""
        names = {name: i for i, name in enumerate(tensors(self.proof))}
        tensor: list[int] = []
        splits: list[Key] = []
        ordered: list[_Leaf] = []
        for k in self.open:
            pending = [(0, self.leaves[k])]
            while pending:
                depth, leaves = pending.pop()
                if len(leaves) == 1 and len(leaves[0].path) == depth:
                    tensor.append(-1)
                    ordered.append(leaves[0])
                    continue
                c = leaves[0].path[depth]
                tensor.append(names[c.tensor])
                splits.append((c.circuit, c.tensor, c.at, c.threshold))
                pending.append((depth + 1, [leaf for leaf in leaves if leaf.path[depth].side < 0]))
                pending.append((depth + 1, [leaf for leaf in leaves if leaf.path[depth].side > 0]))
        width = 3 * sum(step.size for step in self.proof.relus)
        return {
            "goal": np.array(self.open, np.int32),
            "tensor": np.array(tensor, np.int32),
            "circuit": np.array([s[0] for s in splits], np.uint8),
            "at": np.array([s[2] for s in splits], np.int32),
            "threshold": np.array([s[3] for s in splits], np.float64),
            "slopes": np.stack([leaf.slopes for leaf in ordered]) if ordered else np.zeros((0, width), np.uint16),
            "multipliers": np.concatenate([np.zeros(0, np.float32), *(leaf.multipliers for leaf in ordered)]),
        }


def _tuned(proof: Proof, leaf: _Leaf) -> Tuned:
    parts: list[dict[str, Any]] = [{}, {}, {}]
    start = 0
    for step in proof.relus:
        for part in parts:
            part[step.name] = leaf.slopes[start : start + step.size].astype(np.float64) / STEPS
            start += step.size
    return Tuned(parts[0], parts[1], parts[2], leaf.multipliers.astype(np.float64))


def _row(x: torch.Tensor, row: int) -> NDArray[np.float64]:
    return x[row if len(x) > 1 else 0].detach().double().flatten().cpu().numpy()


def _boxed(box: tuple[Any, Any], graph: Graph, name: str) -> Box:
    lower, upper = (torch.tensor(end).reshape(1, *graph.shape(name)) for end in box)
    return Box(lower, upper)


def _margins(goals: Sequence[Goal], spares: Sequence[NDArray[np.float64]], shape: tuple[int, ...]) -> Margins:
    """All goals as one claim: a clause each, or the one norm."""
    circuit, model = (
        torch.tensor(np.concatenate([getattr(goal, side) for goal in goals])).reshape(-1, *shape)
        for side in ("circuit", "model")
    )
    goal, spare = goals[0], spares[0]
    if goal.norm:
        half = spare[: len(spare) // 2]
        less = float(half.sum() if goal.norm == 1 else np.linalg.norm(half))
        return Norm(circuit, model, torch.zeros(len(spare), dtype=torch.float64), goal.tolerance - less, goal.norm)
    offset = torch.tensor(np.concatenate([goal.offset - spare for goal, spare in zip(goals, spares, strict=True)]))
    return Clauses(circuit, model, offset, torch.arange(len(offset)).reshape(len(goals), -1))
