"""How large an ONNX model becomes: found before anything of that size is made, as a few bytes can ask for any size."""

from __future__ import annotations

import math

import onnx
from onnx import helper, shape_inference

from bounds.ops.base import Shape
from specs.errors import InputError

__all__ = ["check_functions", "check_tensors"]

_TENSOR = 1 << 26
"""Numbers of one computed tensor. The largest of VGG-16 at 224 x 224 has 3.2 million."""

_NODES = 1 << 18
"""Nodes, once functions are written out."""

_SMALL = 1 << 10
"""Weights of at most so many numbers are shapes, repeats and pads, which say how large other tensors are."""


def check_functions(model: onnx.ModelProto, shown: str) -> None:
    """Raises: InputError: a local function calls itself, or all calls written out are too many nodes."""
    bodies = {(function.domain, function.name): function.node for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    pending = [(key, False) for key in bodies]
    while pending:
        key, ready = pending.pop()
        if key in sizes and sizes[key] >= 0:
            continue
        called = [(node.domain, node.op_type) for node in bodies[key]]
        if ready:
            sizes[key] = sum(max(1, sizes.get(other, 1)) for other in called)
            continue
        sizes[key] = -1  # being counted
        pending.append((key, True))
        for other in called:
            if sizes.get(other) == -1 and other in bodies:
                raise InputError(shown, "", f"function {key[1]!r} leads back to itself", "functions without recursion", "")
            if other in bodies and other not in sizes:
                pending.append((other, False))
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in model.graph.node)
    if total > _NODES:
        raise InputError(shown, "", f"{total} nodes, once its functions are written out", f"at most {_NODES}", "")


def check_tensors(model: onnx.ModelProto, name: str, shape: Shape, shown: str) -> None:
    """Raises: InputError: a tensor is too large. `name` and `shape` are those of the input. Cost: ONNX's own shape
    inference, twice, on the model without its weights; what that cannot tell is not checked."""
    skeleton = helper.make_model(helper.make_graph(model.graph.node, "sizes", [], []), opset_imports=model.opset_import)
    graph = skeleton.graph
    kind = next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == name)
    graph.input.append(helper.make_tensor_value_info(name, kind, shape))
    for weight in model.graph.initializer:
        if math.prod(weight.dims) <= _SMALL:
            graph.initializer.append(weight)
        else:
            graph.input.append(helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
    for output in model.graph.output:
        graph.output.append(onnx.ValueInfoProto(name=output.name))
    weights = {weight.name for weight in model.graph.initializer}
    # Values of shapes are followed only once it is known that no tensor without them is too large to follow.
    for follow in (False, True):
        try:
            found = shape_inference.infer_shapes(skeleton, data_prop=follow).graph
        except Exception as error:
            said = " ".join(str(error).split())[:160]
            raise InputError(
                shown, "", f"its shapes do not fit together ({said})", "a valid model", "export it again"
            ) from error
        for value in (*found.input, *found.value_info, *found.output):
            sizes = [d.dim_value for d in value.type.tensor_type.shape.dim if d.HasField("dim_value")]
            size = math.prod(sizes)
            if value.name not in weights and (size > _TENSOR or min(sizes, default=0) < 0):
                raise InputError(shown, f"tensor {value.name!r}", f"{size} numbers", f"at most {_TENSOR}", "a smaller model")
