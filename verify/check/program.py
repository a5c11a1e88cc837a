"""The model as the checker sees it: affine steps and (leaky) ReLUs over flat float64 vectors. Trusted base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

__all__ = ["Affine", "Array", "Program", "Rejected", "Relu", "Step"]

Array: TypeAlias = NDArray[np.float64]


class Rejected(Exception):
    """The checker does not confirm; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`y = sum_i L_i x_i + bias`, each `L_i` a matrix `(m, n)`, a factor for each element `(n,)`, or `index` (`y = x[index]`,
    no position twice). `terms`: the most products that are summed for one number, in either direction."""

    factors: tuple[Array, ...]
    bias: Array
    index: NDArray[np.int64] | None = None

    @property
    def terms(self) -> int:
        return sum(max(f.shape) if f.ndim == 2 else 1 for f in self.factors) + 1

    def forward(self, *x: Array, size: bool = False) -> Array:
        """`sum_i L_i x_i`, or `sum_i |L_i| x_i` with `size`. Shapes: `(n_i,)` to `(m,)`."""
        if self.index is not None:
            return x[0][self.index]
        parts = [np.abs(f) if size else f for f in self.factors]
        return sum((f @ v if f.ndim == 2 else f * v for f, v in zip(parts, x, strict=True)), np.zeros(len(self.bias)))

    def adjoint(self, a: Array, i: int, n: int) -> Array:
        """`L_i^T a`. Shapes: `(rows, m)` to `(rows, n)`."""
        if self.index is not None:
            out = np.zeros((len(a), n))
            out[:, self.index] = a
            return out
        return a @ self.factors[i] if self.factors[i].ndim == 2 else a * self.factors[i]


@dataclass(frozen=True, slots=True, eq=False)
class Relu:
    """`max(t, slope * t)`, `0 <= slope <= 1`."""

    slope: float


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """`name = op(inputs)`. `axis` counts channels, where one does."""

    name: str
    op: Affine | Relu
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    axis: int | None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Steps in order. `output` is the model's, or what its last Softmax reads. `proto` and `sha256` are the file's own;
    `folded` says that a step stands for several roundings that are not seen in it."""

    input: str
    shape: tuple[int, ...]
    dtype: Any
    steps: dict[str, Step]
    output: str
    proto: onnx.ModelProto
    sha256: str
    folded: bool

    def groups(self, site: str, granularity: str) -> tuple[NDArray[np.int64], int]:
        """The component of each element of a site, flat, and how many there are. Raises: Rejected."""
        step = self.steps.get(site)
        if step is None or site == self.output or not any(site in node.output for node in self.proto.graph.node):
            raise Rejected(f"the model has no site {site!r} that the checker reads")
        if granularity == "neuron":
            return np.arange(step.size), step.size
        if granularity == "channel" and step.axis is not None:
            count = step.shape[step.axis]
            line = np.arange(count).reshape([-1 if i == step.axis else 1 for i in range(len(step.shape))])
            return np.broadcast_to(line, step.shape).ravel(), count
        raise Rejected(f"site {site!r}: granularity {granularity!r} is not followed by the checker")

    def values(self, x: Array) -> dict[str, Array]:
        """Every tensor at one input, in float64, flat."""
        found = {self.input: x}
        for step in self.steps.values():
            inputs, op = [found[name] for name in step.inputs], step.op
            y = np.maximum(inputs[0], op.slope * inputs[0]) if isinstance(op, Relu) else op.forward(*inputs) + op.bias
            found[step.name] = y
        return found
