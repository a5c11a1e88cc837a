"""ONNX models in onnxruntime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from specs.models.onnx_tokens import INTEGERS, numbered
from specs.models.runtime import NOTHING, Array, Intervention, Runtime

__all__ = ["OnnxRuntime"]


class OnnxRuntime(Runtime):
    """The file's own model; sessions are made when first asked for, those of interventions once for each set of sites."""

    def __init__(self, original: onnx.ModelProto, model: onnx.ModelProto, input_name: str, output: str) -> None:
        """`original` is the model as read, `model` the same with its local functions inlined, which names every tensor;
        `output` is the tensor that counts as the output."""
        self._original, self._model, self._input, self._output = original, model, input_name, output
        self._sessions: dict[tuple[str, ...] | None, Any] = {}
        self._showing: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._kinds: dict[str, int] | None = None

    def outputs(self, x: Array) -> Array:
        if None not in self._sessions:
            exposed = any(o.name == self._output for o in self._original.graph.output)
            self._sessions[None] = _session(self._original if exposed else self._ending(self._model))
        return self._run(self._sessions[None], {self._input: x})

    def intervened(self, x: Array, under: Intervention) -> Array:
        sites = tuple(sorted(under.kept))
        if sites not in self._sessions:
            self._sessions[sites] = _session(self._gated(self._ending(self._model), sites))
        return self._run(self._sessions[sites], self._feeds(x, sites, under))

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        names, gated = tuple(sorted(sites)), tuple(sorted(under.kept))
        if (names, gated) not in self._showing:
            self._showing[names, gated] = _session(self._gated(self._ending(self._model, names), gated))
        session = self._showing[names, gated]
        found = session.run(list(names), self._cast(session, self._feeds(x, gated, under)))
        return {name: np.asarray(value) for name, value in zip(names, found, strict=True)}

    def _feeds(self, x: Array, sites: tuple[str, ...], under: Intervention) -> dict[str, Array]:
        feeds = {self._input: x}
        for i, site in enumerate(sites):
            mask = np.asarray(under.kept[site], dtype=bool)
            feeds[f"certify.kept.{i}"] = mask
            feeds[f"certify.patch.{i}"] = np.where(mask, 0, under.patch[site])
        return feeds

    def _run(self, session: Any, feeds: Mapping[str, Array]) -> Array:
        return np.asarray(session.run([self._output], self._cast(session, feeds))[0])

    def _cast(self, session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Feeds in the types that a session takes."""
        wanted = {i.name: _KINDS[i.type] for i in session.get_inputs() if i.name in feeds}
        return {name: np.asarray(numbered(value, wanted[name]), wanted[name], order="C") for name, value in feeds.items()}

    def _ending(self, model: onnx.ModelProto, outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
        """A copy with some tensors as its outputs, by default `output` alone."""
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        wanted = outputs or (self._output,)
        if outputs or not any(o.name == self._output for o in copy.graph.output):
            del copy.graph.output[:]
            copy.graph.output.extend(helper.make_tensor_value_info(name, self._kind(name), None) for name in wanted)
        return copy

    def _gated(self, copy: onnx.ModelProto, sites: tuple[str, ...]) -> onnx.ModelProto:
        """The model, changed so that every reader of a site sees `site * kept + patch`, two new inputs. Exact for kept of 0 and
        1."""
        graph = copy.graph
        seen = {site: f"certify.seen.{i}" for i, site in enumerate(sites)}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for j, name in enumerate(node.input):
                node.input[j] = seen.get(name, name)
            nodes.append(node)
            for name in node.output:
                if name in seen:
                    i = sites.index(name)
                    nodes.append(helper.make_node("Mul", [name, f"certify.kept.{i}"], [f"certify.product.{i}"]))
                    nodes.append(helper.make_node("Add", [f"certify.product.{i}", f"certify.patch.{i}"], [seen[name]]))
        graph_nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(graph_nodes)
        for i, site in enumerate(sites):
            for kind in ("kept", "patch"):
                graph.input.append(helper.make_tensor_value_info(f"certify.{kind}.{i}", self._kind(site), None))
        return copy

    def _kind(self, tensor: str) -> int:
        """Element type of a tensor; that of the input where ONNX cannot tell."""
        if self._kinds is None:
            graph = onnx.shape_inference.infer_shapes(self._model).graph
            self._kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
        own = self._kinds[self._input]
        return self._kinds.get(tensor) or (own if own not in INTEGERS else onnx.TensorProto.FLOAT)


_KINDS: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
