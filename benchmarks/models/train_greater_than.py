"""Train the greater-than model: two layers of attention and MLPs, which end a span of years with a later one.

    .venv/bin/python -m benchmarks.models.train_greater_than [--out DIR] [--seed N]

Sentences of one kind, after Hanna et al. 2023 (arXiv:2305.00586): `war from 17 32 to 17` goes on with any of 33, 34, ..., 39,
each as likely as the other. A group lasso on what each head and MLP writes leaves parts that are not needed with little to say.
The unembedding is centred at the end, as TransformerLens does it: what is added to all logits alike changes no probability, and
is then no difference between a circuit and the model. Minutes on one core.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.models.training import options, train
from benchmarks.models.transformer import Transformer, written

__all__ = ["HEADS", "LAYERS", "LENGTH", "TOKENS", "YEARS", "later", "prompts"]

SEED, WIDTH, HEADS, LAYERS, HIDDEN = 2026, 32, 4, 2, 64
STEPS, BATCH, SPARSITY = 4000, 128, 4e-2

TOKENS = (
    *("war", "reign", "drought", "plague", "siege", "voyage", "truce", "strike", "trial", "famine", "feud", "tour"),
    *("from", "to"),
    *(f"{century}" for century in range(11, 19)),
    *(f"{year:02d}" for year in range(40)),
)
"""The vocabulary, in words."""
NOUNS, CENTURIES, YEARS = range(12), range(14, 22), range(22, 62)
_FROM, _TO = 12, 13
LENGTH = 6


def prompts() -> Tensor:
    """Every sentence up to where the second year is to come; the last year begins none. Shape: `(3744, 6)`."""
    every = itertools.product(NOUNS, CENTURIES, YEARS[:-1])
    return torch.tensor([[noun, _FROM, century, year, _TO, century] for noun, century, year in every])


def later(ids: Tensor) -> Tensor:
    """Which tokens are later years than a sentence's first. Shapes: `(batch, 6)` to `(batch, vocabulary)`, bool."""
    return torch.arange(len(TOKENS)) > ids[:, 3:4]


def main() -> None:
    given = options(__doc__, SEED)
    order, every = torch.Generator().manual_seed(given.seed), prompts()
    model = Transformer(len(TOKENS), LENGTH, WIDTH, HEADS, LAYERS, HIDDEN)

    def loss() -> Tensor:
        ids = every[torch.randint(0, len(every), (BATCH,), generator=order)]
        right = later(ids).float()
        return functional.cross_entropy(model(ids)[:, -1], right / right.sum(1, keepdim=True))

    def tell() -> str:
        mass = (model(every)[:, -1].softmax(1) * later(every)).sum(1)
        sizes = (model.head_sizes().round(decimals=2).tolist(), model.mlp_sizes().round(decimals=2).tolist())
        return f"probability of later years at least {float(mass.min()):.5f}, sizes {sizes}"

    train(model, STEPS, loss, tell, SPARSITY)
    with torch.no_grad():
        model.unembed.sub_(model.unembed.mean(1, keepdim=True))
    onnx.save(written(model, "greater_than"), given.out / "greater_than.onnx")
    np.savez_compressed(given.out / "greater_than.npz", ids=every.numpy())


if __name__ == "__main__":
    main()
