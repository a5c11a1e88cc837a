"""What came of a run, and the file that rows are kept in: one JSON object a line, each written whole, as they come."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from specs.errors import InputError
from specs.load import explained
from specs.record import Record

__all__ = ["ROWS", "Row", "append", "read_rows"]

ROWS = "rows.jsonl"

Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]


class Row(Record):
    """One run. What stands under its name in a suite; `digest` of all that defines it; then what came of it.

    `error`: why there is no answer, in one line; all results are then null. `verdict` is `certify`'s on the circuit that the
    method ended with, over the whole claim; `level` is what was asked, `reached` what is proven; `lower` and `upper` bound the
    size of a smallest circuit. `search_s` is the method's own time, `certify_s` that of certifying its circuit afterwards (0
    for a search that certifies as it goes). `trace`: seconds, lower bound, size of the best circuit. Where a certificate was
    asked for, `checked` says what came of it, `checked_level` and `checked_lower` what of minimality is in it (see `attested`).
    """

    experiment: str
    network: str
    index: int
    method: str
    seed: int
    epsilon_factor: Finite
    tolerance_factor: Finite
    digest: str
    started: str
    versions: dict[str, str | None] = Field(default_factory=dict[str, "str | None"])
    error: str | None = None
    epsilon: Finite | None = None
    tolerance: Finite | None = None
    budget_s: Finite | None = None
    model_sha256: str | None = None
    data_sha256: str | None = None
    monotone: bool | None = None
    verdict: Literal["certified", "falsified", "unknown"] | None = None
    reason: str | None = None
    margin: Finite | None = None
    deviation: Finite | None = None
    size: int | None = None
    scope_size: int | None = None
    kept: dict[str, tuple[int, ...]] | None = None
    level: str | None = None
    reached: str | None = None
    status: str | None = None
    lower: Finite | None = None
    upper: Finite | None = None
    unresolved: int | None = None
    asked: int | None = None
    proofs: int | None = None
    evaluated: int | None = None
    search_s: Finite | None = None
    certify_s: Finite | None = None
    trace: tuple[tuple[Finite, Finite, Finite], ...] = ()
    checked: Literal["confirmed", "refused", "unfinished", "not supported"] | None = None
    check_note: str | None = None
    checked_level: str | None = None
    checked_lower: Finite | None = None
    certificate_s: Finite | None = None
    check_s: Finite | None = None
    certificate_bytes: int | None = None

    @property
    def key(self) -> tuple[str, str, int, str, int, float, float]:
        """What names the run in any version of its suite."""
        return (
            self.experiment, self.network, self.index, self.method, self.seed, self.epsilon_factor, self.tolerance_factor
        )  # fmt: skip

    @property
    def time_s(self) -> float:
        """Search and certification together."""
        return (self.search_s or 0.0) + (self.certify_s or 0.0)

    @property
    def proven(self) -> bool:
        """Certified, and minimal as asked."""
        return self.verdict == "certified" and self.status in (None, "proven")


def append(row: Row, folder: Path) -> None:
    """Write a row behind the others, in one go. Raises: OSError."""
    line = (row.model_dump_json(exclude_none=True) + "\n").encode()
    handle = os.open(folder / ROWS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        written = os.write(handle, line)
        if written != len(line):
            raise OSError(28, "the disk is full", str(folder / ROWS))
        os.fsync(handle)
    finally:
        os.close(handle)


def read_rows(folder: Path, *, mend: bool = False) -> list[Row]:
    """The rows in a folder. A last line that a killed run left unfinished is not a row; with `mend` it is cut off, so that the
    next one starts on a line of its own. Raises: InputError: no rows there, or a line that is none."""
    path = folder / ROWS
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(str(path), "", error.strerror or str(error), "the folder of a `certify bench`") from None
    whole = content[: content.rfind(b"\n") + 1]
    if mend and len(whole) < len(content):
        os.truncate(path, len(whole))
    rows: list[Row] = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(Row.model_validate_json(line))
        except ValidationError as error:
            said = explained(error, str(path))
            raise InputError(str(path), f"line {number} {said.where}", said.found, said.needed, "delete the line") from None
    return rows
