"""A checkpoint as an ONNX model of a fixed number of positions, its tensors under TransformerLens's hook names."""

from __future__ import annotations

from typing import Literal, TypeAlias

import onnx
import torch
from onnx import TensorProto, helper

from specs.errors import InputError
from specs.transformers.attention import attention
from specs.transformers.checkpoint import Checkpoint, Norm
from specs.transformers.nodes import Nodes

__all__ = ["Input", "written"]

Input: TypeAlias = Literal["one-hot", "embedding"]

_OPSET, _IR, _LARGEST = 20, 9, 2**31 - 2**24
_GELU = {"gelu": "none", "gelu_new": "tanh"}


def written(checkpoint: Checkpoint, positions: int, takes: Input, last: bool = False) -> onnx.ModelProto:
    """The model on `positions` tokens.

    Input: `tokens` `(1, positions, vocabulary)`, one-hot rows, or `hook_embed` `(1, positions, width)`, the tokens' embeddings
    (`embed.raw` in a model that normalises them).
    Output: `logits` `(1, positions, outputs)`, with `last` those of the last position, `(1, outputs)`. Names between are
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
    name, shape = "tokens", [1, positions, config.vocabulary]
    if takes == "embedding":
        name, shape = w.embedding, [1, positions, config.width]
    stream = w.embedded(takes)
    for i in range(config.layers):
        stream = w.block(i, stream)
    stream = w.norm(stream, "ln_final", config.final)
    if last:
        stream = w.nodes.gather(stream, torch.tensor([positions - 1]), 1, "ln_final.last")
        stream = w.nodes.reshape(stream, [1, config.width], "ln_final.row")
    w.unembedded(stream)
    result = [1, config.outputs] if last else [1, positions, config.outputs]
    graph = helper.make_graph(
        w.nodes.nodes,
        "transformer",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, result)],
        w.nodes.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


class _Writer:
    def __init__(self, checkpoint: Checkpoint, positions: int) -> None:
        self.checkpoint, self.config, self.positions = checkpoint, checkpoint.config, positions
        self.nodes = Nodes(self.config.epsilon)
        self.embedding = "embed.raw" if self.config.embed_norm else "hook_embed"

    def norm(self, x: str, name: str, kind: Norm | None, width: int | None = None) -> str:
        weights = self.checkpoint.weights
        weight = weights[f"{name}.w"] if kind in ("LN", "RMS") else None
        bias = weights[f"{name}.b"] if kind == "LN" else None
        return self.nodes.norm(x, kind, name, weight, bias, self.config.width if width is None else width)

    def embedded(self, takes: Input) -> str:
        """The stream before the first block."""
        w, x = self.nodes, self.embedding
        if takes == "one-hot":
            w.node("MatMul", ["tokens", w.constant(self.checkpoint["embed.W_E"], "embed.W_E")], x)
        if self.config.embed_norm:
            x = w.node("Identity", [self.norm(x, "embed.ln", "LN")], "hook_embed")
        if self.config.positions != "standard":
            return x
        offset = w.constant(self.checkpoint["pos_embed.W_pos"][: self.positions], "hook_pos_embed")
        return w.node("Add", [x, offset], "blocks.0.hook_resid_pre")

    def block(self, i: int, stream: str) -> str:
        """The stream after a block. Before the next it is the same again: TransformerLens has two names for it."""
        block, config, after = f"blocks.{i}", self.config, f"blocks.{i}.hook_resid_post"
        if stream != (before := f"{block}.hook_resid_pre"):
            stream = self.nodes.node("Identity", [stream], before)
        read = self.norm(stream, f"{block}.ln1", config.norm)
        added = f"{block}.hook_attn_out"
        own = f"{block}.attn.out" if config.norms_after else added
        out = self.left(attention(self.nodes, self.checkpoint, i, read, self.positions, own), added, "ln1", i)
        if config.hidden is None:
            return self.nodes.node("Add", [stream, out], after)
        if config.parallel:
            return self.nodes.node("Sum", [stream, out, self.mlp(i, stream)], after)
        stream = self.nodes.node("Add", [stream, out], f"{block}.hook_resid_mid")
        return self.nodes.node("Add", [stream, self.mlp(i, stream)], after)

    def left(self, x: str, name: str, norm: str, i: int) -> str:
        """What a layer adds to the stream, normalised once more where the model does so."""
        if not self.config.norms_after:
            return x
        return self.nodes.node("Identity", [self.norm(x, f"blocks.{i}.{norm}_post", "RMS")], name)

    def mlp(self, i: int, stream: str) -> str:
        block, config, w = f"blocks.{i}", self.config, self.checkpoint.weights
        stem, hidden = f"{block}.mlp", config.hidden
        x = self.norm(stream, f"{block}.ln2", config.norm)
        inside, bias = w[f"{stem}.W_in"], w[f"{stem}.b_in"]
        if config.gated:
            pre = self.nodes.linear(x, w[f"{stem}.W_gate"], None, f"{stem}.hook_pre", f"{stem}.gate")
            beside = self.nodes.linear(x, inside, None, f"{stem}.hook_pre_linear", f"{stem}.in")
            product = self.nodes.node("Mul", [self.activation(pre, f"{stem}.opened"), beside], f"{stem}.gated")
            post = self.nodes.node("Add", [product, self.nodes.constant(bias, f"{stem}.in.bias")], f"{stem}.hook_post")
        else:
            pre = self.nodes.linear(x, inside, bias, f"{stem}.hook_pre", f"{stem}.in")
            normed = config.activation == "solu_ln"
            post = self.activation(pre, f"{stem}.hook_mid" if normed else f"{stem}.hook_post")
            if normed:
                kind: Norm = "LN" if config.norm == "LN" else "LNPre"
                post = self.nodes.node("Identity", [self.norm(post, f"{stem}.ln", kind, hidden)], f"{stem}.hook_post")
        own = f"{stem}.out" if config.norms_after else f"{block}.hook_mlp_out"
        out = self.nodes.linear(post, w[f"{stem}.W_out"], w[f"{stem}.b_out"], own, f"{stem}.out")
        return self.left(out, f"{block}.hook_mlp_out", "ln2", i)

    def activation(self, x: str, name: str) -> str:
        kind = self.config.activation
        if kind == "relu":
            return self.nodes.node("Relu", [x], name)
        if kind == "silu":
            return self.nodes.node("Mul", [x, self.nodes.node("Sigmoid", [x], f"{name}.gate")], name)
        if kind in ("solu", "solu_ln"):
            return self.nodes.node("Mul", [x, self.nodes.node("Softmax", [x], f"{name}.gate", axis=-1)], name)
        return self.nodes.node("Gelu", [x], name, approximate=_GELU[kind])

    def unembedded(self, x: str) -> None:
        config, name = self.config, "logits" if self.config.logit_cap is None else "logits.uncapped"
        self.nodes.linear(x, self.checkpoint["unembed.W_U"], self.checkpoint["unembed.b_U"], name, "unembed")
        self.nodes.capped(name, config.logit_cap, "logits")
