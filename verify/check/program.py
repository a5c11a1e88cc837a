"""The model as the checker sees it: steps over flat vectors, and what is enclosed of all of them. Trusted base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from verify.check.interval import Array, Box, Rejected, sound
from verify.check.operators import Affine, Operator, Product, Softmax

__all__ = ["Program", "Step", "evaluate", "values"]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """`name = op(inputs)`. `axis` counts channels, where one does."""

    name: str
    op: Operator
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    axis: int | None

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Steps in order. `output` is the model's, or what its last Softmax reads. `proto` and `sha256` are the file's own;
    `folded` says that a step stands for several roundings that are not seen in it. Where `numbers` is set the file takes the
    numbers of tokens, and the program one-hot rows in their place."""

    input: str
    shape: tuple[int, ...]
    dtype: Any
    steps: dict[str, Step]
    output: str
    proto: onnx.ModelProto
    sha256: str
    folded: bool
    numbers: Any = None

    def groups(self, site: str, granularity: str) -> tuple[NDArray[np.int64], int]:
        """The component of each element of a site, flat, and how many there are. Raises: Rejected."""
        step = self.steps.get(site)
        if step is None or site == self.output or not any(site in node.output for node in self.proto.graph.node):
            raise Rejected(f"the model has no site {site!r} that the checker reads")
        if any(isinstance(s.op, Softmax) and s.op.masked.any() and site in s.inputs for s in self.steps.values()):
            raise Rejected(f"site {site!r} holds infinite numbers")
        axis = {"channel": step.axis, "unit": len(step.shape) - 1}.get(granularity)
        if granularity == "neuron":
            return np.arange(step.size), step.size
        if granularity == "layer":
            return np.zeros(step.size, np.int64), 1
        if axis is not None:
            return _along(step.shape, axis), step.shape[axis]
        if granularity == "head" and site in (found := self._heads()):
            return found[site], int(found[site].max()) + 1
        raise Rejected(f"site {site!r}: granularity {granularity!r} is not followed by the checker")

    def _heads(self) -> dict[str, NDArray[np.int64]]:
        """The attention head of each element, where it has one. Heads are counted by the third axis from the end of the product
        of a softmax with values; from there they are followed through what moves or scales elements, and backward through
        softmax and the product that it reads."""
        found: dict[str, NDArray[np.int64]] = {}
        patterns = {s.name for s in self.steps.values() if isinstance(s.op, Softmax)}
        for step in self.steps.values():
            if isinstance(step.op, Product) and step.op.matrix and len(step.shape) > 2 and step.inputs[0] in patterns:
                found[step.name] = _along(step.shape, len(step.shape) - 3)
            elif step.inputs[0] in patterns and _moves(step):
                patterns.add(step.name)
        for step in reversed(self.steps.values()):
            if step.name not in found:
                continue
            label, op = found[step.name], step.op
            if isinstance(op, Product) and op.matrix:
                for x, shape in zip(step.inputs, op.shapes, strict=True):
                    if len(shape) > 2 and shape[-3] == step.shape[-3]:
                        found.setdefault(x, _along(shape, len(shape) - 3))
            elif isinstance(op, Affine) and op.index is not None and step.inputs[0] in self.steps:
                if len(label) == self.steps[step.inputs[0]].size:
                    found.setdefault(step.inputs[0], label[np.argsort(op.index)])
            elif isinstance(op, Softmax) or _moves(step):
                found.setdefault(step.inputs[0], label)
        for step in self.steps.values():
            if step.name not in found and step.inputs[0] in found and (_moves(step) or isinstance(step.op, Softmax)):
                label = found[step.inputs[0]]
                index = step.op.index if isinstance(step.op, Affine) else None
                found[step.name] = label if index is None else label[index]
        return found


def _along(shape: tuple[int, ...], axis: int) -> NDArray[np.int64]:
    """The place of each element along an axis, flat."""
    line = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(line, shape).ravel()


def _moves(step: Step) -> bool:
    """Whether a step only puts elements elsewhere, or scales them one by one."""
    op = step.op
    return isinstance(op, Affine) and len(op.factors) == 1 and (op.index is not None or op.factors[0].ndim == 1)


def evaluate(program: Program, x: Box, patched: Mapping[str, tuple[NDArray[np.bool_], Box]] | None = None) -> dict[str, Box]:
    """Intervals of what readers of each tensor see, for inputs in a box; elements of patched sites that are not kept lie in
    their boxes. Shapes: ends `(..., size)`. Guarantees: real arithmetic on the program is enclosed. Raises: Rejected."""
    known = {program.input: x}
    for step in program.steps.values():
        lower, upper = sound(step.op.image(*(known[name] for name in step.inputs)))
        if patched is not None and step.name in patched:
            kept, (low, high) = patched[step.name]
            lower, upper = np.where(kept, lower, low), np.where(kept, upper, high)
        known[step.name] = lower, upper
    return known


def values(program: Program, x: Array) -> dict[str, Array]:
    """Every tensor at some inputs, as near as float64 tells."""
    return {name: (lower + upper) / 2 for name, (lower, upper) in evaluate(program, (x, x)).items()}
