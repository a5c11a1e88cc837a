"""Induction: a previous-token head and an induction head are what completes `A B ... A` with `B`."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from benchmarks.models.train_induction import HEADS, LAYERS, LENGTH, VOCABULARY
from benchmarks.transformers.ask import Asked, Kept, found, kept_of, model_at, spec_of, table
from specs.model import Model
from specs.spec import Spec

__all__ = ["section", "sequences"]

_MODEL = Path(__file__).parent.parent / "models" / "induction.onnx"


_FEW = 5
"""Tokens of the smaller vocabulary, over which single heads are ablated and circuits searched for."""


def sequences(vocabulary: int = VOCABULARY) -> torch.Tensor:
    """Every sequence of the first tokens whose last has stood exactly once before, not directly before. Shape: `(count,
    length)`."""
    ids = torch.tensor(list(itertools.product(range(vocabulary), repeat=LENGTH)))
    same = ids[:, :-1] == ids[:, -1:]
    return ids[(same.sum(1) == 1) & ~same[:, -1]]


def section(_data: Path) -> str:
    """The section on induction."""
    model, ids = model_at(_MODEL), sequences()
    sites = [f"blocks.{layer}.attn.hook_z" for layer in range(LAYERS)]
    scores = _scores(model, ids)
    first, second = int(scores[0][0].argmax()), int(scores[1][1].argmax())
    circuit: Kept = {sites[0]: [first], sites[1]: [second]}
    asked = [Asked(model, dict.fromkeys(sites, "head"), _spec(every)) for every in (ids, sequences(_FEW))]
    counts = [f"{n} tokens, {len(every):,}" for n, every in ((VOCABULARY, ids), (_FEW, sequences(_FEW)))]
    both = f"previous-token head 0.{first} and induction head 1.{second}; the other six ablated"
    rows = [
        [counts[0], *asked[0].row(both, circuit)],
        [counts[0], *asked[0].row(f"less 0.{first}", {**circuit, sites[0]: "none"})],
        [counts[0], *asked[0].row(f"less 1.{second}", {**circuit, sites[1]: "none"})],
    ]
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        others = [h for h in range(HEADS) if h != head]
        rows.append([counts[1], *asked[1].row(f"all but {layer}.{head}", {sites[layer]: others})])
    best, took_s = found(model, asked[1].scope, asked[1].spec, "cardinal", 600)
    shown = best.report.minimality
    assert shown is not None
    kept = ", ".join(f"{s.split('.')[1]}.{h}" for s, index in kept_of(best, asked[1]).items() for h in index)
    how = f"{shown.level} minimality {shown.status}"
    rows.append([counts[1], f"found: {kept}", best.report.verdict, how, "discover", f"{took_s:.1f}"])
    of_heads = [
        [f"{layer}.{head}", *(f"{float(score[layer, head]):.3f}" for score in scores)]
        for layer, head in itertools.product(range(LAYERS), range(HEADS))
    ]
    said = table(["sequences of", "circuit", "verdict", "figure", "by", "s"], rows)
    return (
        f"{_TEXT.format(count=f'{len(ids):,}', right=_right(model, ids))}\n\n{said}\n\n"
        f"{table(['head', 'attention to the token before', 'attention to what followed'], of_heads)}\n"
    )


def _spec(ids: torch.Tensor) -> Spec:
    return spec_of(
        budget_s=900, input={"kind": "tokens", "sequences": ids.tolist()}, agreement={"metric": "top1", "tolerance": 0.0}
    )


def _scores(model: Model, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each head, over all the sequences: attention to the token before, and from the last position to the token after its
    first occurrence. Shapes: `(layers, heads)`."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(LAYERS)]
    x = torch.nn.functional.one_hot(ids, VOCABULARY).double().unsqueeze(1)
    found = model.graph.evaluate(x, keep=frozenset(names))
    patterns = torch.stack([found[name][:, 0] for name in names])
    before = patterns.diagonal(-1, 3, 4).mean((1, 3))
    at = (ids[:, :-1] == ids[:, -1:]).float().argmax(1) + 1
    after = patterns[:, :, :, -1].gather(3, at[None, :, None, None].expand(*patterns.shape[:3], 1)).squeeze(3).mean(1)
    return before, after


def _right(model: Model, ids: torch.Tensor) -> int:
    """On how many sequences the model's first output is what followed, in its own runtime's precision."""
    at = (ids[:, :-1] == ids[:, -1:]).float().argmax(1) + 1
    x = torch.nn.functional.one_hot(ids, VOCABULARY).double().unsqueeze(1)
    first = model.graph(x).reshape(len(ids), -1).argmax(1)
    return int(np.count_nonzero((first == ids[torch.arange(len(ids)), at]).numpy()))


_TEXT = """Two layers of four heads, attention only, trained by `benchmarks/models/train_induction.py`: eight tokens, six
positions. The claim: on every sequence whose last token has stood exactly once before, and not directly before ({count}
sequences, on {right:,} of which the model's first output is the token that followed), the circuit's first output is the
model's. Zero patching of heads."""
