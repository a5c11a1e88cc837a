"""A small transformer of two layers, and path patching on it written out by hand: what edges are checked against.

Nothing here knows of graphs, sites or gates: every consumer is computed from a sum over producers that is written down here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Blocks", "Patch", "patched"]

POSITIONS, WIDTH, HEADS, INNER = 3, 4, 2, 5


class Block(nn.Module):
    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(WIDTH) if norm else nn.Identity()
        self.ln2 = nn.LayerNorm(WIDTH) if norm else nn.Identity()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, INNER), nn.Linear(INNER, WIDTH)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Heads' outputs before the projection. Shapes: `(1, positions, width)` all."""
        q, k, v = (x.reshape(1, POSITIONS, HEADS, -1).transpose(1, 2) for x in (q, k, v))
        pattern = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS), -1)
        return (pattern @ v).transpose(1, 2).reshape(1, POSITIONS, WIDTH)

    def mlp(self, x: Tensor) -> Tensor:
        return self.down(self.up(self.ln2(x)).relu())

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln1(x)
        x = x + self.o(self.attention(self.q(y), self.k(y), self.v(y)))
        return x + self.mlp(x)


class Blocks(nn.Module):
    """Embedding, two blocks, and an output read from the stream."""

    def __init__(self, norm: bool, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.out = nn.Linear(2, WIDTH), nn.Linear(WIDTH, 3)
        self.first, self.second = Block(norm), Block(norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(self.first(self.embed(x))))


@dataclass(frozen=True, slots=True)
class Patch:
    """For each consumer, `(heads, producers)` bool, True for kept, and values `(heads, producers, 1, positions, width)`."""

    kept: Mapping[str, Tensor]
    value: Mapping[str, Tensor]


def patched(model: Blocks, x: Tensor, patch: Patch) -> tuple[Tensor, dict[str, Tensor]]:
    """The output where each consumer reads the patched value of each edge that is not kept; and what each producer's value was,
    stacked for each consumer. Consumers: `q1 k1 v1 up1 q2 k2 v2 up2 out`; those not in `patch` read everything."""
    produced: list[Tensor] = [model.embed(x)]
    constant = torch.zeros(WIDTH, dtype=x.dtype)
    stacks: dict[str, Tensor] = {}

    def read(consumer: str, head: int = 0) -> Tensor:
        own = torch.stack(produced)
        stacks[consumer] = own
        if consumer in patch.kept:
            kept = patch.kept[consumer][head].reshape(-1, 1, 1, 1)
            own = torch.where(kept, own, patch.value[consumer][head])
        return own.sum(0) + constant

    for i, block in ((1, model.first), (2, model.second)):
        size, parts = WIDTH // HEADS, dict[str, Tensor]()
        for name, project in (("q", block.q), ("k", block.k), ("v", block.v)):
            each = [project(block.ln1(read(f"{name}{i}", h)))[..., h * size : (h + 1) * size] for h in range(HEADS)]
            parts[name] = torch.cat(each, -1)
        z = block.attention(parts["q"], parts["k"], parts["v"])
        for h in range(HEADS):
            own = slice(h * size, (h + 1) * size)
            produced.append(z[..., own] @ block.o.weight[:, own].T)
        constant = constant + block.o.bias
        produced.append(block.down(block.up(block.ln2(read(f"up{i}"))).relu()))
    return model.out(read("out")), stacks
