"""Questions about many circuits of one model, and their answers as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from specs.encode import Problem, encode_scope
from specs.model import Model, load_model
from specs.record import Origin
from specs.spec import Spec
from verify.discover import discover
from verify.found import Found
from verify.ladder.choice import chosen
from verify.ladder.decide import Ladder
from verify.ladder.round import Decision
from verify.verdict import Certified, Falsified
from verify.work.budget import Budget

__all__ = ["Asked", "Kept", "found", "kept_of", "model_at", "said", "spec_of", "table"]

Kept = Mapping[str, Sequence[int] | str]
"""Site to what of it a circuit keeps: indices, or `all` or `none`."""


def model_at(path: Path) -> Model:
    """A model file. Raises: InputError: it is missing or not read."""
    return load_model(path.name, shown=path.name, where="", base=path.parent)


def spec_of(base: Path = Path("."), budget_s: float = 120, **parts: Any) -> Spec:
    """A spec from the parts that differ: `input`, `agreement` and, where it is not zero, `patching`."""
    entries = {"format": "certify.spec/1", "patching": {"kind": "zero"}, "budget": {"time_s": budget_s}, **parts}
    return Spec.model_validate(entries, context=Origin("spec.yaml", base))


class Asked:
    """One claim about a model, with all circuits over a scope to ask it of. `took_s`: seconds spent on the last answer."""

    def __init__(self, model: Model, scope: Mapping[str, str], spec: Spec) -> None:
        self.model, self.scope, self.spec = model, dict(scope), spec
        self.problem: Problem = encode_scope(scope, spec, model, file="the scope")
        self.ladder = Ladder(
            self.problem, self.problem.claims[0], chosen("auto", "cpu"), measure=True, split=True, skip_refusals=True
        )
        self.took_s = 0.0

    def mask(self, kept: Kept) -> torch.Tensor:
        """A circuit as a row over the components. Sites that are left out are kept whole."""
        return torch.tensor([[_keeps(kept.get(site, "all"), i) for site, i in self.problem.components]])

    def without(self, kept: Kept, site: str, index: int) -> Kept:
        """The circuit less one component."""
        there = kept.get(site, "all")
        rows = [i for s, i in self.problem.components if s == site and i != index and _keeps(there, i)]
        return {**kept, site: rows}

    def components(self, kept: Kept) -> list[tuple[str, int]]:
        """What a circuit keeps."""
        return [c for c, keep in zip(self.problem.components, self.mask(kept)[0].tolist(), strict=True) if keep]

    def decide(self, kept: Kept) -> Decision:
        """The verdict on a circuit, within the spec's budget."""
        began = time.monotonic()
        decision = self.ladder.decide(self.mask(kept), Budget(self.spec.budget.time_s))[0]
        self.took_s = time.monotonic() - began
        return decision

    def row(self, what: str, kept: Kept) -> list[str]:
        """Circuit, verdict, figure, what decided it, seconds."""
        decision = self.decide(kept)
        return [what, *said(decision), f"{self.took_s:.1f}"]


def _keeps(kept: Sequence[int] | str, index: int) -> bool:
    return kept == "all" if isinstance(kept, str) else index in kept


def said(decision: Decision) -> list[str]:
    """Verdict, figure, and what decided it."""
    verdict = decision.verdict
    if isinstance(verdict, Certified):
        return ["certified", f"margin {verdict.margin:.4g}", decision.rung or ""]
    if isinstance(verdict, Falsified):
        return ["falsified", f"deviation {verdict.witness.deviation:.4g}", decision.rung or ""]
    return ["unknown", f"bound {verdict.bound:.4g}", verdict.reason]


def found(
    model: Model, scope: Mapping[str, str], spec: Spec, level: str, budget_s: float, **options: Any
) -> tuple[Found, float]:
    """The circuit that discovery finds, and the seconds that it took."""
    asked = spec.model_copy(update={"scope": dict(scope), "minimality": level})
    began = time.monotonic()
    return discover(model, asked, timeout_s=budget_s, **options), time.monotonic() - began


def kept_of(found: Found, asked: Asked) -> dict[str, list[int]]:
    """What a found circuit keeps, by index."""
    kept: dict[str, list[int]] = {site: [] for site in asked.scope}
    for site, index in asked.components(dict(found.circuit.kept)):
        kept[site].append(index)
    return kept


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
