"""Training small transformers: what is the same whatever they are trained on."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models.transformer import Transformer

__all__ = ["Options", "options", "train"]

_TOLD = 1000
"""Steps between two lines that say how far it is."""


class Options(argparse.Namespace):
    """The folder to write to, and the seed."""

    out: Path
    seed: int


def options(said: str | None, seed: int) -> Options:
    """What the command line says. Torch is seeded and kept to one thread: the order of a sum depends on their number."""
    parser = argparse.ArgumentParser(description=(said or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    parser.add_argument("--seed", type=int, default=seed)
    given = parser.parse_args(namespace=Options())
    torch.set_num_threads(1)
    torch.manual_seed(given.seed)
    return given


def train(model: Transformer, steps: int, loss: Callable[[], Tensor], tell: Callable[[], str], sparsity: float = 0.0) -> None:
    """AdamW on `loss`, which draws its own batches, in place; `tell` is printed every thousand steps.

    `sparsity` weighs a group lasso on what each head and each MLP writes into the residual stream, from nothing in the first
    fifth of the steps to all of it in the last third: parts that are not needed are left with little to say.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    began = time.monotonic()
    for step in range(steps):
        found = loss()
        if sparsity:
            sizes = model.head_sizes().sum() + model.mlp_sizes().sum()
            found = found + sparsity * sizes * min(1.0, max(0.0, 2 * step / steps - 0.4))
        optimiser.zero_grad()
        found.backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % _TOLD == 0:
            with torch.no_grad():
                said = tell()
            print(f"step {step + 1}: loss {float(found.detach()):.2e}, {time.monotonic() - began:.0f} s, {said}", flush=True)
