"""The three answers to a claim, and what each of them says."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    from verify.witness.falsify import Witness

__all__ = ["INTERRUPTED", "TIME_UP", "UNDECIDED", "Certified", "Falsified", "Name", "Unknown", "Verdict", "conjunction"]

Name: TypeAlias = Literal["certified", "falsified", "unknown"]

TIME_UP = "time budget used up"
INTERRUPTED = "interrupted"
UNDECIDED = "no proof and no witness found"


@dataclass(frozen=True, slots=True)
class Certified:
    """A proof over the whole region. `margin` is the proven lower bound of `tolerance - deviation`, finite and at least 0."""

    name: ClassVar[Literal["certified"]] = "certified"
    meaning: ClassVar[str] = "It is proven that the circuit agrees with the model on every input and patch value of the claim."
    margin: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ValueError(f"a margin of {self.margin} certifies nothing")


@dataclass(frozen=True, slots=True, eq=False)
class Falsified:
    """A counterexample. `witness` was re-evaluated on the original model, in its own runtime and precision."""

    name: ClassVar[Literal["falsified"]] = "falsified"
    meaning: ClassVar[str] = "On the original model, the circuit leaves the tolerance at the witness's input and patch values."
    witness: Witness


@dataclass(frozen=True, slots=True)
class Unknown:
    """Neither. `bound` is the best proven lower bound of the margin: minus infinity where nothing was proven."""

    name: ClassVar[Literal["unknown"]] = "unknown"
    meaning: ClassVar[str] = "Within the budget the claim was neither proven nor refuted; it may hold or not."
    bound: float
    reason: str

    def __post_init__(self) -> None:
        if math.isnan(self.bound):
            raise ValueError("a bound of NaN; minus infinity says that nothing is proven")


Verdict: TypeAlias = Certified | Falsified | Unknown


def conjunction(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on all claims together: falsified where one is (the largest deviation speaks), certified where all are (the
    least margin speaks), otherwise unknown (the least bound speaks). Raises: ValueError: no verdicts, so nothing was
    claimed."""
    found = tuple(verdicts)
    if not found:
        raise ValueError("no verdicts to join")
    if falsified := [v for v in found if isinstance(v, Falsified)]:
        return max(falsified, key=lambda v: v.witness.deviation)
    if open_ := [v for v in found if isinstance(v, Unknown)]:
        return min(open_, key=lambda v: v.bound)
    return min((v for v in found if isinstance(v, Certified)), key=lambda v: v.margin)
