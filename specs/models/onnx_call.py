"""One ONNX node on its way into a graph: its operands, attributes and name in messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from bounds.build import Builder
from bounds.ops.base import Shape
from specs.errors import InputError
from specs.models.runtime import Array

__all__ = ["MASKED", "Call", "Handler"]

MASKED = -1e30
"""Scores at or below this are as good as minus infinity: their exponentials are 0 beside any other's in every precision."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """A node whose operands are known: tensors of `builder`, of type `dtype`, or `constants`. `place` names it in messages;
    `sequences` holds the tensors of each sequence made so far."""

    node: onnx.NodeProto
    builder: Builder
    constants: Mapping[str, Array]
    opset: int
    shown: str
    place: str
    read: frozenset[str]
    sequences: dict[str, list[str]]
    dtype: np.dtype[Any]

    def error(self, found: str, needed: str = "", remedy: str = "") -> InputError:
        return InputError(self.shown, self.place, found, needed, remedy)

    # operands ----------------------------------------------------------------------------------------------------------

    @property
    def result(self) -> str:
        """The tensor computed; any further result must be unread. Raises: InputError."""
        if extra := [name for name in self.node.output[1:] if name in self.read]:
            raise self.error(f"its further result {extra[0]!r} is read", "only the first result is supported here")
        return self.node.output[0]

    def given(self, i: int) -> bool:
        return i < len(self.node.input) and self.node.input[i] != ""

    def is_constant(self, i: int) -> bool:
        return self.node.input[i] in self.constants

    def varying(self, i: int) -> str:
        """Operand `i`, which must depend on the model's input. Raises: InputError."""
        if self.is_constant(i):
            raise self.error(
                f"operand {i} ({self.node.input[i]!r}) is constant", "a tensor that depends on the input is needed there"
            )
        if self.node.input[i] in self.builder.absent:
            raise self.error(
                f"operand {i} ({self.node.input[i]!r}) holds minus infinity", "only a softmax may read a masked tensor here"
            )
        return self.node.input[i]

    def scores(self, i: int) -> tuple[str, Tensor | None]:
        """Operand `i` of a softmax, and which entries of it a mask has taken out."""
        absent = self.builder.absent.get(self.node.input[i])
        return (self.varying(i), None) if absent is None else (self.node.input[i], absent)

    def shape(self, i: int) -> Shape:
        name = self.node.input[i]
        return tuple(self.constants[name].shape) if name in self.constants else self.builder.shape(name)

    def array(self, i: int) -> Array:
        """Constant operand `i`. Raises: InputError: it depends on the model's input."""
        name = self.node.input[i]
        if name not in self.constants:
            raise self.error(f"operand {i} ({name!r}) depends on the model's input", "only a constant is supported there")
        return self.constants[name]

    def masked(self, x: str, kept: Tensor, other: Tensor) -> None:
        """The result is `x` where `kept`, else `other`; where that is minus infinity, or as good as that, entries are absent.
        Shapes: `kept` (bool) and `other` broadcast with `x`."""
        shape = self.builder.shape(x)
        if bool(kept.all()) and np.broadcast_shapes(shape, kept.shape, other.shape) == shape:
            self.builder.scale(x, name=self.result)
            return
        gone = ~kept & (other <= MASKED)
        if bool((~gone & ~kept & ~other.isfinite()).any()):
            raise self.error(
                "it puts in numbers that are not finite", "only finite numbers and minus infinity are supported here"
            )
        fill = torch.where(gone | kept, torch.zeros((), dtype=torch.float64), other)
        self.builder.scale(x, kept.double(), fill, name=self.result)
        if bool(gone.any()):
            self.builder.leave_out(self.result, gone)

    def hides(self, i: int) -> bool:
        """Whether constant operand `i`, added to scores, takes some of them out."""
        return bool((self.open_tensor(i) <= MASKED).any())

    def open_tensor(self, i: int) -> Tensor:
        """Constant operand `i` in float64, which may hold infinite entries."""
        return torch.from_numpy(np.asarray(self.array(i), dtype=np.float64).copy())

    def tensor(self, i: int) -> Tensor:
        """Constant operand `i` in float64. Raises: InputError: NaN or infinite entries."""
        value = np.asarray(self.array(i), dtype=np.float64)
        if not np.isfinite(value).all():
            place = np.argwhere(~np.isfinite(value))[0].tolist()
            raise self.error(
                f"constant {self.node.input[i]!r} holds {value[tuple(place)]} at {place}", "every weight must be finite"
            )
        return torch.from_numpy(value.copy())

    def integers(self, i: int) -> list[int]:
        return [int(n) for n in np.atleast_1d(self.array(i)).reshape(-1)]

    # attributes --------------------------------------------------------------------------------------------------------

    def has(self, name: str) -> bool:
        return any(a.name == name for a in self.node.attribute)

    def attribute(self, name: str, default: Any = None) -> Any:
        for a in self.node.attribute:
            if a.name == name:
                value = onnx.helper.get_attribute_value(a)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def axes(self, i: int) -> list[int] | None:
        """The axes of a squeeze or reduction: the attribute of older opsets, operand `i` of newer ones, or None."""
        if self.given(i):
            return self.integers(i)
        found = self.attribute("axes")
        return None if found is None else [int(a) for a in found]

    # evaluation --------------------------------------------------------------------------------------------------------

    def evaluate(self, *operands: Array | None) -> list[Array]:
        """The node's results for given operands, by ONNX's own reference. Raises: InputError: it fails."""
        names = list(self.node.input)
        feeds = {name: value for name, value in zip(names, operands, strict=True) if name and value is not None}
        values = [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(feeds)]
        results = [onnx.ValueInfoProto(name=name) for name in self.node.output if name]
        graph = onnx.helper.make_graph([self.node], "one", values, results)
        try:
            found = ReferenceEvaluator(graph, opsets={"": self.opset}).run(None, feeds)
        except Exception as error:  # whatever the reference raises, the file is what is wrong
            raise self.error(f"its operands do not fit ({type(error).__name__}: {error})") from error
        assert isinstance(found, list)
        return [np.asarray(value) for value in found]

    def moved(self, i: int = 0) -> list[Array]:
        """Where the node puts the elements of operand `i`: each result holds flat positions in it. The others are constant."""
        shape = self.shape(i)
        positions = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
        return self.evaluate(
            *(None if not name else positions if j == i else self.array(j) for j, name in enumerate(self.node.input))
        )


Handler = Callable[[Call], None]
