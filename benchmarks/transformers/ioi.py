"""Indirect objects: what moves the name of who received it, over every sentence."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models.train_ioi import HEADS, LAYERS, NAMES, prompts, receiver
from benchmarks.transformers.ask import model_at, table
from benchmarks.transformers.parts import Sentences, sections

__all__ = ["claim", "right", "section"]

_MODEL = Path(__file__).parent.parent / "models" / "ioi.onnx"


def claim() -> Sentences:
    """The model, its sentences, and that the circuit's first output is the model's."""
    return Sentences(model_at(_MODEL), LAYERS, prompts(), {"metric": "top1"})


def right(asked: Sentences) -> int:
    """On how many sentences the model's first output is the receiver."""
    logits = asked.model.graph(asked.inputs).reshape(len(asked.ids), -1)
    return int((logits.argmax(1) == receiver(asked.ids)).sum())


def section(_data: Path) -> str:
    """The section on indirect objects."""
    asked = claim()
    seen = _attention(asked)
    rows = [
        [f"{layer}.{head}", *(f"{float(seen[name][layer, head]):.2f}" for name in seen)]
        for layer in range(LAYERS)
        for head in range(HEADS)
    ]
    text = _TEXT.format(count=f"{len(asked.ids):,}", right=f"{right(asked):,}", names=len(NAMES))
    return f"{text}\n\n{sections(asked)}\n{_SEEN}\n\n{table(['head', *seen], rows)}\n\n{_PICTURE}\n"


def _attention(asked: Sentences) -> dict[str, Tensor]:
    """Each head's attention from the last position, meaned over all sentences. Shapes: `(layers, heads)`."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(LAYERS)]
    found = asked.model.graph.evaluate(asked.inputs, keep=frozenset(names))
    last = torch.stack([found[name][:, 0, :, -1] for name in names])
    second = asked.ids[:, 3] == receiver(asked.ids)
    at = {"the receiver": torch.where(second, 3, 1), "the giver, first": torch.where(second, 1, 3)}
    at["the giver, again"] = torch.full_like(at["the receiver"], 5)
    rows = torch.arange(len(asked.ids))
    return {name: last[:, rows, :, place].mean(0) for name, place in at.items()}


_TEXT = """Two layers of four heads, attention only, no embedding of positions, trained by `benchmarks/models/train_ioi.py` on
sentences as in Wang et al. 2022: `when Ann and Bob met_at_park Bob gave ball to` goes on with Ann. All {count} sentences
({names} names, three places, two verbs, three things; the giver named first or second), on {right} of which the model's first
output is the receiver. The claim: on every one of them the circuit's first output is the model's. Patched are heads, then edges
(by zero)."""

_SEEN = """Seen, not proven: each head's attention from the last position, its mean over all sentences. Head 0.3 takes in
all three names alike, and so the giver's twice; by the edges that are needed, what it makes of that is read as queries and keys
of 1.1 and 1.2, which look at the receiver and away from the giver: together what Wang et al. call S-inhibition and name movers.
That 1.3 can stand in for 1.2 is what they call a backup."""

_PICTURE = """![The edges that were found](../images/ioi.svg)"""
