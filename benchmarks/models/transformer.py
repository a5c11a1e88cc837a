"""Small transformers without normalisation: attention, and MLPs where they are wanted; the module, and its ONNX file.

Input `tokens`: one-hot rows, 1 x length x vocabulary. Output `logits` at the last position. Tensors are named as
TransformerLens names them: `blocks.1.attn.hook_z` is the site of layer 1's heads, `blocks.1.hook_mlp_out` that of its MLP.
"""

from __future__ import annotations

import math
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

__all__ = ["Transformer", "written"]

OPSET, IR_VERSION = 17, 8


class Transformer(nn.Module):
    """`layers` of `heads` causal attention heads, each followed by an MLP of `hidden` ReLU neurons where that is not 0, on a
    residual stream of `width`. No biases but those of the neurons; with `placed` False positions are told apart by the causal
    mask alone. Shapes: ids `(batch, length)` to logits `(batch, length, vocabulary)`."""

    def __init__(
        self, vocabulary: int, length: int, width: int, heads: int, layers: int, hidden: int = 0, placed: bool = True
    ) -> None:
        super().__init__()
        self.vocabulary, self.length, self.heads, self.layers, self.hidden = vocabulary, length, heads, layers, hidden
        small = lambda *shape: nn.Parameter(torch.randn(*shape) / math.sqrt(shape[-2]))  # noqa: E731
        self.embed = nn.Parameter(torch.randn(vocabulary, width) / math.sqrt(width))
        self.position = nn.Parameter(torch.randn(length, width) / math.sqrt(width)) if placed else None
        self.query, self.key, self.value, self.out = (
            nn.ParameterList([small(width, width) for _ in range(layers)]) for _ in range(4)
        )
        self.unembed = small(width, vocabulary)
        mlps = range(layers if hidden else 0)
        self.into = nn.ParameterList([small(width, hidden) for _ in mlps])
        self.bias = nn.ParameterList([nn.Parameter(torch.zeros(hidden)) for _ in mlps])
        self.back = nn.ParameterList([small(hidden, width) for _ in mlps])
        self.register_buffer("mask", torch.full((length, length), -1e5).triu(1))

    def forward(self, ids: Tensor) -> Tensor:
        return self.run(ids)[0]

    def run(self, ids: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The logits, and every layer's attention patterns `(batch, heads, length, length)`."""
        residual = self.embed[ids] if self.position is None else self.embed[ids] + self.position
        patterns: list[Tensor] = []
        for layer in range(self.layers):
            q, k, v = (self._cut(residual @ w[layer]) for w in (self.query, self.key, self.value))
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + self.get_buffer("mask")
            patterns.append(scores.softmax(-1))
            residual = residual + (patterns[-1] @ v).transpose(1, 2).flatten(2) @ self.out[layer]
            if self.hidden:
                residual = residual + (residual @ self.into[layer] + self.bias[layer]).relu() @ self.back[layer]
        return residual @ self.unembed, patterns

    def _cut(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def head_sizes(self) -> Tensor:
        """How much each head can write: the norm of its values' way into the residual stream. Shape: `(layers, heads)`."""
        sizes: list[Tensor] = []
        for value, out in zip(self.value, self.out, strict=True):
            v, o = value.unflatten(1, (self.heads, -1)), out.unflatten(0, (self.heads, -1))
            sizes.append((v.permute(1, 0, 2) @ o).flatten(1).norm(dim=1))
        return torch.stack(sizes)

    def mlp_sizes(self) -> Tensor:
        """How much each MLP can write: norms of what a neuron reads with and writes with, multiplied, its neurons' mean. Shape:
        `(layers,)`, none without MLPs."""
        sizes = [(into.norm(dim=0) * back.norm(dim=1)).mean() for into, back in zip(self.into, self.back, strict=True)]
        return torch.stack(sizes) if sizes else torch.zeros(0)


def written(model: Transformer, name: str) -> onnx.ModelProto:
    """The model as ONNX, at batch size one, its logits those of the last position."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    length, heads, size = model.length, model.heads, model.embed.shape[1] // model.heads

    def weight(called: str, value: Tensor) -> str:
        weights.append(numpy_helper.from_array(value.detach().cpu().numpy().copy(), called))
        return called

    def node(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    cut = weight("cut", torch.tensor([1, length, heads, size]))
    joined = weight("joined", torch.tensor([1, length, heads * size]))
    residual = node("MatMul", ["tokens", weight("embed.W_E", model.embed)], "hook_embed")
    if model.position is not None:
        residual = node("Add", [residual, weight("pos_embed.W_pos", model.position)], "blocks.0.hook_resid_pre")
    scale, mask = weight("scale", torch.tensor(1 / math.sqrt(size))), weight("mask", model.get_buffer("mask"))
    for layer in range(model.layers):
        block = f"blocks.{layer}"
        at = f"{block}.attn"
        read: dict[str, str] = {}
        for letter, matrix in (("q", model.query), ("k", model.key), ("v", model.value)):
            flat = node("MatMul", [residual, weight(f"{at}.W_{letter.upper()}", matrix[layer])], f"{at}.{letter}")
            split = node("Reshape", [flat, cut], f"{at}.hook_{letter}")
            read[letter] = node(
                "Transpose", [split], f"{at}.{letter}_heads", perm=[0, 2, 3, 1] if letter == "k" else [0, 2, 1, 3]
            )
        scores = node("Mul", [node("MatMul", [read["q"], read["k"]], f"{at}.scores"), scale], f"{at}.scaled")
        pattern = node("Softmax", [node("Add", [scores, mask], f"{at}.hook_attn_scores")], f"{at}.hook_pattern", axis=-1)
        z = node("Transpose", [node("MatMul", [pattern, read["v"]], f"{at}.z_heads")], f"{at}.hook_z", perm=[0, 2, 1, 3])
        flat = node("Reshape", [z, joined], f"{at}.z")
        out = node("MatMul", [flat, weight(f"{at}.W_O", model.out[layer])], f"{block}.hook_attn_out")
        residual = node("Add", [residual, out], f"{block}.hook_resid_{'mid' if model.hidden else 'post'}")
        if model.hidden:
            sums = node("MatMul", [residual, weight(f"{block}.mlp.W_in", model.into[layer])], f"{block}.mlp.in")
            pre = node("Add", [sums, weight(f"{block}.mlp.b_in", model.bias[layer])], f"{block}.mlp.hook_pre")
            post = node("Relu", [pre], f"{block}.mlp.hook_post")
            out = node("MatMul", [post, weight(f"{block}.mlp.W_out", model.back[layer])], f"{block}.hook_mlp_out")
            residual = node("Add", [residual, out], f"{block}.hook_resid_post")
    starts, ends, axes = (weight(n, torch.tensor([v])) for n, v in (("last", length - 1), ("end", length), ("axis", 1)))
    last = node("Slice", [residual, starts, ends, axes], "last_position")
    flat = node("Reshape", [last, weight("flat", torch.tensor([1, heads * size]))], "last_flat")
    node("MatMul", [flat, weight("unembed.W_U", model.unembed)], "logits")
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("tokens", TensorProto.FLOAT, [1, length, model.vocabulary])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, model.vocabulary])],
        initializer=weights,
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="circuit-certify"
    )
    onnx.checker.check_model(made, full_check=True)
    return made
