"""A checkpoint as an ONNX model of a fixed number of positions, its tensors under TransformerLens's hook names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from specs.errors import InputError
from specs.transformers.checkpoint import Checkpoint

__all__ = ["Input", "written"]

Input: TypeAlias = Literal["one-hot", "embedding"]

_OPSET, _IR, _LARGEST = 20, 9, 2**31 - 2**24
_GELU = {"gelu": "none", "gelu_new": "tanh"}


def written(checkpoint: Checkpoint, positions: int, takes: Input, last: bool = False) -> onnx.ModelProto:
    """The model on `positions` tokens.

    Input: `tokens` `(1, positions, vocabulary)`, one-hot rows, or `hook_embed` `(1, positions, width)`, the tokens' embeddings.
    Output: `logits` `(1, positions, vocabulary)`, with `last` those of the last position, `(1, vocabulary)`. Names between are
    HookedTransformer's: `blocks.0.attn.hook_z`, `blocks.0.hook_attn_out`, `blocks.0.mlp.hook_post`, `blocks.0.hook_resid_post`;
    `hook_result` (one vector for each head) where the configuration asks for it. Shapes as there, the batch first.
    Guarantees: the network of the checkpoint, in float32. Raises: InputError: more positions than the context holds, or a model
    too large for one file.
    """
    config = checkpoint.config
    if not 1 <= positions <= config.context:
        raise InputError("certify", "--positions", f"{positions}", f"1..{config.context}, the model's context")
    size = 4 * sum(value.numel() for value in checkpoint.weights.values())
    if size > _LARGEST:
        raise InputError(
            "certify", "convert", f"{size / 1e9:.1f} GB of weights", "an ONNX file holds 2 GB", "use a smaller model"
        )
    w = _Writer(checkpoint, positions)
    if takes == "one-hot":
        x = w.node("MatMul", ["tokens", w.constant(checkpoint["embed.W_E"], "embed.W_E")], "hook_embed")
        shape = [1, positions, config.vocabulary]
    else:
        x, shape = "hook_embed", [1, positions, config.width]
    stream = w.node(
        "Add", [x, w.constant(checkpoint["pos_embed.W_pos"][:positions], "hook_pos_embed")], "blocks.0.hook_resid_pre"
    )
    for i in range(config.layers):
        stream = w.block(i, stream)
    stream = w.norm(stream, "ln_final")
    if last:
        ends = [
            w.constant(torch.tensor([n]), f"last.{name}")
            for name, n in (("from", positions - 1), ("to", positions), ("axis", 1))
        ]
        stream = w.node("Slice", [stream, *ends], "ln_final.last")
        stream = w.reshape(stream, [1, config.width], "ln_final.row")
    w.linear(stream, checkpoint["unembed.W_U"], checkpoint["unembed.b_U"], "logits", "unembed")
    result = [1, config.vocabulary] if last else [1, positions, config.vocabulary]
    graph = helper.make_graph(
        w.nodes,
        "transformer",
        [helper.make_tensor_value_info("tokens" if takes == "one-hot" else "hook_embed", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, result)],
        w.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


class _Writer:
    def __init__(self, checkpoint: Checkpoint, positions: int) -> None:
        self.checkpoint, self.config, self.positions = checkpoint, checkpoint.config, positions
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._named: set[str] = set()

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Tensor, name: str) -> str:
        if name not in self._named:
            self._named.add(name)
            array = value.contiguous().numpy()
            array = array.astype(np.float32) if value.is_floating_point() else array
            self.constants.append(numpy_helper.from_array(array, name))
        return name

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        return self.node("Reshape", [x, self.constant(torch.tensor(shape), f"{name}.shape")], name)

    def linear(self, x: str, weight: Tensor, bias: Tensor, name: str, stem: str) -> str:
        """`x W + b`. Shapes: `weight` `(in, out)`."""
        product = self.node("MatMul", [x, self.constant(weight, f"{stem}.weight")], f"{name}.product")
        return self.node("Add", [product, self.constant(bias, f"{stem}.bias")], name)

    def norm(self, x: str, name: str) -> str:
        """A normalisation over the last axis, as `NAME.hook_normalized`; `x` itself in a model without."""
        kind, w = self.config.norm, self.checkpoint.weights
        if kind is None:
            return x
        result = f"{name}.hook_normalized"
        weight = w[f"{name}.w"] if kind in ("LN", "RMS") else torch.ones(self.config.width)
        if kind in ("LN", "LNPre"):
            ends = [self.constant(weight, f"{name}.w")]
            ends += [self.constant(w[f"{name}.b"], f"{name}.b")] if kind == "LN" else []
            return self.node("LayerNormalization", [x, *ends], result, axis=-1, epsilon=self.config.epsilon)
        square = self.node("Mul", [x, x], f"{name}.square")
        axes = self.constant(torch.tensor([-1]), f"{name}.axes")
        mean = self.node("ReduceMean", [square, axes], f"{name}.mean", keepdims=1)
        shifted = self.node(
            "Add", [mean, self.constant(torch.tensor(self.config.epsilon), f"{name}.epsilon")], f"{name}.shifted"
        )
        scale = self.node("Sqrt", [shifted], f"{name}.hook_scale")
        if kind == "RMSPre":
            return self.node("Div", [x, scale], result)
        return self.node("Mul", [self.node("Div", [x, scale], f"{name}.unit"), self.constant(weight, f"{name}.w")], result)

    def block(self, i: int, stream: str) -> str:
        block, w = f"blocks.{i}", self.checkpoint.weights
        out = self.attention(self.norm(stream, f"{block}.ln1"), f"{block}.attn", f"{block}.hook_attn_out")
        if self.config.hidden is None:
            return self.node("Add", [stream, out], self.after(i))
        stream = self.node("Add", [stream, out], f"{block}.hook_resid_mid")
        pre = self.linear(
            self.norm(stream, f"{block}.ln2"),
            w[f"{block}.mlp.W_in"],
            w[f"{block}.mlp.b_in"],
            f"{block}.mlp.hook_pre",
            f"{block}.mlp.in",
        )
        post = self.activation(pre, f"{block}.mlp.hook_post")
        out = self.linear(post, w[f"{block}.mlp.W_out"], w[f"{block}.mlp.b_out"], f"{block}.hook_mlp_out", f"{block}.mlp.out")
        return self.node("Add", [stream, out], self.after(i))

    def after(self, i: int) -> str:
        """The stream after a block: the next one's before, under the name that the last one needs."""
        return f"blocks.{i}.hook_resid_post"

    def activation(self, x: str, name: str) -> str:
        kind = self.config.activation
        if kind == "relu":
            return self.node("Relu", [x], name)
        if kind == "silu":
            return self.node("Mul", [x, self.node("Sigmoid", [x], f"{name}.gate")], name)
        return self.node("Gelu", [x], name, approximate=_GELU[kind])

    def attention(self, x: str, stem: str, result: str) -> str:
        """Multi-head attention. `hook_q`, `hook_k`, `hook_v`, `hook_z` are `(1, positions, heads, head_width)`."""
        config, w, n = self.config, self.checkpoint.weights, self.positions
        h, k = config.heads, config.head_width
        turned: dict[str, str] = {}
        for part in "QKV":
            weight = w[f"{stem}.W_{part}"].permute(1, 0, 2).reshape(config.width, h * k)
            flat = self.linear(x, weight, w[f"{stem}.b_{part}"].flatten(), f"{stem}.{part}.flat", f"{stem}.{part}")
            split = self.reshape(flat, [1, n, h, k], f"{stem}.hook_{part.lower()}")
            order = [0, 2, 3, 1] if part == "K" else [0, 2, 1, 3]
            turned[part] = self.node("Transpose", [split], f"{stem}.{part}.heads", perm=order)
        product = self.node("MatMul", [turned["Q"], turned["K"]], f"{stem}.scores.product")
        scaled = self.node("Div", [product, self.constant(torch.tensor(config.scale), f"{stem}.scale")], f"{stem}.scores")
        if config.causal and n > 1:
            mask = torch.zeros(n, n).masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
            scaled = self.node("Add", [scaled, self.constant(mask, "causal")], f"{stem}.hook_attn_scores")
        pattern = self.node("Softmax", [scaled], f"{stem}.hook_pattern", axis=-1)
        mixed = self.node("MatMul", [pattern, turned["V"]], f"{stem}.mixed")
        z = self.node("Transpose", [mixed], f"{stem}.hook_z", perm=[0, 2, 1, 3])
        if config.results:
            return self.results(z, stem, result)
        rows = self.reshape(z, [1, n, h * k], f"{stem}.z.flat")
        return self.linear(rows, w[f"{stem}.W_O"].reshape(h * k, config.width), w[f"{stem}.b_O"], result, f"{stem}.O")

    def results(self, z: str, stem: str, result: str) -> str:
        """What each head adds to the stream, `hook_result` `(1, positions, heads, width)`, and their sum."""
        config, w, n = self.config, self.checkpoint.weights, self.positions
        apart = self.reshape(z, [1, n, config.heads, 1, config.head_width], f"{stem}.z.apart")
        each = self.node("MatMul", [apart, self.constant(w[f"{stem}.W_O"], f"{stem}.O.weight")], f"{stem}.O.each")
        found = self.reshape(each, [1, n, config.heads, config.width], f"{stem}.hook_result")
        axes = self.constant(torch.tensor([2]), f"{stem}.O.axes")
        total = self.node("ReduceSum", [found, axes], f"{stem}.O.sum", keepdims=0)
        return self.node("Add", [total, self.constant(w[f"{stem}.b_O"], f"{stem}.O.bias")], result)
