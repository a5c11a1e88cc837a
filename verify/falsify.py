"""Witnesses: points of a claim at which the *original* model, in its own runtime and precision, shows a violation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specs.encode import Claim, Problem
from specs.margins import deviation
from verify.pool import Points, circuit_outputs

__all__ = ["Replay", "Witness", "replay", "witness_of"]

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A counterexample. Arrays are in the model's precision and shapes; `patch` holds each gated site whole (elements that the
    circuit keeps were computed, not patched); `deviation` is in the metric's unit, from the two outputs."""

    input: Array
    patch: dict[str, Array]
    model_output: Array
    circuit_output: Array
    deviation: float


@dataclass(frozen=True, slots=True, eq=False)
class Replay:
    """What the original model and the circuit on it did at one point of the claim; `violated` by no tolerance of ours.

    `margin` is the claim's at that very point, rounded as it is, on our graph in the query's precision.
    """

    witness: Witness
    violated: bool
    margin: float


def replay(problem: Problem, claim: Claim, mask: Tensor, points: Points) -> Replay | None:
    """Run one point (a batch of one) on the original, model and circuit separately, and measure the deviation.

    The point is rounded to the model's precision first, inward, and must then lie in the region exactly; where it cannot, the
    answer is None: what holds only beside the region does not count. It is violated where the deviation in the original's own
    runtime exceeds the tolerance, *and* our graph has a negative margin there: a runtime that rounds the circuit and the model
    differently (it may fuse their operators differently) shows no violation by that alone.
    Shapes: `mask` `(components,)`. Cost: two runs of the original, two of our graph.
    """
    dtype, query = problem.model.dtype, claim.query
    x = query.region.inward(points.x.double().cpu(), dtype)[0]
    if not query.region.contains(x.double()):
        return None
    kept = query.gates.expand(mask.reshape(1, -1).cpu())
    patch: dict[str, Array] = {}
    for gate in query.gates.gates:
        value = points.patches[gate.tensor][0].double().cpu() if gate.tensor in points.patches else gate.patch.lower
        rounded = gate.patch.inward(value, dtype)
        ablated = ~kept[gate.tensor][0]
        inside = (gate.patch.lower <= rounded.double()) & (rounded.double() <= gate.patch.upper)
        if not bool((inside | ~ablated).all()):
            return None
        patch[gate.tensor] = rounded.numpy()
    runtime = problem.model.runtime
    model = runtime.outputs(x.numpy())
    circuit = runtime.intervened(x.numpy(), {name: k[0].numpy() for name, k in kept.items()}, patch)
    found = deviation(problem.spec.agreement, torch.from_numpy(np.asarray(circuit)), torch.from_numpy(np.asarray(model)))
    received = Points(x.double().unsqueeze(0), {name: torch.from_numpy(p).double().unsqueeze(0) for name, p in patch.items()})
    with torch.no_grad():
        ours = circuit_outputs(query, received, mask.reshape(1, -1).cpu())
        margin = float(query.margins.at(ours, query.graph(received.x)))
    witness = Witness(x.numpy(), patch, model, circuit, found)
    return Replay(witness, found > problem.spec.agreement.tolerance and margin < 0, margin)


def witness_of(problem: Problem, claim: Claim, mask: Tensor, points: Points) -> Witness | None:
    """The point as a counterexample, where its replay on the original shows one."""
    seen = replay(problem, claim, mask, points)
    return seen.witness if seen is not None and seen.violated else None
