"""Attention of a checkpoint's layer as ONNX, its tensors under TransformerLens's hook names."""

from __future__ import annotations

import torch
from torch import Tensor

from specs.transformers.checkpoint import Checkpoint, Rotary
from specs.transformers.nodes import Nodes

__all__ = ["attention"]


def attention(w: Nodes, checkpoint: Checkpoint, layer: int, x: str, positions: int, result: str) -> str:
    """Multi-head attention of what a layer reads. `hook_q`, `hook_z` are `(1, positions, heads, head_width)`, `hook_k` and
    `hook_v` `(1, positions, groups, head_width)`; `hook_rot_q` and `hook_rot_k` turned by their positions."""
    return _Attention(w, checkpoint, layer, positions).written(x, result)


class _Attention:
    def __init__(self, w: Nodes, checkpoint: Checkpoint, layer: int, positions: int) -> None:
        self.w, self.checkpoint, self.config = w, checkpoint, checkpoint.config
        self.layer, self.positions, self.stem = layer, positions, f"blocks.{layer}.attn"

    def written(self, x: str, result: str) -> str:
        w, stem, config = self.w, self.stem, self.config
        seen = x
        if config.positions == "shortformer":
            offset = w.constant(self.checkpoint["pos_embed.W_pos"][: self.positions], "hook_pos_embed")
            seen = w.node("Add", [x, offset], f"{stem}.hook_attn_input")
        queries = w.node("Transpose", [self.turned(self.part(seen, "Q"), "Q")], f"{stem}.Q.heads", perm=[0, 2, 1, 3])
        keys = self.shared(self.turned(self.part(seen, "K"), "K"), "K")
        keys = w.node("Transpose", [keys], f"{stem}.K.heads", perm=[0, 2, 3, 1])
        values = w.node("Transpose", [self.shared(self.part(x, "V"), "V")], f"{stem}.V.heads", perm=[0, 2, 1, 3])
        pattern = w.node("Softmax", [self.scores(queries, keys)], f"{stem}.hook_pattern", axis=-1)
        mixed = w.node("MatMul", [pattern, values], f"{stem}.mixed")
        z = w.node("Transpose", [mixed], f"{stem}.hook_z", perm=[0, 2, 1, 3])
        if config.results:
            return self.results(z, result)
        size = config.heads * config.head_width
        rows = w.reshape(z, [1, self.positions, size], f"{stem}.z.flat")
        weight = self.checkpoint[f"{stem}.W_O"].reshape(size, config.width)
        return w.linear(rows, weight, self.checkpoint[f"{stem}.b_O"], result, f"{stem}.O")

    def part(self, x: str, part: str) -> str:
        """Queries, keys or values, with their normalisation."""
        w, stem, config = self.w, self.stem, self.config
        count, k = config.heads if part == "Q" else config.groups, config.head_width
        own = "_" if count != config.heads else ""
        weight = self.checkpoint[f"{stem}.{own}W_{part}"].permute(1, 0, 2).reshape(config.width, count * k)
        bias = self.checkpoint[f"{stem}.{own}b_{part}"].flatten()
        flat = w.linear(x, weight, bias, f"{stem}.{part}.flat", f"{stem}.{part}")
        split = w.reshape(flat, [1, self.positions, count, k], f"{stem}.hook_{part.lower()}")
        if part == "V" or not config.head_norms:
            return split
        name = f"{stem}.{part.lower()}_norm"
        return w.norm(split, "RMS", name, self.checkpoint[f"{name}.w"], None, k)

    def turned(self, x: str, part: str) -> str:
        """Each pair of numbers turned by the angle of its position, where positions are rotary."""
        rotary, n, k = self.config.positions, self.positions, self.config.head_width
        if not isinstance(rotary, Rotary):
            return x
        w, stem, width = self.w, self.stem, rotary.width
        other = torch.arange(k)
        other[:width] = other[:width] ^ 1 if rotary.neighbours else other[:width].roll(width // 2)
        sin, cos = torch.zeros(n, 1, k), torch.ones(n, 1, k)
        sin[:, 0, :width] = self.checkpoint[f"{stem}.rotary_sin"][:n].float()
        sin = torch.where(other > torch.arange(k), -sin, sin)  # the first of a pair less the second
        cos[:, 0, :width] = self.checkpoint[f"{stem}.rotary_cos"][:n].float()
        low = part.lower()
        along = w.node("Mul", [x, w.constant(cos, f"{stem}.cos")], f"{stem}.{low}.along")
        pair = w.gather(x, other, 3, f"{stem}.{low}.other")
        across = w.node("Mul", [pair, w.constant(sin, f"{stem}.sin")], f"{stem}.{low}.across")
        return w.node("Add", [along, across], f"{stem}.hook_rot_{low}")

    def shared(self, x: str, part: str) -> str:
        """Keys or values once for each head of queries."""
        heads, groups = self.config.heads, self.config.groups
        if heads == groups:
            return x
        return self.w.gather(x, torch.arange(groups).repeat_interleave(heads // groups), 2, f"{self.stem}.{part}.shared")

    def scores(self, queries: str, keys: str) -> str:
        w, stem, config = self.w, self.stem, self.config
        product = w.node("MatMul", [queries, keys], f"{stem}.scores.product")
        scale = w.constant(torch.tensor(config.scales[self.layer]), f"{stem}.scale")
        scaled = w.capped(w.node("Div", [product, scale], f"{stem}.scores"), config.score_cap, f"{stem}.scores.capped")
        mask, name = self.mask()
        return scaled if mask is None else w.node("Add", [scaled, w.constant(mask, name)], f"{stem}.hook_attn_scores")

    def mask(self) -> tuple[Tensor | None, str]:
        """What is added to scores, or nothing; and its name."""
        config, n = self.config, self.positions
        window = config.windows[self.layer]
        back = torch.arange(n).unsqueeze(1) - torch.arange(n)
        hidden = back < 0 if config.causal else torch.zeros(n, n, dtype=torch.bool)
        if window is not None:
            hidden = hidden | (back >= window)
        added = torch.zeros(n, n)
        if config.positions == "alibi":
            slopes = torch.tensor([2.0 ** (-8 * (i + 1) / config.heads) for i in range(config.heads)])
            added = -slopes.reshape(-1, 1, 1) * back.clamp(min=0)
        elif not bool(hidden.any()):
            return None, ""
        return added.masked_fill(hidden, -torch.inf), "causal" if window is None else f"causal.{window}"

    def results(self, z: str, result: str) -> str:
        """What each head adds to the stream, `hook_result` `(1, positions, heads, width)`, and their sum."""
        w, stem, config, n = self.w, self.stem, self.config, self.positions
        apart = w.reshape(z, [1, n, config.heads, 1, config.head_width], f"{stem}.z.apart")
        each = w.node("MatMul", [apart, w.constant(self.checkpoint[f"{stem}.W_O"], f"{stem}.O.weight")], f"{stem}.O.each")
        found = w.reshape(each, [1, n, config.heads, config.width], f"{stem}.hook_result")
        axes = w.constant(torch.tensor([2]), f"{stem}.O.axes")
        total = w.node("ReduceSum", [found, axes], f"{stem}.O.sum", keepdims=0)
        return w.node("Add", [total, w.constant(self.checkpoint[f"{stem}.b_O"], f"{stem}.O.bias")], result)
