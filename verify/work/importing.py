"""Whether a signal has come in the middle of an import. A module that is stopped half-way through its import is broken for the
rest of the process, so whoever stops a run waits for the import to end."""

from __future__ import annotations

from types import FrameType

__all__ = ["RETRY_S", "importing"]

RETRY_S = 0.02
"""When to look again."""

_LOADERS = frozenset({"<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"})


def importing(frame: FrameType | None) -> bool:
    """Whether some caller of a frame is executing a module."""
    while frame is not None:
        if frame.f_code.co_filename in _LOADERS:
            return True
        frame = frame.f_back
    return False
