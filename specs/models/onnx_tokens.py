"""Models of token numbers as models of one-hot rows: an embedding that looks numbers up is a product with its table."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from bounds.ops.base import Shape
from specs.errors import InputError
from specs.models.runtime import Array

__all__ = ["INTEGERS", "numbered", "one_hot"]

INTEGERS = (TensorProto.INT64, TensorProto.INT32)

_RESHAPED = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""What may stand between the numbers and the tables: operators that only change the numbers' shape."""


def one_hot(
    model: onnx.ModelProto, name: str, shape: Shape, constants: dict[str, Array], shown: str
) -> tuple[onnx.ModelProto, Shape, int, frozenset[str]]:
    """A copy that takes one row of zeros and a one in place of each number; its input's shape and element type; and the tensors
    that hold numbers in the model, and rows in the copy.

    Guarantees: at one-hot rows all other tensors are those of the model at the numbers, under the same names. Raises:
    InputError: something else than an embedding reads the numbers, or two embeddings of different sizes do.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    numbers = _numbers(copy, name, shape)
    tables: dict[str, Array] = {}
    for i, node in enumerate(graph.node):
        read = next((x for x in node.input if x in numbers), None)
        if read is None or node.output[0] in numbers:
            continue
        table = constants.get(node.input[0])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if node.op_type != "Gather" or list(node.input[1:]) != [read] or table is None or table.ndim != 2 or axis != 0:
            called = repr(node.name) if node.name else f"#{i}"
            raise InputError(
                shown, "", f"token numbers {name!r} are read by node {called} ({node.op_type})",
                "embeddings (Gather of rows of a table) alone", "take one-hot rows as input",
            )  # fmt: skip
        tables[node.input[0]] = table
        node.CopyFrom(helper.make_node("MatMul", [read, node.input[0]], list(node.output), name=node.name))
    sizes = {len(table) for table in tables.values()}
    if len(sizes) != 1:
        said = "are not read" if not sizes else f"are looked up in tables of {' and '.join(map(str, sorted(sizes)))} rows"
        raise InputError(shown, "", f"token numbers {name!r} {said}", "one vocabulary", "take one-hot rows as input")
    kind = helper.np_dtype_to_tensor_dtype(next(iter(tables.values())).dtype)
    vocabulary = sizes.pop()
    _reshape_rows(graph, name, numbers, vocabulary, constants)
    wide = (*shape, vocabulary)
    _state_input(graph, name, kind, wide)
    del graph.value_info[:]
    return copy, wide, kind, frozenset(numbers)


def numbered(value: Array, kind: Any) -> Array:
    """One-hot rows as token numbers, where a model takes these. Raises: ValueError: other rows."""
    if not np.issubdtype(kind, np.integer):
        return value
    numbers = value.argmax(-1)
    if (
        not np.array_equal(np.take_along_axis(value, numbers[..., None], -1)[..., 0], np.abs(value).sum(-1))
        or not (value.max(-1) == 1).all()
    ):
        raise ValueError("rows that are not one-hot stand for no token")
    return numbers


def _numbers(model: onnx.ModelProto, name: str, shape: Shape) -> dict[str, Shape]:
    """The tensors that hold the numbers, with their shapes at batch size one: the input, and what is that in another shape."""
    found: dict[str, Shape] = {name: shape}
    if not any(node.op_type in _RESHAPED and name in node.input[:1] for node in model.graph.node):
        return found
    inferred = onnx.ModelProto()
    inferred.CopyFrom(model)
    kind = next(value.type.tensor_type.elem_type for value in model.graph.input if value.name == name)
    _state_input(inferred.graph, name, kind, shape)
    inferred = shape_inference.infer_shapes(inferred, data_prop=True)
    known = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    for node in model.graph.node:
        dims = known.get(node.output[0]) if node.op_type in _RESHAPED and node.input[0] in found else None
        if dims is not None and all(dim.HasField("dim_value") for dim in dims):
            found[node.output[0]] = tuple(dim.dim_value for dim in dims)
    return found


def _reshape_rows(
    graph: onnx.GraphProto, name: str, numbers: dict[str, Shape], vocabulary: int, constants: dict[str, Array]
) -> None:
    """Reshape rows where the model reshapes numbers. The new shapes go into `constants` too."""
    for node in graph.node:
        if node.output[0] in numbers and node.output[0] != name:
            wide, stated = np.array([*numbers[node.output[0]], vocabulary]), f"{node.output[0]}#rows"
            constants[stated] = wide
            graph.initializer.append(numpy_helper.from_array(wide, stated))
            node.CopyFrom(helper.make_node("Reshape", [node.input[0], stated], list(node.output), name=node.name))


def _state_input(graph: onnx.GraphProto, name: str, kind: int, shape: Shape) -> None:
    for value in graph.input:
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, kind, shape))
