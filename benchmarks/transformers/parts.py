"""Heads, MLPs and edges of a model that was trained on sentences of one kind: which are enough, over all of them, and which are
needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from benchmarks.transformers.ask import Asked, Kept, found, kept_of, spec_of, table
from specs.circuit import Circuit, ModelFile
from specs.foreign.roles import edges_by_role
from specs.model import Model
from specs.spec import Spec
from verify.found import Found
from verify.start import everything
from verify.verdict import Falsified

__all__ = ["Sentences", "sections"]

_FOUND_S = 3600

_Part: TypeAlias = tuple[str, int]
"""A head or an MLP: its site, and which of it."""


@dataclass(frozen=True)
class Sentences:
    """A model of `layers`, all its sentences as token numbers `(count, positions)`, and what is claimed of circuits on each."""

    model: Model
    layers: int
    ids: Tensor
    agreement: Mapping[str, Any]

    @cached_property
    def scope(self) -> dict[str, str]:
        """Heads, and MLPs where there are any."""
        sites = {f"blocks.{layer}.attn.hook_z": "head" for layer in range(self.layers)}
        mlps = {f"blocks.{layer}.hook_mlp_out": "layer" for layer in range(self.layers)}
        return sites | {site: kind for site, kind in mlps.items() if site in self.model.graph.node}

    @cached_property
    def inputs(self) -> Tensor:
        """One-hot rows. Shape: `(count, 1, positions, vocabulary)`."""
        return torch.nn.functional.one_hot(self.ids, self.model.graph.input_shape[-1]).double().unsqueeze(1)

    def spec(self, patching: str = "zero") -> Spec:
        """The claim over all sentences; `mean` patches by the mean over them."""
        entries: dict[str, Any] = {"kind": patching}
        if patching == "mean":
            seen = self.model.graph.evaluate(self.inputs, keep=frozenset(self.scope))
            entries["mean"] = {site: seen[site].mean(0).tolist() for site in self.scope}
        tokens = {"kind": "tokens", "sequences": self.ids.tolist()}
        return spec_of(budget_s=_FOUND_S, input=tokens, agreement=dict(self.agreement), patching=entries)

    def between(self, parts: Sequence[_Part]) -> dict[str, list[int]]:
        """All edges from the input or one of these parts to one of these or the logits, by consumer."""
        names = {"input", "logits", *(_role(site, index) for site, index in parts)}
        kept: dict[str, list[int]] = {read.consumer: [] for read in self.model.edges()}
        for name, spot in edges_by_role(self.model).items():
            start, _, end = name.partition("->")
            if start in names and end.partition("<")[0] in names:
                kept[spot.site] += spot.indices
        return kept


def sections(sentences: Sentences) -> str:
    """Two tables, and in words which edges were found."""
    rows, parts = _parts(sentences, "zero")
    rows += _parts(sentences, "mean", parts)[0]
    edges, named = _edges(sentences, parts)
    heads = ["patched by", "circuit", "verdict", "figure", "by", "s"]
    return (
        f"{table(heads, rows)}\n\n{table(heads[1:], edges)}\n\nThe edges found: {', '.join(f'`{name}`' for name in named)}.\n"
    )


def _parts(sentences: Sentences, kind: str, start: Sequence[_Part] | None = None) -> tuple[list[list[str]], list[_Part]]:
    """What is found among heads and MLPs, from everything or from `start`, and that none of it can go; from everything, all
    minimal circuits too."""
    model, scope, spec = sentences.model, sentences.scope, sentences.spec(kind)
    asked = Asked(model, scope, spec)
    given = None if start is None else _started(model, scope, {s: [i for t, i in start if t == s] for s in scope})
    options = {"start": given, "enumerate_all": start is None, "question_s": _FOUND_S}
    best, took_s = found(model, scope, spec, "cardinal", _FOUND_S, **options)
    kept: Kept = kept_of(best, asked)
    parts = asked.components(kept)
    size = f"found: {len(parts)} of {len(asked.problem.components)} ({_listed(parts)})"
    rows = [[kind, *_row(size, best, took_s)]]
    if best.report.enumeration is not None:
        every = [[(site, i) for site, index in c.items() for i in index] for c in best.report.enumeration.circuits]
        complete = "there is no other" if best.report.enumeration.complete else "there may be others"
        rows.append([kind, f"minimal: {' or '.join(map(_listed, every))}", "certified", complete, "discover", ""])
    return rows + [[kind, *asked.row(f"found, less {_said(*part)}", asked.without(kept, *part))] for part in parts], parts


def _edges(sentences: Sentences, parts: Sequence[_Part]) -> tuple[list[list[str]], list[str]]:
    """What is found among the edges between these parts, and that none of it can go."""
    model, spec, between = sentences.model, sentences.spec(), sentences.between(parts)
    scope = dict.fromkeys(between, "edge")
    asked = Asked(model, scope, spec)
    start = _started(model, scope, between)
    best, took_s = found(model, scope, spec, "local", _FOUND_S, start=start, question_s=_FOUND_S)
    kept = kept_of(best, asked)
    edges = asked.components(kept)
    among = f"the {sum(map(len, between.values()))} between the parts found, of {asked.problem.gates.size}"
    rows = [_row(f"found: {len(edges)} edges among {among}", best, took_s)]
    less = [asked.decide(asked.without(kept, *edge)).verdict for edge in edges]
    falsified = [verdict.witness.deviation for verdict in less if isinstance(verdict, Falsified)]
    figure = f"deviation {min(falsified, default=0):.4g} or more"
    rows.append([f"found, less any one: {len(falsified)} of {len(less)} circuits", "falsified", figure, "", ""])
    names = {(spot.site, i): name for name, spot in edges_by_role(model).items() for i in spot.indices}
    return rows, [names[edge] for edge in edges]


def _row(what: str, best: Found, took_s: float) -> list[str]:
    """A found circuit: its margin, and how minimal it is."""
    told, margin = best.report.minimality, best.report.margin
    assert told is not None and margin is not None
    return [what, best.report.verdict, f"margin {margin:.4g}", f"discover: {told.level}, {told.status}", f"{took_s:.0f}"]


def _started(model: Model, scope: Mapping[str, str], kept: Mapping[str, Sequence[int]]) -> Circuit:
    """A circuit to start from."""
    whole = everything(ModelFile(path=model.source), scope, "the start")
    return whole.model_copy(update={"kept": {site: tuple(index) for site, index in kept.items()}})


def _role(site: str, index: int) -> str:
    """What a part is called in the names of edges."""
    layer = site.split(".")[1]
    return f"a{layer}.h{index}" if site.endswith("hook_z") else f"m{layer}"


def _said(site: str, index: int) -> str:
    layer = site.split(".")[1]
    return f"{layer}.{index}" if site.endswith("hook_z") else f"MLP {layer}"


def _listed(parts: Sequence[_Part]) -> str:
    return ", ".join(_said(*part) for part in sorted(parts, key=lambda part: part[0].split(".")[1]))
