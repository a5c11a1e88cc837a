"""Modular addition: which neurons are needed, by the frequency that they compute in, over all pairs of summands."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.transformers.ask import Asked, found, kept_of, model_at, spec_of, table
from bounds.ops.dense import Dense
from specs.model import Model

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
    best, took_s = found(model, asked.scope, spec, "local", 240)
    shown, kept = best.report.minimality, kept_of(best, asked)[_SITE]
    assert shown is not None
    how = f"{shown.level} minimality {shown.status}" + (f", {len(shown.unresolved)} open" if shown.unresolved else "")
    rows.append([f"found: {len(kept)} of 512 neurons", best.report.verdict, how, "discover", f"{took_s:.0f}"])
    left = torch.bincount(of[kept], minlength=_P // 2 + 1)
    by_frequency = [[str(k), str(int(counts[k])), str(int(left[k]))] for k in range(1, _P // 2 + 1)]
    return (
        f"{_TEXT}\n\n{table(['circuit', 'verdict', 'figure', 'by', 's'], rows)}\n\n"
        f"{table(['frequency', 'neurons', 'in the circuit that was found'], by_frequency)}\n"
    )


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
weights over the residues are strongest."""
