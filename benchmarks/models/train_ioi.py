"""Train the model of indirect objects: who was given it is the one of two who did not give.

    .venv/bin/python -m benchmarks.models.train_ioi [--out DIR] [--seed N]

Sentences of one kind, after Wang et al. 2022 (arXiv:2211.00593): `when Ann and Bob met_at_park Bob gave ball to` goes on with
Ann; the giver is the first of the two as often as the second. There is no embedding of positions, so that no head can know the
giver by where it stands: what came before is all that tells. A group lasso on what each head writes leaves heads that are not
needed with little to say. Minutes on one core.
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

__all__ = ["HEADS", "LAYERS", "LENGTH", "NAMES", "TOKENS", "prompts", "receiver"]

SEED, WIDTH, HEADS, LAYERS = 2026, 32, 4, 2
STEPS, BATCH, SPARSITY = 4000, 128, 2e-2

TOKENS = (
    *("Ann", "Bob", "Cal", "Dee", "Eve", "Fay", "Gus", "Hal"),
    *("met_at_park", "met_at_shop", "met_at_zoo"),
    *("gave", "sent"),
    *("ball", "book", "hat"),
    *("when", "and", "to"),
)
"""The vocabulary, in words."""
NAMES, PLACES, VERBS, THINGS = range(8), range(8, 11), range(11, 13), range(13, 16)
_WHEN, _AND, _TO = 16, 17, 18
LENGTH = 9


def prompts() -> Tensor:
    """Every sentence up to where the receiver is to be named. Shape: `(2016, 9)`."""
    pairs = [(a, b, giver) for a, b in itertools.permutations(NAMES, 2) for giver in (a, b)]
    every = itertools.product(pairs, PLACES, VERBS, THINGS)
    return torch.tensor([[_WHEN, a, _AND, b, at, giver, verb, what, _TO] for (a, b, giver), at, verb, what in every])


def receiver(ids: Tensor) -> Tensor:
    """The name that stands once. Shapes: `(batch, 9)` to `(batch,)`."""
    return torch.where(ids[:, 1] == ids[:, 5], ids[:, 3], ids[:, 1])


def main() -> None:
    given = options(__doc__, SEED)
    order, every = torch.Generator().manual_seed(given.seed), prompts()
    model = Transformer(len(TOKENS), LENGTH, WIDTH, HEADS, LAYERS, placed=False)

    def loss() -> Tensor:
        ids = every[torch.randint(0, len(every), (BATCH,), generator=order)]
        return functional.cross_entropy(model(ids)[:, -1], receiver(ids))

    def tell() -> str:
        right = (model(every)[:, -1].argmax(1) == receiver(every)).float().mean()
        return f"accuracy {float(right):.5f}, sizes {model.head_sizes().round(decimals=2).tolist()}"

    train(model, STEPS, loss, tell, SPARSITY)
    onnx.save(written(model, "ioi"), given.out / "ioi.onnx")
    np.savez_compressed(given.out / "ioi.npz", ids=every.numpy())


if __name__ == "__main__":
    main()
