"""Greater-than: what makes a span of years end later than it began, over every sentence."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.models.train_greater_than import HEADS, LAYERS, YEARS, later, prompts
from benchmarks.transformers.ask import model_at, table
from benchmarks.transformers.parts import Sentences, sections

__all__ = ["TOLERANCE", "claim", "least_probability", "section"]

_MODEL = Path(__file__).parent.parent / "models" / "greater_than.onnx"

TOLERANCE = 0.5
"""What a year's logit may change by."""


def claim() -> Sentences:
    """The model, its sentences, and that no year's logit changes by more than the tolerance."""
    agreement = {"metric": "output", "outputs": list(YEARS), "tolerance": TOLERANCE}
    return Sentences(model_at(_MODEL), LAYERS, prompts(), agreement)


def least_probability(asked: Sentences) -> float:
    """Of the years alone, the probability that the model gives to those after the first, on the sentence where it is least."""
    logits = asked.model.graph(asked.inputs).reshape(len(asked.ids), -1)
    of_years = logits[:, list(YEARS)].softmax(1)
    return float((of_years * later(asked.ids)[:, list(YEARS)]).sum(1).min())


def section(_data: Path) -> str:
    """The section on greater-than."""
    asked = claim()
    least = least_probability(asked)
    odds = least / (1 - least) * math.exp(-2 * TOLERANCE)
    mean, lowest = _attention(asked)
    rows = [
        [f"{layer}.{head}", f"{float(mean[layer, head]):.2f}", f"{float(lowest[layer, head]):.2f}"]
        for layer in range(LAYERS)
        for head in range(HEADS)
    ]
    text = _TEXT.format(count=f"{len(asked.ids):,}", least=_floor(least), tolerance=TOLERANCE, kept=_floor(odds / (1 + odds)))
    seen = table(["head", "attention to the year", "at the least"], rows)
    return f"{text}\n\n{sections(asked)}\n{_SEEN}\n\n{seen}\n\n{_PICTURE}\n"


def _floor(share: float) -> str:
    """Three digits, rounded down: "at least" must stay so."""
    return f"{math.floor(share * 1000) / 1000:.3f}"


def _attention(asked: Sentences) -> tuple[Tensor, Tensor]:
    """Each head's attention from the last position to the year: mean and least of all sentences. Shapes: `(layers, heads)`."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(LAYERS)]
    found = asked.model.graph.evaluate(asked.inputs, keep=frozenset(names))
    to_year = torch.stack([found[name][:, 0, :, -1, 3] for name in names])
    return to_year.mean(1), to_year.amin(1)


_TEXT = """Two layers of four heads and an MLP of 64 neurons, trained by `benchmarks/models/train_greater_than.py` on
sentences as in Hanna et al. 2023: `war from 17 32 to 17` goes on with any of 33, ..., 39. All {count} sentences (12 nouns,
8 centuries, 39 years); on each of them the model gives the later years at least {least} of what it gives to all years. The
claim: on every one of them no year's logit differs by more than {tolerance}. Then the odds of years that are not later grow by
e to twice that at the most, so on every sentence the circuit gives the later ones at least {kept} of what it gives to all
years. Patched are heads and MLPs, then edges (by zero)."""

_SEEN = """Seen, not proven: each head's attention from the last position to the year. By the edges that are needed, heads of
layer 1 carry the year, and what MLP 0 makes of it where it stands, to the last position, where MLP 1 and the logits read it: as
Hanna et al. have it, heads bring the year and MLPs compare. They do not at a few years about 32, at which no head of layer 1
looks: that nothing came then tells as much. The other heads write next to nothing: the penalty in training left them so."""

_PICTURE = """![The edges that were found](../images/greater_than.svg)"""
