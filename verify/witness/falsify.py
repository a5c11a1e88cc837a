"""Witnesses: points of a claim at which the *original* model, in its own runtime and precision, shows a violation."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.query import Query
from specs.encode import Claim, Problem
from specs.margins import deviation
from specs.models.runtime import Intervention
from verify.witness.library import Library
from verify.witness.pool import Points, circuit_outputs

__all__ = ["Replay", "Witness", "replay", "witness_of"]

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A counterexample. Arrays are in the model's precision and shapes; `patch` holds each gated site whole (elements that the
    circuit keeps were computed, not patched); `deviation` is in the metric's unit, from the two outputs.

    Where patched values are activations, `patch_inputs` holds the inputs that the model was run on for them, and `patch_rows`
    which of these gave the value of each component of a site (-1 for a kept one).
    """

    input: Array
    patch: dict[str, Array]
    model_output: Array
    circuit_output: Array
    deviation: float
    patch_inputs: tuple[Array, ...] = ()
    patch_rows: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What the original model and the circuit on it did at one point of the claim; `violated` by no tolerance of ours.

    `margin` is the claim's at that very point, rounded as it is, on our graph in the query's precision.
    """

    witness: Witness
    violated: bool
    margin: float


def replay(problem: Problem, claim: Claim, mask: Tensor, points: Points, library: Library | None = None) -> Replay | None:
    """Run one point (a batch of one) on the original, model and circuit separately, and measure the deviation.

    The point is rounded to the model's precision first, inward, and must then lie in the region exactly; where it cannot, the
    answer is None: what holds only beside the region does not count. It is violated where the deviation in the original's own
    runtime exceeds the tolerance, *and* our graph has a negative margin there: a runtime that rounds the circuit and the model
    differently (it may fuse their operators differently) shows no violation by that alone.
    Patched values that are activations are the original's own, run on the inputs that they come from; for `resample` patching
    `library` finds those. Shapes: `mask` `(components,)`. Cost: two runs of the original and one for each such input, and as
    many of our graph.
    """
    dtype, query = problem.model.dtype, claim.query
    mask = mask.cpu()
    received = query.region.inward(points.x.double().cpu(), dtype)
    if not query.region.contains(received[0].double()):
        return None
    if library is not None:
        patched = _resampled(problem, query, mask, Points(received.double(), points.patches), library)
    elif query.gates.sources:
        patched = _reached(problem, query, mask, received[0])
    else:
        patched = _given(query, mask, points, dtype)
    if patched is None:
        return None
    x = received[0, 0] if query.gates.sources else received[0]
    kept = {name: elements[0].numpy() for name, elements in query.gates.expand(mask.reshape(1, -1)).items()}
    runtime = problem.model.runtime
    model = runtime.outputs(x.numpy())
    circuit = runtime.intervened(x.numpy(), Intervention(kept, patched.values))
    found = deviation(problem.spec.agreement, torch.from_numpy(np.asarray(circuit)), torch.from_numpy(np.asarray(model)))
    seen = Points(received.double(), patched.ours)
    with torch.no_grad():
        ours = circuit_outputs(query, seen, mask.reshape(1, -1))
        margin = float(query.margins.at(ours, query.graph(seen.x)))
    witness = Witness(x.numpy(), patched.values, model, circuit, found, patched.inputs, patched.rows)
    return Replay(witness, found > problem.spec.agreement.tolerance and margin < 0, margin)


@dataclass(frozen=True, slots=True, eq=False)
class _Patched:
    """Patch values at the original's sites, the same for our graph `(1, *shape)` each, and where they come from."""

    values: dict[str, Array]
    ours: dict[str, Tensor]
    inputs: tuple[Array, ...] = ()
    rows: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


def _given(query: Query, mask: Tensor, points: Points, dtype: torch.dtype) -> _Patched | None:
    """Values of the patch boxes, rounded inward; None where an ablated one is then outside."""
    kept = query.gates.expand(mask.reshape(1, -1))
    patch: dict[str, Array] = {}
    for gate in query.gates.gates:
        value = points.patches[gate.tensor][0].double().cpu() if gate.tensor in points.patches else gate.patch.lower
        rounded = gate.patch.inward(value, dtype)
        inside = (gate.patch.lower <= rounded.double()) & (rounded.double() <= gate.patch.upper)
        if not bool((inside | kept[gate.tensor][0]).all()):
            return None
        patch[gate.tensor] = rounded.numpy()
    return _Patched(patch, {name: torch.from_numpy(p).double().unsqueeze(0) for name, p in patch.items()})


def _reached(problem: Problem, query: Query, mask: Tensor, pair: Tensor) -> _Patched:
    """All patched values from one run of the original, on the second input of a pair. Our graph takes its own."""
    second = pair[1].numpy()
    values = problem.model.runtime.activations(second, [gate.tensor for gate in query.gates.gates])
    rows = {gate.tensor: torch.zeros(gate.size, dtype=torch.long) for gate in query.gates.gates}
    return _Patched(values, {}, (second,), _of_ablated(query, mask, rows))


def _resampled(problem: Problem, query: Query, mask: Tensor, points: Points, library: Library) -> _Patched:
    """Each component's values from a run of the original of its own."""
    settled, origins = library.settle(mask, points)
    rows = _of_ablated(query, mask, origins.row)
    wanted = sorted({row for found in rows.values() for row in found if row >= 0})
    inputs = [origins.inputs[row].to(problem.model.dtype).numpy() for row in wanted]
    names = [gate.tensor for gate in query.gates.gates]
    runs = [problem.model.runtime.activations(x, names) for x in inputs]
    number = {row: i for i, row in enumerate(wanted)}
    values: dict[str, Array] = {gate.tensor: np.zeros(tuple(gate.group.shape)) for gate in query.gates.gates}
    numbered: dict[str, list[int]] = {}
    for gate in query.gates.gates:
        numbered[gate.tensor] = [number.get(row, -1) for row in rows[gate.tensor]]
        for component, i in enumerate(numbered[gate.tensor]):
            if i >= 0:
                at = (gate.group == component).numpy()
                values[gate.tensor][at] = runs[i][gate.tensor][at]
    return _Patched(values, dict(settled.patches), tuple(inputs), numbered)


def _of_ablated(query: Query, mask: Tensor, rows: dict[str, Tensor]) -> dict[str, list[int]]:
    """-1 for what the circuit keeps."""
    parts = torch.split(mask, [gate.size for gate in query.gates.gates])
    return {
        gate.tensor: torch.where(part, -1, rows[gate.tensor]).tolist()
        for gate, part in zip(query.gates.gates, parts, strict=True)
    }


def witness_of(problem: Problem, claim: Claim, mask: Tensor, points: Points, library: Library | None = None) -> Witness | None:
    """The point as a counterexample, where its replay on the original shows one."""
    seen = replay(problem, claim, mask, points, library)
    return seen.witness if seen is not None and seen.violated else None
