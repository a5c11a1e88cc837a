"""ONNX files: bytes to a checked model, its external data from beside it and from nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import external_data_helper, inliner, numpy_helper

from bounds.ops.base import Shape
from specs.errors import InputError
from specs.models.onnx_size import check_functions, check_tensors
from specs.models.onnx_tokens import INTEGERS, one_hot
from specs.models.runtime import Array

__all__ = ["OLDEST", "File", "parse"]

OLDEST = 7
"""Before opset 7 Add and its like broadcast by attributes of their own."""

_TYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
}


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A checked model with one input and one output. `original` is as read (external data inside), `run` has local functions
    inlined; `model` is what is read: `run`, or where that takes token numbers (`tokens`) one that takes one-hot rows.
    `input_shape` is at batch size one. `rows` are the tensors that hold token numbers in the file and rows in `model`."""

    original: onnx.ModelProto
    run: onnx.ModelProto
    model: onnx.ModelProto
    constants: dict[str, Array]
    input: str
    input_shape: Shape
    dtype: torch.dtype
    output: str
    opset: int
    tokens: bool = False
    rows: frozenset[str] = frozenset()


def parse(content: bytes, shown: str, folder: Path | None = None, input_shape: Shape | None = None) -> File:
    """Read and check a model.

    `folder` is where external data may lie; None allows none. `input_shape` stands in for a shape that the model leaves open.
    Raises: InputError: not ONNX, invalid, cyclic, too old, several inputs or outputs, open dimensions but the batch.
    """
    try:
        original = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own error classes differ between versions
        raise InputError(shown, "", f"not an ONNX file ({error})", "", "give a model written by an ONNX exporter") from error
    _external(original, shown, folder)
    try:
        onnx.checker.check_model(_shaped(original))
    except Exception as error:
        said = " ".join(str(error).split())
        raise InputError(shown, "", f"not a valid ONNX model ({said[:200]})", "", "export it again") from error
    opset = max((i.version for i in original.opset_import if i.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST:
        raise InputError(
            shown, "", f"ONNX opset {opset}", f"opset {OLDEST} or later is read", "convert it with onnx.version_converter"
        )
    check_functions(original, shown)
    model = inliner.inline_local_functions(original) if original.functions else original
    graph = model.graph
    if graph.sparse_initializer:
        raise InputError(shown, "", "sparse weights", "dense weights are read", "export it again with dense weights")
    constants = {t.name: _array(t, shown) for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(repr(i.name) for i in inputs) or "none"
        raise InputError(
            shown, "", f"{len(inputs)} inputs ({names})", "a model with one input is needed", "make the others constants"
        )
    if len(graph.output) != 1:
        names = ", ".join(repr(o.name) for o in graph.output) or "none"
        raise InputError(
            shown, "", f"{len(graph.output)} outputs ({names})", "a model with one output is needed", "export only one"
        )
    kind, name = inputs[0].type.tensor_type.elem_type, inputs[0].name
    shape, run, tokens = _shape(inputs[0], shown, input_shape), model, kind in INTEGERS
    rows = frozenset[str]()
    if tokens:
        model, shape, kind, rows = one_hot(model, name, shape, constants, shown)
    if kind not in _TYPES:
        word = next((word for word, n in onnx.TensorProto.DataType.items() if n == kind), str(kind))
        raise InputError(
            shown,
            "",
            f"input {name!r} has type {word}",
            "float16, float or double is needed, or integers that are looked up in a table",
            "for tokens, take one-hot or embedded ones as input",
        )
    check_tensors(model, name, shape, shown)
    return File(original, run, model, constants, name, shape, _TYPES[kind], graph.output[0].name, opset, tokens, rows)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long
        return False


def _array(tensor: onnx.TensorProto, shown: str) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        raise InputError(shown, "", f"weight {tensor.name!r} cannot be read ({said})", "", "export it again") from error


def _shaped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or where inputs or outputs state no shape, a copy where they do: the checker asks for one, no runtime does."""
    if all(v.type.tensor_type.HasField("shape") for v in (*model.graph.input, *model.graph.output)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.SetInParent()
    return copy


def _shape(value: onnx.ValueInfoProto, shown: str, given: Shape | None) -> Shape:
    """The input's shape at batch size one: an open first dimension is the batch."""
    tensor = value.type.tensor_type
    stated = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    if given is not None:
        fits = not tensor.HasField("shape") or (
            len(stated) == len(given) and all(s in (None, g) for s, g in zip(stated, given, strict=True))
        )
        if not fits:
            raise InputError(shown, "", f"input shape {list(given)}", f"the model states {_names(value)}")
        return given
    if not tensor.HasField("shape"):
        raise InputError(shown, "", f"input {value.name!r} has no shape", "", "export it again with a fixed input shape")
    if stated and stated[0] is None:
        stated[0] = 1
    shape = tuple(n for n in stated if n is not None)
    if len(shape) != len(stated):
        raise InputError(
            shown,
            "",
            f"input {value.name!r} has shape {_names(value)}",
            "only its first dimension, the batch, may be open",
            "export it again with fixed sizes",
        )
    return shape


def _names(value: onnx.ValueInfoProto) -> str:
    return str([d.dim_value if d.HasField("dim_value") else d.dim_param or "?" for d in value.type.tensor_type.shape.dim])


def _external(model: onnx.ModelProto, shown: str, folder: Path | None) -> None:
    """Load weights kept in files of their own. Raises: InputError: one lies elsewhere than in the model's folder."""
    found = [t for t in model.graph.initializer if external_data_helper.uses_external_data(t)]
    for tensor in found:
        needed = "external data must lie in the model's folder"
        try:
            location = external_data_helper.ExternalDataInfo(tensor).location
        except ValueError as error:
            raise InputError(shown, "", f"weight {tensor.name!r}: {error}", needed, "save the model in one file") from error
        if folder is None:
            raise InputError(shown, "", f"weight {tensor.name!r} is kept in {location!r}", needed, "save the model in one file")
        root = folder.resolve()
        try:
            target = (root / location).resolve()
        except (ValueError, OSError) as error:
            raise InputError(shown, "", f"weight {tensor.name!r} is kept in {location[:80]!r} ({error})", needed, "") from error
        if not location or not target.is_relative_to(root):
            raise InputError(shown, "", f"weight {tensor.name!r} is kept in {location!r}", needed, "move it there")
        if not _is_file(target):
            raise InputError(
                shown, "", f"weight {tensor.name!r} is kept in {location!r}, which is missing", needed, "copy it there"
            )
    if found:
        assert folder is not None
        try:
            onnx.load_external_data_for_model(model, str(folder.resolve()))
        except Exception as error:
            raise InputError(shown, "", f"external data cannot be read ({error})", "", "save the model in one file") from error
