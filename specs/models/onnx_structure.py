"""ONNX operators that only put elements elsewhere, and those that do nothing.

Where a node puts them is asked of ONNX's own reference, by running the node on the positions themselves: so every opset's way
of stating a slice, a split or a shape is right by construction.
"""

from __future__ import annotations

import onnx
import torch

from specs.models.onnx_call import Call, Handler

__all__ = ["HANDLERS"]

_FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


def _move(call: Call) -> None:
    for name, index in zip((n for n in call.node.output if n), call.moved(), strict=True):
        call.builder.take(call.varying(0), torch.from_numpy(index.copy()), name=name)


def _reshape(call: Call) -> None:
    call.builder.reshape(call.varying(0), call.moved()[0].shape, name=call.result)


def _transpose(call: Call) -> None:
    rank = len(call.shape(0))
    order = [int(a) for a in call.attribute("perm", range(rank - 1, -1, -1))]
    call.builder.transpose(call.varying(0), order, name=call.result)


def _concat(call: Call) -> None:
    parts = [call.tensor(i) if call.is_constant(i) else call.varying(i) for i in range(len(call.node.input))]
    call.builder.concat(parts, int(call.attribute("axis")), name=call.result)


def _pad(call: Call) -> None:
    mode = call.attribute("mode", "constant")
    x, shape = call.varying(0), call.shape(0)
    if mode != "constant":
        _move(call)
        return
    if call.opset < 11:
        pads, value = [int(n) for n in call.attribute("pads")], float(call.attribute("value", 0.0))
    else:
        pads, value = call.integers(1), float(call.tensor(2).reshape(())) if call.given(2) else 0.0
    axes = [a % len(shape) for a in call.integers(3)] if call.given(3) else list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise call.error(f"{len(pads)} pads for {len(axes)} axes", "two pads an axis are needed")
    begins, ends = [0] * len(shape), [0] * len(shape)
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        begins[axis], ends[axis] = begin, end
    call.builder.pad(x, begins, ends, value, name=call.result)


def _same(call: Call) -> None:
    call.builder.scale(call.varying(0), name=call.result)


def _dropout(call: Call) -> None:
    if call.given(2) and bool(call.array(2).reshape(())):
        raise call.error("training mode", "only inference is supported here", "export the model in eval mode")
    _same(call)


def _cast(call: Call) -> None:
    kind = int(call.attribute("to"))
    if kind not in _FLOATS:
        name = onnx.TensorProto.DataType.Name(kind) if kind in onnx.TensorProto.DataType.values() else str(kind)
        raise call.error(
            f"a cast to {name} of a tensor that depends on the model's input", "only casts to floats are supported here"
        )
    _same(call)


def _split_to_sequence(call: Call) -> None:
    """Parts of a tensor that are picked one by one afterwards."""
    shape = call.shape(0)
    axis = int(call.attribute("axis", 0)) % len(shape)
    if not call.given(1) or not call.attribute("keepdims", 1):
        raise call.error("parts without their axis", "parts of stated sizes are supported here")
    given = call.array(1)
    sizes = [int(n) for n in given] if given.ndim else [int(given)] * -(-shape[axis] // int(given))
    parts: list[str] = []
    for i in range(len(sizes)):
        part = slice(sum(sizes[:i]), min(shape[axis], sum(sizes[: i + 1])))
        chosen = [part if a == axis else slice(None) for a in range(len(shape))]
        parts.append(call.builder.slice(call.varying(0), chosen, name=call.builder.fresh(call.result, "part")))
    call.sequences[call.result] = parts


def _sequence_at(call: Call) -> None:
    parts = call.sequences[call.node.input[0]]
    call.builder.scale(parts[int(call.array(1))], name=call.result)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("Slice", "Split", "Gather", "Expand", "Tile", "DepthToSpace", "SpaceToDepth"), _move),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Pad": _pad,
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "SplitToSequence": _split_to_sequence,
    "SequenceAt": _sequence_at,
    "CastLike": _same,
}
