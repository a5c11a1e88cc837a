"""Models of token numbers as models of one-hot rows: an embedding that looks numbers up is a product with its table."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from bounds.ops.base import Shape
from specs.errors import InputError
from specs.models.runtime import Array

__all__ = ["INTEGERS", "one_hot"]

INTEGERS = (TensorProto.INT64, TensorProto.INT32)


def one_hot(
    model: onnx.ModelProto, name: str, shape: Shape, constants: dict[str, Array], shown: str
) -> tuple[onnx.ModelProto, Shape, int]:
    """A copy that takes one row of zeros and a one in place of each number, its input's shape, and its element type.

    Guarantees: at one-hot rows all other tensors are those of the model at the numbers, under the same names. Raises:
    InputError: something else than an embedding reads the numbers, or two embeddings of different sizes do.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    tables: dict[str, Array] = {}
    for i, node in enumerate(graph.node):
        if name not in node.input:
            continue
        table = constants.get(node.input[0])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        if node.op_type != "Gather" or list(node.input[1:]) != [name] or table is None or table.ndim != 2 or axis != 0:
            called = repr(node.name) if node.name else f"#{i}"
            raise InputError(
                shown, "", f"token numbers {name!r} are read by node {called} ({node.op_type})",
                "embeddings (Gather of rows of a table) alone", "take one-hot rows as input",
            )  # fmt: skip
        tables[node.input[0]] = table
        node.CopyFrom(helper.make_node("MatMul", [name, node.input[0]], list(node.output), name=node.name))
    sizes = {len(table) for table in tables.values()}
    if len(sizes) != 1:
        said = "are not read" if not sizes else f"are looked up in tables of {' and '.join(map(str, sorted(sizes)))} rows"
        raise InputError(shown, "", f"token numbers {name!r} {said}", "one vocabulary", "take one-hot rows as input")
    kind = helper.np_dtype_to_tensor_dtype(next(iter(tables.values())).dtype)
    wide = (*shape, sizes.pop())
    for value in graph.input:
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, kind, wide))
    del graph.value_info[:]
    return copy, wide, kind
