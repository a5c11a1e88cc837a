"""The one way of saying that something brought in from outside is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["InputError", "nearest"]


class InputError(Exception):
    """Bad input, told in one line: `FILE WHERE: what was found; what is needed; what to do`."""

    def __init__(self, file: str, where: str, found: str, needed: str = "", remedy: str = "") -> None:
        self.file, self.where, self.found, self.needed, self.remedy = file, where, found, needed, remedy
        place = f"{file} {where}".strip()
        said = "; ".join(part for part in (found, needed, remedy) if part)
        super().__init__(" ".join(f"{place}: {said}".split()))


def nearest(word: str, known: Iterable[str]) -> str:
    """`use 'x'` for the known name closest to `word`; where none is close, the first few names there are."""
    names = sorted(known)
    if close := get_close_matches(word, names, n=1, cutoff=0.5):
        return f"use {close[0]!r}"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"use one of: {shown}"
