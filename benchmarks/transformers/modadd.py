"""Modular addition: which neurons are needed, by the frequency that they compute in, over all pairs of summands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.transformers.ask import Asked, Kept, model_at, spec_of, table
from bounds.ops.dense import Dense
from specs.model import Model
from verify.verdict import Certified

__all__ = ["frequencies", "section"]

_P = 23
_SITE = "t2"


def section(data: Path) -> str:
    """The section on the network with one hidden layer. Raises: InputError: the model is missing."""
    model = model_at(data / "models" / "modadd_mlp_p23_relu512.onnx")
    spec = spec_of(
        budget_s=120,
        input={"kind": "tokens", "positions": ["all", "all"], "sum": True},
        agreement={"metric": "top1", "tolerance": 0.0},
    )
    asked = Asked(model, {_SITE: "neuron"}, spec)
    of = frequencies(model)
    counts = torch.bincount(of, minlength=_P // 2 + 1)
    rows = [asked.row("everything kept", {})]
    for k in range(1, _P // 2 + 1):
        kept = (of != k).nonzero().squeeze(1).tolist()
        rows.append(asked.row(f"without the {int(counts[k])} neurons of frequency {k}", {_SITE: kept}))
    kept = _fewest(asked, of, {k: _margin(row) for k, row in enumerate(rows[1:], start=1)})
    rows.append(asked.row(f"frequencies {_listed(kept)} alone: {_count(of, kept)} of 512 neurons", _of(of, kept)))
    rows += [asked.row(f"of these without {k}", _of(of, kept - {k})) for k in sorted(kept)]
    return f"{_TEXT}\n\n{table(['circuit', 'verdict', 'figure', 'by', 's'], rows)}\n"


def _fewest(asked: Asked, of: Tensor, margins: Mapping[int, float]) -> set[int]:
    """Frequencies that are enough, none of which can be left out: those that are least missed are tried first."""
    kept = set(margins)
    for k in sorted(margins, key=lambda k: -margins[k]):
        if isinstance(asked.decide(_of(of, kept - {k})).verdict, Certified):
            kept -= {k}
    return kept if len(kept) == len(margins) else _again(asked, of, kept)


def _again(asked: Asked, of: Tensor, kept: set[int]) -> set[int]:
    """The same once more: what could not be left out of more may be left out of fewer, as zero patching is not monotone."""
    for k in sorted(kept):
        if isinstance(asked.decide(_of(of, kept - {k})).verdict, Certified):
            return _again(asked, of, kept - {k})
    return kept


def _margin(row: Sequence[str]) -> float:
    return float(row[2].removeprefix("margin ")) if row[1] == "certified" else -math.inf


def _of(of: Tensor, frequencies: set[int]) -> Kept:
    return {_SITE: [i for i, k in enumerate(of.tolist()) if k in frequencies]}


def _count(of: Tensor, frequencies: set[int]) -> int:
    return sum(k in frequencies for k in of.tolist())


def _listed(numbers: set[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def frequencies(model: Model) -> Tensor:
    """The frequency in which each hidden neuron reads its summands: where the spectrum of its weights over the residues is
    greatest, the constant left out. Shape: `(neurons,)`."""
    layer = next(node.op for node in model.graph.nodes if isinstance(node.op, Dense))
    spectrum = torch.fft.rfft(layer.weight, dim=1).abs()
    spectrum[:, 0] = 0
    return spectrum.argmax(1)


_TEXT = """`modadd_mlp_p23_relu512`: a + b mod 23 with one hidden layer of 512 neurons; the input is the sum of two one-hot
rows (`sum: true`), the domain all 529 pairs, on each of which the model is right. The claim is that the circuit's first output
is the model's on every pair, so that it is right on every pair too. Zero patching. A neuron's frequency is that in which its
weights over the residues are strongest. As every frequency can be left out alone, none is in every circuit; the last rows are
a set of frequencies that is enough and none of which can be left out of it."""
