"""Train the Max-of-4 model: one layer, one head, attention only; of four tokens it names the largest.

    .venv/bin/python -m benchmarks.models.train_max_of_four [--out DIR]

A vocabulary of 64, a residual stream of 32, as in Gross et al. 2024 (compact proofs, arXiv:2406.11779).
Some minutes on one core.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import onnx
import torch
from torch.nn import functional

from benchmarks.models.attention_only import AttentionOnly, written

SEED, VOCABULARY, LENGTH, WIDTH = 2026, 64, 4, 32
STEPS, BATCH = 12000, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    out: Path = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    model, order = AttentionOnly(VOCABULARY, LENGTH, WIDTH, 1, 1), torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    began = time.monotonic()
    for step in range(STEPS):
        ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH), generator=order)
        near = torch.randint(-2, 3, ids.shape, generator=order)  # half the rows hold close seconds, which are the hard ones
        ids[BATCH // 2 :] = (ids[BATCH // 2 :].amax(1, keepdim=True) + near[BATCH // 2 :]).clamp(0, VOCABULARY - 1)
        loss = functional.cross_entropy(model(ids)[:, -1], ids.amax(1))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 1000 == 999:
            with torch.no_grad():
                tested = torch.randint(0, VOCABULARY, (1 << 16, LENGTH), generator=order)
                right = (model(tested)[:, -1].argmax(1) == tested.amax(1)).float().mean()
            print(
                f"step {step + 1}: loss {float(loss.detach()):.2e}, accuracy {float(right):.5f}, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    onnx.save(written(model, "max_of_four"), out / "max_of_four.onnx")


if __name__ == "__main__":
    main()
