"""Train the induction model: two layers of attention only, which go on with what followed a token when it was last seen.

    .venv/bin/python -m benchmarks.models.train_induction [--out DIR] [--seed N]

In sequences of random tokens every position whose token has stood exactly once before is to name the token that came after
it: `A B ... A -> B`. A group lasso on what each head writes leaves heads that are not needed with little to say. Minutes on
one core.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.models.training import options, train
from benchmarks.models.transformer import Transformer, written

SEED, VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 2026, 8, 6, 32, 4, 2
STEPS, BATCH, SPARSITY = 15000, 512, 2e-3


def questions(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Where a token has stood exactly once, not directly before; and what followed it. Shapes: both `(batch, length)`."""
    same = (ids.unsqueeze(2) == ids.unsqueeze(1)).tril(-1)
    where = same.float().argmax(2)
    asked = (same.sum(2) == 1) & (where + 1 < torch.arange(ids.shape[1]))
    return asked, ids.gather(1, (where + 1).clamp_max(ids.shape[1] - 1))


def scores(model: Transformer, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Of each head, the attention to the token before (over all positions but the first) and, at the positions asked about, to
    the one after the earlier occurrence. Shapes: both `(layers, heads)`."""
    patterns = torch.stack(model.run(ids)[1])
    before = patterns.diagonal(-1, 3, 4).mean((1, 3))
    asked, _ = questions(ids)
    where = (ids.unsqueeze(2) == ids.unsqueeze(1)).tril(-1).float().argmax(2)
    after = patterns.gather(4, (where + 1).clamp_max(ids.shape[1] - 1)[None, :, None, :, None].expand(*patterns.shape[:4], 1))
    weight = asked.float()[None, :, None]
    return before, (after.squeeze(4) * weight).sum((1, 3)) / weight.sum((1, 3))


def main() -> None:
    given = options(__doc__, SEED)
    order = torch.Generator().manual_seed(given.seed)
    model = Transformer(VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS)

    def loss() -> Tensor:
        ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=order)
        asked, target = questions(ids)
        return functional.cross_entropy(model(ids)[asked], target[asked])

    def tell() -> str:
        ids = torch.randint(0, VOCABULARY, (1 << 13, LENGTH), generator=order)
        asked, target = questions(ids)
        right = (model(ids)[asked].argmax(1) == target[asked]).float().mean()
        before, after = scores(model, ids)
        return (
            f"accuracy {float(right):.5f}\n  previous-token scores {before.round(decimals=2).tolist()}\n"
            f"  induction scores      {after.round(decimals=2).tolist()}\n"
            f"  sizes                 {model.head_sizes().round(decimals=2).tolist()}"
        )

    train(model, STEPS, loss, tell, SPARSITY)
    onnx.save(written(model, "induction"), given.out / "induction.onnx")


if __name__ == "__main__":
    main()
