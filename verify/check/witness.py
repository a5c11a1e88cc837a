"""A witness replayed: the point lies in the region exactly, the original ONNX violates the claim there in onnxruntime, model
and circuit each by itself, and so does the real-number function, shown by interval arithmetic at that point. Trusted base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from specs import agreement
from verify.check.claim import Gate, Question
from verify.check.enclosure import Region
from verify.check.program import Array, Program, Rejected
from verify.check.proof import Proof

__all__ = ["confirm_witness"]


def confirm_witness(question: Question, arrays: Mapping[str, NDArray[Any]], float32: bool = False) -> None:
    """Replay the witness in `arrays`; of a claim about `float32` onnxruntime is one evaluation, and that is enough. Raises:
    Rejected: it shows no violation, and why."""
    program, record = question.program, question.spec.agreement
    number = arrays.get("witness.claim", np.array(-1))
    if number.shape != () or number.dtype.kind != "i" or not 0 <= int(number) < len(question.claims):
        raise Rejected("the witness names no claim")
    claim = question.claims[int(number)]
    x = _taken(arrays, "witness.input", program.shape, program.dtype)
    _inside(claim.region, x, arrays.get("witness.input_weights"), program.dtype)
    point = _point(x)
    second = None
    if claim.second is not None:
        other = _taken(arrays, "witness.second", program.shape, program.dtype)
        _inside(claim.second, other, arrays.get("witness.second_weights"), program.dtype)
        second = _point(other)
        patches = dict(zip(claim.gates, _run(program.proto, list(claim.gates), {program.input: other}), strict=True))
        gates = claim.gates
    else:
        patches, gates = dict[str, NDArray[Any]](), dict[str, Gate]()
        for i, (site, gate) in enumerate(claim.gates.items()):
            patches[site] = _taken(arrays, f"witness.patch.{i}", program.steps[site].shape, program.dtype)
            value = patches[site].astype(np.float64).ravel()
            if not (gate.kept | ((gate.lower <= value) & (value <= gate.upper))).all():
                raise Rejected(f"a patched value of site {site!r} is outside of what the spec allows")
            gates[site] = replace(gate, lower=value, upper=value)
    model = _run(program.proto, [program.output], {program.input: x})[0]
    circuit = _intervened(program, x, claim.gates, patches)
    if not _deviates(record, circuit.ravel(), model.ravel()):
        raise Rejected("in onnxruntime the witness does not violate the claim")
    if float32:
        return
    proof = Proof(program, replace(claim, region=point, second=second, gates=gates))
    if not _surely(record, proof):
        raise Rejected("in exact arithmetic the witness is not shown to violate the claim")


def _point(x: NDArray[Any]) -> Region:
    flat = x.astype(np.float64).ravel()
    return Region(flat, flat)


def _taken(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.shape != shape or array.dtype != dtype or not np.isfinite(array).all():
        raise Rejected(f"the certificate holds no {name} of the model's shape and type")
    return array


def _inside(region: Region, x: NDArray[Any], weights: NDArray[Any] | None, dtype: Any) -> None:
    """Exact: the box's ends are those of the spec, rounded outward by less than a float; in a hull, `weights` state a point
    within one rounding of it."""
    flat = x.astype(np.float64).ravel()
    if region.points is not None:
        if weights is None or weights.shape != (len(region.points),) or not (weights >= 0).all() or not weights.sum() > 0:
            raise Rejected("the witness states no weights of the hull's points")
        total = sum((Fraction(float(w)) for w in weights), Fraction(0))
        ulp = np.finfo(dtype).eps * np.abs(region.points).max(0) + np.finfo(dtype).tiny
        for value, column, near in zip(flat, region.points.T, ulp, strict=True):
            mean = sum((Fraction(float(w)) * Fraction(float(v)) for w, v in zip(weights, column, strict=True)), Fraction(0))
            if abs(mean / total - Fraction(float(value))) > Fraction(float(near)):
                raise Rejected("the witness's input is not in the hull")
        return
    if not ((region.lower <= flat) & (flat <= region.upper)).all():
        raise Rejected("the witness's input is not in the region")
    if region.center is not None:
        distance = sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in zip(flat, region.center, strict=True))
        if distance > Fraction(region.radius) ** 2:
            raise Rejected("the witness's input is not in the ball")


def _deviates(record: agreement.Agreement, circuit: NDArray[Any], model: NDArray[Any]) -> bool:
    """Whether two outputs violate the claim, in exact arithmetic on the numbers given."""
    if not (np.isfinite(circuit).all() and np.isfinite(model).all()):
        return False
    c, g = ([Fraction(float(v)) for v in row] for row in (circuit, model))
    tolerance = Fraction(record.tolerance)
    if isinstance(record, agreement.Top1):
        return all(max(c) - c[t] > tolerance for t in range(len(g)) if g[t] == max(g))
    if isinstance(record, agreement.LogitDifference):
        t, k = record.target, record.against
        return abs((c[t] - c[k]) - (g[t] - g[k])) > tolerance
    sizes = [abs(c[i] - g[i]) for i in (range(len(c)) if record.outputs is None else record.outputs)]
    norm = record.norm if isinstance(record, agreement.Logits) else "linf"
    if norm == "l2":
        return sum(s * s for s in sizes) > tolerance**2
    return (sum(sizes) if norm == "l1" else max(sizes)) > tolerance


def _surely(record: agreement.Agreement, proof: Proof) -> bool:
    """The same, for all outputs within the enclosures that hold at the point."""
    b, out = proof.root, proof.program.output
    yl, yu = b.y[out]
    cl, cu = b.c.get(out, b.y[out])
    dl, du = b.d.get(out, (np.zeros(len(yl)), np.zeros(len(yl))))
    if isinstance(record, agreement.Top1):
        first = [t for t in range(len(yl)) if yu[t] >= yl.max()]
        return all(np.nextafter(cl.max() - cu[t], -np.inf) > record.tolerance for t in first)
    if isinstance(record, agreement.LogitDifference):
        t, k = record.target, record.against
        over = max(dl[t] - du[k], dl[k] - du[t])
        return bool(np.nextafter(over, -np.inf) > record.tolerance)
    sizes = np.maximum(np.maximum(dl, -du), 0.0)
    sizes = sizes if record.outputs is None else sizes[list(record.outputs)]
    norm = record.norm if isinstance(record, agreement.Logits) else "linf"
    total: Any = sizes.sum() if norm == "l1" else np.sqrt((sizes**2).sum()) if norm == "l2" else sizes.max()
    return bool(total * (1 - 1e-12) > record.tolerance) if norm != "linf" else bool(total > record.tolerance)


def _session(proto: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _exposing(proto: onnx.ModelProto, outputs: list[str]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    if [o.name for o in copy.graph.output] != outputs:
        stored = {t.name for t in copy.graph.initializer}
        kind = next(i.type.tensor_type.elem_type for i in copy.graph.input if i.name not in stored)
        del copy.graph.output[:]
        copy.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in outputs)
    return copy


def _run(proto: onnx.ModelProto, outputs: list[str], feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [np.asarray(value) for value in _session(_exposing(proto, outputs)).run(outputs, feeds)]


def _intervened(program: Program, x: NDArray[Any], gates: Mapping[str, Gate], patches: Mapping[str, NDArray[Any]]) -> Array:
    """The circuit's output: the original, with every reader of a site seeing `Where(kept, site, patch)`."""
    copy = _exposing(program.proto, [program.output])
    graph, nodes = copy.graph, list[onnx.NodeProto]()
    seen = {site: f"checked.{i}" for i, site in enumerate(gates)}
    for node in graph.node:
        fresh = onnx.NodeProto()
        fresh.CopyFrom(node)
        del fresh.input[:]
        fresh.input.extend(seen.get(name, name) for name in node.input)
        nodes.append(fresh)
        for name in (n for n in node.output if n in seen):
            nodes.append(helper.make_node("Where", [f"{seen[name]}.kept", name, f"{seen[name]}.patch"], [seen[name]]))
    del graph.node[:]
    graph.node.extend(nodes)
    for site, gate in gates.items():
        kept = gate.kept.reshape(program.steps[site].shape)
        graph.initializer.append(onnx.numpy_helper.from_array(kept, f"{seen[site]}.kept"))
        graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(patches[site]), f"{seen[site]}.patch"))
    return np.asarray(_session(copy).run([program.output], {program.input: x})[0])
