"""Witnesses replayed: the point lies in the region exactly, the original ONNX violates the claim there in onnxruntime, model
and circuit each by itself, and so does the real-number function, shown by interval arithmetic at that point. Trusted base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from verify.check.agreement import deviation
from verify.check.claim import Claim, Gate, Question, Set
from verify.check.interval import Array, Rejected
from verify.check.points import outputs
from verify.check.program import Program
from verify.check.tokens import Tokens

__all__ = ["Witnesses"]


@dataclass(frozen=True, slots=True, eq=False)
class Witness:
    """A point of a claim: an input of its region, and a value for every element of every site or (`second`) an input of the
    second region, from which the model gives them. `model` is what onnxruntime computes there."""

    claim: Claim
    x: NDArray[Any]
    second: NDArray[Any] | None
    patches: dict[str, NDArray[Any]]
    model: Array


class Witnesses:
    """The witnesses of a certificate, one after another in the arrays `witness.*`; each is read once, and tried on circuits."""

    def __init__(self, question: Question, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.question, self.arrays = question, arrays
        program = question.program
        sites = list(question.circuit.scope)
        self.model = _Session(program, program.proto, [program.output])
        self.circuit = _Session(program, _opened(program, sites), [program.output])
        self.read: dict[int, Witness] = {}

    def confirm(self, number: int, kept: Mapping[str, NDArray[np.bool_]], float32: bool = False) -> None:
        """Show that a witness refutes the circuit that keeps these elements of each site; of a claim about `float32`
        onnxruntime is one evaluation, and that is enough. Raises: Rejected: it shows no violation, and why."""
        if number not in self.read:
            self.read[number] = self._read(number)
        found, program, record = self.read[number], self.question.program, self.question.spec.agreement
        gates: dict[str, Gate] = {}
        for site, gate in found.claim.gates.items():
            gates[site] = replace(gate, kept=kept[site])
            if found.second is None:
                value = found.patches[site].astype(np.float64).ravel()
                if not (kept[site] | ((gate.lower <= value) & (value <= gate.upper))).all():
                    raise Rejected(f"a patched value of site {site!r} is outside of what the spec allows")
                gates[site] = replace(gates[site], lower=value, upper=value)
        feeds = self._fed(found.x)
        for i, (site, patch) in enumerate(found.patches.items()):
            feeds[f"checked.{i}.kept"] = kept[site].reshape(program.steps[site].shape)
            feeds[f"checked.{i}.patch"] = patch
        circuit = self.circuit.run(feeds)[0].astype(np.float64).ravel()
        if not deviation(record, (found.model, found.model), (circuit, circuit))[0] > record.tolerance:
            raise Rejected("in onnxruntime the witness does not violate the claim")
        if not float32:
            flat = [None if x is None else x.astype(np.float64).ravel() for x in (found.x, found.second)]
            second = None if flat[1] is None else (flat[1], flat[1])
            if flat[0] is None or not deviation(record, *outputs(program, gates, flat[0], second))[0] > record.tolerance:
                raise Rejected("in exact arithmetic the witness is not shown to violate the claim")

    def _fed(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """An input as the file takes it."""
        program = self.question.program
        return {program.input: x if program.numbers is None else x.argmax(-1).astype(program.numbers)}

    def _read(self, number: int) -> Witness:
        """A witness, and that it is a point of its claim."""
        claims, program = self.arrays.get("witness.claim", np.zeros(0)), self.question.program
        if claims.ndim != 1 or claims.dtype.kind != "i" or not 0 <= number < len(claims):
            raise Rejected(f"the certificate holds no witness {number}")
        if not 0 <= int(claims[number]) < len(self.question.claims):
            raise Rejected("a witness names no claim")
        claim, shape = self.question.claims[int(claims[number])], program.shape
        x, second = self._taken("input", number, shape), None
        self._inside(claim.region, x, "input", number)
        if claim.second is not None:
            second = self._taken("second", number, shape)
            self._inside(claim.second, second, "second", number)
            sites = list(self.question.circuit.scope)
            patches = dict(zip(sites, _Session(program, program.proto, sites).run(self._fed(second)), strict=True))
        else:
            patches = {site: self._taken(f"patch.{i}", number, program.steps[site].shape) for i, site in enumerate(claim.gates)}
        return Witness(claim, x, second, patches, self.model.run(self._fed(x))[0].astype(np.float64).ravel())

    def _taken(self, name: str, number: int, shape: tuple[int, ...]) -> NDArray[Any]:
        array, dtype = self.arrays.get(f"witness.{name}"), self.question.program.dtype
        rows = len(self.arrays["witness.claim"])
        if array is None or array.shape != (rows, *shape) or array.dtype != dtype or not np.isfinite(array[number]).all():
            raise Rejected(f"the certificate holds no witness.{name} of the model's shape and type")
        return array[number]

    def _inside(self, region: Set, x: NDArray[Any], name: str, number: int) -> None:
        """Exact: the box's ends are those of the spec, rounded outward by less than a float; in a hull, weights state a point
        within one rounding of it."""
        flat, dtype = x.astype(np.float64).ravel(), self.question.program.dtype
        if isinstance(region, Tokens):
            if not region.holds(flat):
                raise Rejected("the witness's input is none of the sequences")
            return
        if region.points is not None:
            stated = self.arrays.get(f"witness.{name}_weights")
            if stated is None or stated.ndim != 2 or len(stated) <= number or stated.shape[1] != len(region.points):
                raise Rejected("the witness states no weights of the hull's points")
            weights = stated[number]
            if not (weights >= 0).all() or not 0 < weights.sum() < np.inf:
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


class _Session:
    """onnxruntime on a model with other outputs, on one thread."""

    def __init__(self, program: Program, proto: onnx.ModelProto, outputs: list[str]) -> None:
        import onnxruntime as ort

        copy = onnx.ModelProto()
        copy.CopyFrom(proto)
        if [o.name for o in copy.graph.output] != outputs:
            kind = helper.np_dtype_to_tensor_dtype(np.dtype(program.dtype))
            del copy.graph.output[:]
            copy.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in outputs)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.outputs = outputs
        self.session: Any = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.asarray(value) for value in self.session.run(self.outputs, feeds)]


def _opened(program: Program, sites: list[str]) -> onnx.ModelProto:
    """The circuits' model: the original, with every reader of a site seeing `Where(kept, site, patch)`, both of them inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(program.proto)
    graph, nodes = copy.graph, list[onnx.NodeProto]()
    seen = {site: f"checked.{i}" for i, site in enumerate(sites)}
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
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(program.dtype))
    for site in sites:
        shape = program.steps[site].shape
        graph.input.append(helper.make_tensor_value_info(f"{seen[site]}.kept", onnx.TensorProto.BOOL, shape))
        graph.input.append(helper.make_tensor_value_info(f"{seen[site]}.patch", kind, shape))
    return copy
