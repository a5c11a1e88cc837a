"""The records of patching domains: what `patching:` of a spec says about the values that ablated components take.

What a kind needs stands under the kind's own name: `{kind: mean, mean: {...}}`. Where that cannot be misread it may as well
stand beside `kind`: `{kind: box, lower: {...}, upper: {...}}`, `{kind: mean, file: inputs.npz}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, cast

from pydantic import Discriminator, Field, model_validator

from specs.record import Array, FilePath, Index, Number, Record, Site, branch, chosen_by, known, paired, problem
from specs.region import Layout, Region, Scale

__all__ = [
    "PATCHING_KINDS",
    "Bounds",
    "Box",
    "Closed",
    "Constant",
    "Inputs",
    "Mean",
    "Patching",
    "Quantiles",
    "Reachable",
    "Resample",
    "SiteValues",
    "Zero",
]

PATCHING_KINDS = ("zero", "mean", "constant", "box", "reachable", "resample", "closed")

SiteValues: TypeAlias = dict[Site, Array]
"""For each site a number, an array of the site's shape (inline or in a file), or a flat list of the right length."""


class Inputs(Record):
    """Inputs in a file, first axis first: those that the model is run on for the activations to average, or take quantiles of.

    `indices` picks some; left out, all are taken. `scale` and `layout` are as under `input`.
    """

    file: FilePath
    array: str | None = None
    indices: Annotated[tuple[Index, ...], Field(min_length=1)] | None = None
    scale: Scale | None = None
    layout: Layout | None = None


class Quantiles(Inputs):
    """For each element of a site, the interval between two quantiles of its activation over the inputs in a file."""

    quantiles: Annotated[tuple[Number, Number], paired("two numbers [low, high] in 0..1")]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = self.quantiles
        if not 0 <= low <= high <= 1:
            raise problem(f"[{low}, {high}]", "two numbers in 0..1, the lower first", "", "quantiles")
        return self


class Bounds(Record):
    """For each site both ends of the intervals."""

    lower: SiteValues
    upper: SiteValues

    @model_validator(mode="after")
    def _same_sites(self) -> Self:
        for ours, key, theirs in ((self.lower, "upper", self.upper), (self.upper, "lower", self.lower)):
            for site in ours:
                if site not in theirs:
                    raise problem(f"no entry for site {site!r}", "the same sites in lower and upper", f"add {site!r}", key)
        return self


class _Patching(Record):
    """Takes what the kind needs also where it stands beside `kind`, if one of the keys `beside` shows that it does."""

    beside: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        entries = dict(cast("Mapping[str, object]", value))
        kind = entries.get("kind")
        if isinstance(kind, str) and kind not in entries and any(key in entries for key in cls.beside):
            return {"kind": entries.pop("kind"), kind: entries}
        return entries


def _sites_or_inputs(value: Any) -> str:
    if isinstance(value, Inputs):
        return "<inputs>"
    # A site may be called `file` too; its value is then no text.
    named = isinstance(value, Mapping) and isinstance(cast("Mapping[str, object]", value).get("file"), str)
    return "<inputs>" if named else "<sites>"


Activations: TypeAlias = Annotated[
    Annotated[SiteValues, branch("sites")] | Annotated[Inputs, branch("inputs")],
    Discriminator(_sites_or_inputs),
]


class Zero(_Patching):
    """Every ablated component takes 0."""

    kind: Literal["zero"] = "zero"


class Mean(_Patching):
    """Every ablated component takes its mean: given for each site, or taken over inputs in a file."""

    beside = ("file",)
    kind: Literal["mean"] = "mean"
    mean: Activations


class Constant(_Patching):
    """Every ablated component takes one given value: for each site, or the mean over inputs in a file."""

    beside = ("file",)
    kind: Literal["constant"] = "constant"
    constant: Activations


def _bounds_or_quantiles(value: Any) -> str:
    if isinstance(value, Quantiles):
        return "<quantiles>"
    return "<quantiles>" if isinstance(value, Mapping) and ("file" in value or "quantiles" in value) else "<bounds>"


class Box(_Patching):
    """Every ablated element takes any value of its own interval: given for each site, or quantiles over inputs in a file."""

    beside = ("file", "quantiles", "lower", "upper")
    kind: Literal["box"] = "box"
    box: Annotated[
        Annotated[Bounds, branch("bounds")] | Annotated[Quantiles, branch("quantiles")],
        Discriminator(_bounds_or_quantiles),
    ]


class Reachable(_Patching):
    """All ablated components take what the model computes on one other input of a region."""

    kind: Literal["reachable"] = "reachable"
    reachable: Region


class Resample(_Patching):
    """Each ablated component takes what the model computes on another input of a region, its own for each."""

    kind: Literal["resample"] = "resample"
    resample: Region


class Closed(_Patching):
    """Each ablated component takes any value that it can have when all upstream of it take any of theirs, over a region."""

    kind: Literal["closed"] = "closed"
    closed: Region


Patching: TypeAlias = Annotated[
    Annotated[Zero, branch("zero")]
    | Annotated[Mean, branch("mean")]
    | Annotated[Constant, branch("constant")]
    | Annotated[Box, branch("box")]
    | Annotated[Reachable, branch("reachable")]
    | Annotated[Resample, branch("resample")]
    | Annotated[Closed, branch("closed")],
    chosen_by("kind"),
    known("patching", "kind", PATCHING_KINDS),
]
