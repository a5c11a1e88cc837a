"""Small ONNX networks, and questions about them asked the way a user's files ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from specs.encode import Problem, encode_scope
from specs.model import Model, load_model
from specs.record import Origin
from specs.spec import Spec

__all__ = ["asked", "net", "random_net"]


def net(folder: Path, layers: Sequence[tuple[Any, Any]], activation: str = "Relu") -> Model:
    """Dense layers with an activation `act_i` after each but the last. Weights are `(out, in)`."""
    nodes: list[Any] = []
    constants: list[Any] = []
    seen = "x"
    for i, (weight, bias) in enumerate(layers):
        last = i == len(layers) - 1
        for name, value in ((f"w{i}", weight), (f"b{i}", bias)):
            constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        nodes.append(helper.make_node("Gemm", [seen, f"w{i}", f"b{i}"], ["y" if last else f"h{i}"], transB=1))
        if not last:
            nodes.append(helper.make_node(activation, [f"h{i}"], [f"act_{i}"]))
        seen = f"act_{i}"
    sizes = np.shape(layers[0][0])[1], np.shape(layers[-1][0])[0]
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s])] for n, s in zip("xy", sizes, strict=True)]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    return load_model("net.onnx", shown="c", where="", base=folder)


def random_net(folder: Path, *sizes: int, activation: str = "Relu", seed: int = 0) -> Model:
    """A network of these widths with Gaussian weights."""
    rng = np.random.default_rng(seed)
    layers = [(rng.normal(size=(o, i)) / np.sqrt(i), rng.normal(size=o) / 4) for i, o in pairwise(sizes)]
    return net(folder, layers, activation)


def asked(model: Model, region: Mapping[str, Any], tolerance: float = 0.0, **parts: Mapping[str, Any]) -> Problem:
    """The claim that logits differ by at most `tolerance`, every hidden neuron in scope. `parts`: `patching`, `agreement`."""
    entries = {
        "format": "certify.spec/1",
        "input": dict(region),
        "patching": dict(parts.get("patching", {"kind": "zero"})),
        "agreement": {"metric": "logits", **parts.get("agreement", {}), "tolerance": tolerance},
    }
    spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))
    scope = {site.name: "neuron" for site in model.sites() if site.after_activation}
    return encode_scope(scope, spec, model, file="spec.yaml")
