"""Which of a file's components are kept: as it says, or by score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node

__all__ = ["Selection", "select"]


@dataclass(frozen=True, slots=True)
class Selection:
    """Keep scores of at least `threshold`, or the `top` greatest; by magnitude, or with `signed` as they are. With neither the
    file decides."""

    threshold: float | None = None
    top: int | None = None
    signed: bool = False

    @property
    def given(self) -> bool:
        """Whether scores decide."""
        return self.threshold is not None or self.top is not None

    def said(self) -> str:
        """In words, for the circuit's provenance."""
        what = "score" if self.signed else "magnitude of score"
        if self.threshold is not None:
            return f"{what} at least {self.threshold:g}"
        return f"the {self.top} of greatest {what}" if self.top is not None else "as the file says"


def select(entries: Sequence[Node] | Sequence[Edge], selection: Selection, file: str) -> tuple[frozenset[str], list[str]]:
    """Names of the entries that are kept, and what a reader should know of the choice.

    Guarantees: entries without a score are kept; of equal scores the file's first ones come first.
    Raises: InputError: the file does not say what is kept, has no scores to choose by, or fewer than `top`.
    """
    if not selection.given:
        silent = next((entry.name for entry in entries if entry.kept is None), None)
        if silent is not None:
            found = f"the file does not say whether {silent!r} is kept"
            raise InputError(file, "", found, "a choice by score", "say --threshold T or --top K")
        return frozenset(entry.name for entry in entries if entry.kept), []
    scores = {entry.name: entry.score for entry in entries if entry.score is not None}
    if not scores:
        where = "--top" if selection.top is not None else "--threshold"
        raise InputError("certify", where, f"{file} has no scores", "a file with scores", "leave it out")
    value = {name: score if selection.signed else abs(score) for name, score in scores.items()}
    kept = {entry.name for entry in entries if entry.score is None}
    notes = [f"{len(kept)} components without a score are kept"] if kept else []
    if any(entry.kept is not None for entry in entries):
        notes.append("the file says which components are kept; the choice by score replaces that")
    if selection.top is None:
        return frozenset(kept | {name for name, score in value.items() if score >= (selection.threshold or 0.0)}), notes
    if selection.top > len(value):
        raise InputError("certify", "--top", f"{selection.top}; {file} has {len(value)} scores", f"at most {len(value)}", "")
    order = sorted(value, key=lambda name: -value[name])
    chosen, rest = order[: selection.top], order[selection.top :]
    if chosen and rest and value[chosen[-1]] == value[rest[0]]:
        tied = sum(value[name] == value[rest[0]] for name in rest)
        notes.append(f"{tied} components left out have the same score as the last one taken")
    return frozenset(kept.union(chosen)), notes
