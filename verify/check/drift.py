"""What rounding in float32 can do to a run, whatever the order of evaluation. Trusted base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from verify.check.claim import Gate
from verify.check.enclosure import Region
from verify.check.interval import Array, Box, Rejected, magnitude
from verify.check.operators import Affine, Relu
from verify.check.program import Program, Step

__all__ = ["drift"]

U32, TINY32 = 2.0**-24, 2.0**-126


def drift(
    program: Program,
    steps: Sequence[Step],
    regions: Mapping[str, Region],
    gates: Mapping[str, Gate],
    y: Mapping[str, Box],
    c: Mapping[str, Box],
) -> tuple[Array, Array]:
    """How far each of the model's and of the circuit's outputs may be from exact in any float32 evaluation: sums in any
    order, products fused or not. Raises: Rejected: it cannot be told."""
    if program.folded or program.dtype != np.float32:
        raise Rejected("the model is not one whose rounding in float32 is followed")
    drifts: list[dict[str, Array]] = []
    for seen in (y, {**y, **c}):
        e = {name: np.zeros(len(region.lower)) for name, region in regions.items()}
        for step in steps:
            op, errors = step.op, [e[x] for x in step.inputs]
            sizes = [magnitude(seen[x]) + error for x, error in zip(step.inputs, errors, strict=True)]
            if any((size > 1e37).any() for size in sizes):
                raise Rejected("numbers that may overflow float32")
            if isinstance(op, Relu):
                error = errors[0] + (0.0 if op.slope in (0, 1) else 4 * U32 * sizes[0])
            elif not isinstance(op, Affine):
                raise Rejected(f"what rounding in float32 does to {step.name!r} is not followed")
            elif op.index is not None:
                error = op.forward(*errors)
            else:
                n = op.terms + 4
                share = n * U32 / (1 - n * U32)
                error = op.forward(*errors, size=True) + share * (op.forward(*sizes, size=True) + np.abs(op.bias)) + n * TINY32
                if n * U32 > 0.5:
                    raise Rejected("a sum too long for float32")
            if drifts and step.name in gates:
                gate = gates[step.name]
                error = np.where(gate.kept, error, drifts[0][step.name + "'"] if gate.reached else 0.0)
            e[step.name] = error * (1 + 1e-9)
        drifts.append(e)
    return drifts[0][program.output], drifts[1][program.output]
