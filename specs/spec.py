"""The record of a spec: what is claimed of a circuit, over which inputs and patches, and how hard to try."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field

from specs.agreement import Agreement
from specs.circuit import ModelFile, Scope
from specs.patching import Patching
from specs.record import FileRecord, Positive, Record, Site, branch
from specs.region import Region

__all__ = ["SPEC_FORMAT", "Budget", "Minimality", "Spec", "Weights"]

SPEC_FORMAT = "certify.spec/1"

Minimality: TypeAlias = Literal["none", "quasi", "local", "subset", "cardinal"]


def _one_or_each(value: Any) -> str:
    return "<each>" if isinstance(value, list | tuple) else "<one>"


Weights: TypeAlias = dict[
    Site,
    Annotated[
        Annotated[Positive, branch("one")] | Annotated[tuple[Positive, ...], branch("each")],
        Discriminator(_one_or_each),
    ],
]
"""For each site the cost of a component: one number for all, or one each. Where nothing is said it is 1."""


class Budget(Record):
    """What may be spent on an answer, in seconds of wall-clock time."""

    time_s: Positive = 300.0


class Spec(FileRecord):
    """`spec.yaml`. `model` and `scope` are for `certify discover`, which has no circuit file."""

    format: Literal["certify.spec/1"]
    model: ModelFile | None = None
    scope: Scope | None = None
    input: Region
    patching: Patching
    agreement: Agreement
    minimality: Minimality = "none"
    weights: Weights = Field(default_factory=dict)
    budget: Budget = Budget()
