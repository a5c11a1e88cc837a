"""Train the Max-of-4 model: one layer, one head, attention only; of four tokens it names the largest.

    .venv/bin/python -m benchmarks.models.train_max_of_four [--out DIR] [--seed N]

A vocabulary of 64, a residual stream of 32, as in Gross et al. 2024 (compact proofs, arXiv:2406.11779).
Some minutes on one core.
"""

from __future__ import annotations

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.models.training import options, train
from benchmarks.models.transformer import Transformer, written

SEED, VOCABULARY, LENGTH, WIDTH = 2026, 64, 4, 32
STEPS, BATCH = 12000, 1024


def main() -> None:
    given = options(__doc__, SEED)
    model, order = Transformer(VOCABULARY, LENGTH, WIDTH, 1, 1), torch.Generator().manual_seed(given.seed)

    def loss() -> Tensor:
        ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=order)
        near = torch.randint(-2, 3, ids.shape, generator=order)  # half the rows hold close seconds, which are the hard ones
        ids[BATCH // 2 :] = (ids[BATCH // 2 :].amax(1, keepdim=True) + near[BATCH // 2 :]).clamp(0, VOCABULARY - 1)
        return functional.cross_entropy(model(ids)[:, -1], ids.amax(1))

    def tell() -> str:
        tested = torch.randint(0, VOCABULARY, (1 << 16, LENGTH), generator=order)
        return f"accuracy {float((model(tested)[:, -1].argmax(1) == tested.amax(1)).float().mean()):.5f}"

    train(model, STEPS, loss, tell)
    onnx.save(written(model, "max_of_four"), given.out / "max_of_four.onnx")


if __name__ == "__main__":
    main()
