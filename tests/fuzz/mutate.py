"""Ways of breaking files: bytes, words, documents, archives, ONNX graphs. A mutator takes one file of a corpus and chance."""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import onnx
from onnx import TensorProto

Mutator = Callable[[bytes, Random], bytes]

_WORDS = (
    b"-1", b"0", b"1e308", b"1e999", b"-0.0", b"NaN", b"Infinity", b"null", b"true", b"999999999999",
    b"9223372036854775808", b"[]",
    b"{}", b'""', b"../../../etc/passwd", b"/dev/zero", b"\x00", b"\xff\xfe", b"\xf0\x9f\x92\xa9", b"[[[[", b"&a [*a]",
    b"!!python/object",
)  # fmt: skip


def bytes_changed(content: bytes, chance: Random) -> bytes:
    """Some bytes flipped, cut out, doubled, or replaced with words that readers trip over."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        at = chance.randrange(len(made) + 1)
        length = min(len(made) - at, int(chance.expovariate(1 / 8)))
        match chance.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                del made[at : at + length]
            case 2:
                made[at:at] = made[at : at + length] * chance.choice((1, 2, 50))
            case 3:
                made[at : at + length] = chance.choice(_WORDS)
            case 4:
                made[at : at + length] = chance.randbytes(length)
            case _:
                if chance.random() < 0.2:
                    del made[at:]
    return bytes(made)


def words_changed(content: bytes, chance: Random) -> bytes:
    """Words of a text swapped, doubled, dropped, replaced by others or by numbers no one expects."""
    words = re.findall(rb"\s+|[\w.+-]+|.", content, re.DOTALL)
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not words:
            break
        at = chance.randrange(len(words))
        match chance.randrange(6):
            case 0:
                other = chance.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            case 1:
                words[at:at] = words[at : at + chance.randrange(1, 20)] * chance.choice((1, 2, 300))
            case 2:
                del words[at : at + chance.randrange(1, 8)]
            case 3:
                words[at] = chance.choice(words)
            case 4:
                words[at : at + 1] = [chance.choice((b"(", b"[", b"{", b"- "))] * chance.choice((1, 3, 150, 30_000))
            case _:
                words[at] = chance.choice(_WORDS)
    return b"".join(words)


_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 2**63, -(2**70), 0.5, 1e308, -1e-320, "", "all", "none", "a" * 5000, "../../etc/passwd",
    "/dev/stdin", "x\0y",
    [], {}, [[]], [0] * 3000, list(range(50)), {"": 1}, [[1, 2], [3]], {"file": "digits.npz", "array": "images",
    "index": 10**9},
)  # fmt: skip


def document_changed(content: bytes, chance: Random) -> bytes:
    """A JSON document with some of its values replaced, moved, nested, doubled or dropped."""
    document = json.loads(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            break
        holder, key = chance.choice(places)
        match chance.randrange(7):
            case 0:
                holder[key] = copy.deepcopy(chance.choice(_VALUES))
            case 1:
                other, there = chance.choice(places)
                holder[key] = json.loads(json.dumps(other[there]))
            case 2:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[chance.choice(("x", "kind", "file", "format", f"{key}s", ""))] = holder[key]
            case 4:
                for _ in range(chance.choice((1, 5, 110))):
                    holder[key] = [holder[key]] if chance.random() < 0.5 else {"x": holder[key]}
            case 5 if isinstance(holder[key], int | float):
                holder[key] = holder[key] * chance.choice((-1, 1000, 10**12, 1e-9))
            case _ if isinstance(holder, list):
                holder.extend([holder[key]] * chance.choice((1, 3, 200)))
            case _:
                holder[key] = str(holder[key])
    made = json.dumps(document)
    return made.encode() if chance.random() < 0.9 else made.replace('"', "", 2).encode()


def _places(value: Any) -> Any:
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def archive_changed(content: bytes, chance: Random) -> bytes:
    """A zip archive with members broken, dropped, renamed, or stored as what they are not. Sometimes not a zip at all."""
    if chance.random() < 0.3:
        return bytes_changed(content, chance)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        hit = chance.choice(names)
        for name in names:
            body = members[name]
            if name == hit:
                match chance.randrange(5):
                    case 0:
                        continue
                    case 1:
                        name = chance.choice(("../" + name, name + ".npy", "/" + name, name.upper(), "a" * 300))
                    case 2:
                        body = b"\0" * chance.choice((0, 10**5, 10**7))
                    case 3 if body.lstrip()[:1] in (b"{", b"["):
                        body = document_changed(body, chance)
                    case _:
                        body = bytes_changed(body, chance)
            archive.writestr(name, body)
    made = out.getvalue()
    return bytes_changed(made, chance) if chance.random() < 0.1 else made


def graph_changed(content: bytes, chance: Random) -> bytes:
    """An ONNX model with edges redirected, shapes and attributes changed, nodes dropped or doubled, weights moved out."""
    if chance.random() < 0.2:
        return bytes_changed(content, chance)
    model = onnx.load_model_from_string(content)
    graph = model.graph
    names = (
        [name for node in graph.node for name in (*node.input, *node.output)]
        + [t.name for t in graph.initializer]
        + ["", "new"]
    )
    for _ in range(chance.choice((1, 1, 2, 4))):
        if not graph.node:
            break
        node, i = chance.choice(graph.node), chance.randrange(len(graph.node))
        match chance.randrange(12):
            case 0 if node.input:
                node.input[chance.randrange(len(node.input))] = chance.choice(names)
            case 1 if node.output:
                node.output[chance.randrange(len(node.output))] = chance.choice(names)
            case 2:
                node.op_type = chance.choice(_OPERATORS)
            case 3 if node.attribute:
                _attribute_changed(chance.choice(node.attribute), chance)
            case 4:
                name = chance.choice(
                    ("axis", "perm", "pads", "strides", "group", "kernel_shape", "dilations", "alpha", "to", "value")
                )
                values = [chance.choice(_INTEGERS) for _ in range(chance.randrange(5))]
                node.attribute.append(
                    onnx.helper.make_attribute(name, chance.choice((values or [0], values[:1] or 1, 0.5, "x")))
                )
            case 5 if graph.initializer:
                _tensor_changed(chance.choice(graph.initializer), chance)
            case 6:
                shape = chance.choice((*graph.input, *graph.output)).type.tensor_type
                if shape.shape.dim:
                    shape.shape.dim[chance.randrange(len(shape.shape.dim))].dim_value = chance.choice(_INTEGERS)
            case 7:
                chance.choice((*graph.input, *graph.output)).type.tensor_type.elem_type = chance.randrange(24)
            case 8:
                del graph.node[i]
            case 9:
                graph.node.insert(chance.randrange(len(graph.node) + 1), node)
            case 10:
                model.opset_import[0].version = chance.choice((-1, 0, 1, 7, 8, 12, 99, 2**40))
            case _ if graph.initializer:
                constant = onnx.helper.make_node("Constant", [], [graph.initializer[0].name], value=graph.initializer[0])
                graph.node.insert(0, constant)
                del graph.initializer[0]
            case _:
                pass
    return model.SerializeToString()


# Nothing between what a machine computes in no time and what no machine holds: a large model is slow, and rightly so.
_INTEGERS = (-(2**63), -100, -1, 0, 1, 2, 3, 7, 64, 500, 1000, 10**9, 2**31, 2**63 - 1)
_OPERATORS = (
    "Relu", "Softmax", "MatMul", "Gemm", "Conv", "ConvTranspose", "Reshape", "Transpose", "Concat", "Split", "Slice",
    "Gather", "Pad", "Add",
    "Mul", "Div", "Sub", "MaxPool", "AveragePool", "Identity", "Loop", "If", "Expand", "Tile", "Flatten", "Squeeze",
    "Unsqueeze", "Pow",
    "ReduceMean", "ConstantOfShape", "BatchNormalization", "Sigmoid", "Clip", "Cast", "Shape", "Resize", "Where", "Range",
    "EyeLike", "NoSuch",
)  # fmt: skip


def _attribute_changed(attribute: onnx.AttributeProto, chance: Random) -> None:
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = chance.choice(_INTEGERS)
        if chance.random() < 0.3:
            attribute.ints.extend([1] * chance.choice((1, 2, 1000)))
    elif attribute.HasField("t"):
        _tensor_changed(attribute.t, chance)
    else:
        attribute.i, attribute.f = chance.choice(_INTEGERS), chance.choice((0.0, -1.0, 1e38, float("nan"), float("inf")))
        attribute.type = chance.choice(
            (attribute.type, onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.GRAPH)
        )


def _tensor_changed(tensor: TensorProto, chance: Random) -> None:
    match chance.randrange(6):
        case 0 if tensor.dims:
            tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(_INTEGERS)
        case 1:
            tensor.data_type = chance.randrange(24)
        case 2:
            tensor.raw_data = bytes_changed(tensor.raw_data, chance)
        case 3:
            tensor.raw_data = b"\xff\xff\xff\x7f" * (len(tensor.raw_data) // 4)
        case 4:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.ClearField("raw_data")
            location = chance.choice(("../weights", "/dev/zero", "/etc/passwd", "weights.bin", ".", "", "a\0b", "x" * 5000))
            for key, value in (
                ("location", location),
                ("offset", str(chance.choice(_INTEGERS))),
                ("length", str(chance.choice(_INTEGERS))),
            ):
                tensor.external_data.add(key=key, value=value)
        case _:
            tensor.dims.extend([1] * chance.choice((1, 3, 100)))


def mixed(*mutators: Mutator) -> Mutator:
    """One of several, by chance."""
    return lambda content, chance: chance.choice(mutators)(content, chance)


_LARGEST = 2**20
"""Of what was doubled over and over, the start: a file of many megabytes is slow, and rightly so."""


def joined(corpus: Sequence[bytes], mutator: Mutator, chance: Random) -> bytes:
    """A file of the corpus, changed; now and then with another one's end, and now and then as it is."""
    content = chance.choice(corpus)
    if chance.random() < 0.02:
        return content
    if chance.random() < 0.05:
        other = chance.choice(corpus)
        content = content[: chance.randrange(len(content) + 1)] + other[chance.randrange(len(other) + 1) :]
        return bytes_changed(content, chance)
    return mutator(content, chance)[:_LARGEST]
