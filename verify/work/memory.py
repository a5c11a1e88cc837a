"""Running out of memory: what it looks like, and going on with half as much at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["in_parts", "out_of_memory"]

_SAID = ("not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out; libraries have no one class for it."""
    said = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in said for words in _SAID)
    )


def in_parts(which: list[int], together: int, run: Callable[[list[int]], bool]) -> None:
    """Run on numbers, at most `together` at a time, until `run` says that it is enough. A part that does not fit into memory is
    halved, and so is every later one; what was done before stays done.

    Raises: what `run` raises; on running out of memory, only where a part of one does not fit.
    """
    at = 0
    while at < len(which):
        part = which[at : at + together]
        try:
            if run(part):
                return
            at += len(part)
            continue
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
        # Out of the handler, which keeps alive what the failed attempt holds.
        together = -(-len(part) // 2)
