"""`REPORT.json`: what was asked, what was found, and how; written whole or not at all, and read back.

Where a number does not exist it is null: a report holds finite JSON numbers only. `python -m verify.report` writes the JSON
Schema.
"""

from __future__ import annotations

import json
import os
from decimal import ROUND_FLOOR, Context
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from specs.write import write_whole
from verify.verdict import Name

__all__ = [
    "REPORT_FORMAT",
    "SCHEMA",
    "CircuitSummary",
    "ClaimReport",
    "Enumeration",
    "Minimality",
    "Moment",
    "Queries",
    "Report",
    "Rung",
    "SearchReport",
    "WitnessReport",
    "read_report",
    "report_schema",
    "rounded_down",
    "write_report",
]

REPORT_FORMAT = "certify.report/1"
SCHEMA = Path(__file__).parent / "schemas" / "report.schema.json"

Nested: TypeAlias = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}, {"type": "array"}]})]
"""Numbers in nested lists; null where a number is not finite (an output that overflowed)."""

Seconds: TypeAlias = Annotated[float, Field(ge=0)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Cost: TypeAlias = Annotated[int | float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class WitnessReport(_Record):
    """A counterexample: the input, what each ablated site was patched with, and both outputs in the original model's own
    runtime.

    Arrays have the model's shapes. `claim` names the claim that it breaks; `deviation` is what was replayed. Where patched
    values are activations, `patch_inputs` holds the inputs that the model was run on for them, and `patch_rows` which of these
    gave each component of a site its value (null for a kept one). `center` is that of the claim's region, where it has one.
    """

    claim: str
    deviation: float | None
    input: Nested
    patch: dict[str, Nested]
    model_output: Nested
    circuit_output: Nested
    patch_inputs: list[Nested] = []
    patch_rows: dict[str, list[Count | None]] = {}
    center: Nested | None = None


class Rung(_Record):
    """One step of the ladder, over all claims: how many questions reached it, how many it decided, its wall-clock time."""

    name: str
    asked: Count
    decided: Count
    time_s: Seconds


class Queries(_Record):
    """How many questions were asked (one for each claim and circuit), and which kind of step decided them."""

    asked: Count = 0
    by_witness_pool: Count = 0
    by_attack: Count = 0
    by_bound: Count = 0
    by_split: Count = 0
    by_exact: Count = 0


class MonotoneReport(_Record):
    """Whether what holds of a circuit is known to hold of every larger one, and why, or why not."""

    known: bool
    reason: str


class ClaimReport(_Record):
    """The answer for one center. Fields are as in the report; `reason` says why it is unknown, `decided_by` names the rung,
    `monotone` what the spec implies for larger and smaller circuits."""

    label: str
    verdict: Name
    margin: float | None = None
    deviation: float | None = None
    reason: str | None = None
    decided_by: str | None = None
    time_s: Seconds = 0.0
    monotone: MonotoneReport | None = None
    witness: WitnessReport | None = None


class CircuitSummary(_Record):
    """The circuit: components kept (`size`) of those in scope (`scope_size`), and which, as `circuit.json` says it; `sizes`
    says how many components each site has."""

    file: str | None = None
    size: Count
    scope_size: Count
    scope: dict[str, str]
    kept: dict[str, list[Count] | Literal["all", "none"]]
    sizes: dict[str, Count] = {}


class Minimality(_Record):
    """What was shown of the circuit's minimality (THEORY section 4).

    `level` is what was asked. `status`: proven, each refutation that it needs backed by a replayed witness; refuted, by the
    certified circuit `smaller`; or relative to `unresolved_count` circuits that were neither certified nor refuted.
    `unresolved` are the components whose removal is among these, `unresolved_circuits` some of the others, each as it keeps.
    Where the search has not `ended`, there may be more, which it did not come to.
    `reached` is the highest level that is proven. `lower` and `upper` bound the cost (number or weight) of a cheapest circuit.
    `core`: components that every faithful circuit keeps (all such, with `core_complete`); null where the claim is not monotone.
    `reason`: where a certificate was asked for, what of this was found but is not in it, and so is not said here.
    """

    level: Literal["none", "quasi", "local", "subset", "cardinal"]
    proven: bool
    status: Literal["proven", "refuted", "relative"]
    reached: Literal["none", "quasi", "local", "subset", "cardinal"]
    lower: Cost | None = None
    upper: Cost | None = None
    unresolved: list[str] = Field(default_factory=list[str])
    unresolved_count: Count = 0
    ended: bool = True
    unresolved_circuits: list[dict[str, list[Count]]] = Field(default_factory=list["dict[str, list[int]]"])
    smaller: dict[str, list[Count]] | None = None
    core: list[str] | None = None
    core_complete: bool = False
    reason: str | None = None


class Moment(_Record):
    """A search's bracket at a time."""

    time_s: Seconds
    lower: Cost
    upper: Cost
    unresolved: Count


class SearchReport(_Record):
    """How a search went: circuits asked about, those that its map did not answer (`proofs`), those that were looked at at the
    witnesses at hand only (`evaluated`), those known from an earlier run (`resumed`), and the bracket over time."""

    algorithm: str
    order: str | None = None
    asked: Count
    proofs: Count
    evaluated: Count
    resumed: Count = 0
    trace: list[Moment] = Field(default_factory=list[Moment])


class Enumeration(_Record):
    """All minimal circuits that were found, each as it keeps; with `complete` there are no others. `core` is in all of them,
    `union` in some. `blocking`: minimal sets of components whose removal breaks the claim. `open`: circuits left undecided."""

    complete: bool
    circuits: list[dict[str, list[Count]]]
    proven: list[bool]
    core: list[str]
    union: list[str]
    blocking: list[list[str]] = Field(default_factory=list["list[str]"])
    open: Count = 0


class Report(_Record):
    """What `certify` answers.

    `statement` is what the spec claims, in a sentence: what is proven, refuted or left open.
    `margin` is the proven lower bound of `tolerance - deviation` (null: nothing finite is proven); `deviation` the largest
    seen, on the original model where it was replayed there. `witness` is that of the claim that is broken most. With
    `interrupted` the claims that were not reached are missing or unknown. `model_sha256` and `circuit` are null where the run
    was interrupted before they were read; `minimality` where none was asked for. `certificate` is a directory for `certify
    check`. With `float32` what is certified holds for every float32 evaluation, and `margin` is what is left after rounding.
    """

    format: Literal["certify.report/1"] = REPORT_FORMAT
    verdict: Name
    meaning: str = ""
    statement: str = ""
    margin: float | None = None
    deviation: float | None = None
    tolerance: float | None = None
    reason: str | None = None
    witness: WitnessReport | None = None
    minimality: Minimality | None = None
    search: SearchReport | None = None
    enumeration: Enumeration | None = None
    claims: list[ClaimReport] = Field(default_factory=list[ClaimReport])
    circuit: CircuitSummary | None = None
    spec: str | None = None
    model: str | None = None
    model_sha256: str | None = None
    backend: str
    device: str = "cpu"
    seed: int
    queries: Queries = Queries()
    rungs: list[Rung] = Field(default_factory=list[Rung])
    budget_s: float | None = None
    time_s: Seconds
    interrupted: bool = False
    certificate: str | None = None
    float32: bool = False
    versions: dict[str, str | None] = Field(default_factory=dict[str, "str | None"])

    @property
    def summary(self) -> str:
        """The one stable line that standard output ends with."""
        if self.verdict == "certified":
            said = f"certified margin={rounded_down(self.margin)} time={self.time_s:.2f}s"
            if self.minimality is None or self.circuit is None:
                return said
            return f"{said} size={self.circuit.size} minimality={self.minimality.level} status={self.minimality.status}"
        if self.verdict == "falsified":
            return f"falsified deviation={_above(self.deviation, self.tolerance)} > tolerance={_plain(self.tolerance)}"
        return f"unknown bound={rounded_down(self.margin)} reason={self.reason or 'none given'}"

    def text(self) -> str:
        """The report as JSON: one line a key, so that people can read it and line-based tools compare it."""
        entries = self.model_dump(mode="json")
        lines = [f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in entries.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _repr_html_(self) -> str:
        """The page for people, in a frame: what a notebook shows."""
        from verify.render.html import framed, report_page

        return framed(report_page(self, "report"))


def rounded_down(value: float | None) -> str:
    """Six digits, rounded down: what is printed is still proven."""
    return "none" if value is None else f"{float(Context(6, ROUND_FLOOR).create_decimal_from_float(value)):.6g}"


def _plain(value: float | None) -> str:
    return "none" if value is None else f"{value:.12g}"


def _above(value: float | None, tolerance: float | None) -> str:
    """Six digits, or all of them where six would not show that it is above the tolerance; null stands for an overflow."""
    if value is None:
        return "inf"
    return f"{value:.6g}" if tolerance is None or float(f"{value:.6g}") > tolerance else repr(value)


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report, whole or not at all. Raises: OSError."""
    write_whole(report.text(), path)


def read_report(path: str | os.PathLike[str]) -> Report:
    """The report in a file. Raises: InputError: it cannot be read, is malformed, or is no report."""
    from specs.load import read_record

    return read_record(Report, path)


def report_schema() -> dict[str, Any]:
    """JSON Schema of `REPORT.json`."""
    made = Report.model_json_schema(mode="serialization")
    made["required"] = sorted(cast("dict[str, Any]", made["properties"]))
    for part in (made, *made["$defs"].values()):
        # A docstring's line breaks are ours, not the reader's.
        part["description"] = " ".join(part["description"].split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "REPORT.json: what certify answers"}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(report_schema(), indent=2) + "\n", encoding="utf-8")
