"""Open parts of a branch and bound, the worst first, in bounded memory: what is least urgent waits in a temporary file."""

from __future__ import annotations

import heapq
import math
import pickle
import tempfile
from dataclasses import dataclass, field
from itertools import count
from typing import IO

from bounds.domains.slopes import Tuned
from verify.branch.splits import Split

__all__ = ["Part", "Queue"]

_BLOCK = 256
"""Parts written, and read back, together."""

_EACH = 1 << 12
"""Bytes of a part without its warm start, about."""


@dataclass(slots=True, eq=False)
class Part:
    """A part of the region still open for one goal: the constraints that cut it out, what was proven of it, where it is to be
    split next, splits that were good for a larger part, and where the ascent for it may start."""

    goal: int
    splits: tuple[Split, ...]
    bound: float = -math.inf
    next: Split | None = None
    good: tuple[Split, ...] = ()
    warm: Tuned | None = None

    @property
    def bytes(self) -> int:
        """Memory that it holds, about."""
        held = self.warm.groups() if self.warm is not None else []
        return _EACH + sum(value.numel() * value.element_size() for group in held for value in group.values())


@dataclass(eq=False)
class Queue:
    """Parts by their bounds. `memory`: bytes that may be held; beyond it the parts with the greatest bounds are written out.

    Guarantees: `bound` is the least of all parts in it, held or written out; `pop` gives a part with that bound. Where nothing
    can be written (a full disk), the parts stay, without their warm starts.
    """

    memory: int = 1 << 30
    _held: list[tuple[float, int, Part]] = field(default_factory=list[tuple[float, int, Part]])
    _away: list[tuple[float, int, int]] = field(default_factory=list[tuple[float, int, int]])
    _file: IO[bytes] | None = None
    _bytes: int = 0
    _waiting: int = 0
    _ids: count[int] = field(default_factory=count)

    def __len__(self) -> int:
        return len(self._held) + self._waiting

    @property
    def bytes(self) -> int:
        """Memory that it holds, about."""
        return self._bytes

    @property
    def waiting(self) -> int:
        """How many parts are written out."""
        return self._waiting

    @property
    def bound(self) -> float:
        """The least bound of all parts; infinite where there is none."""
        return min(self._held[0][0] if self._held else math.inf, self._away[0][0] if self._away else math.inf)

    def push(self, part: Part) -> None:
        """Enter a part."""
        heapq.heappush(self._held, (part.bound, next(self._ids), part))
        self._bytes += part.bytes
        if self._bytes > self.memory:
            self._spill()

    def pop(self) -> Part:
        """Take out the part with the least bound. Raises: IndexError: there is none."""
        while self._away and (not self._held or self._away[0][0] < self._held[0][0]):
            self._fetch()
        part = heapq.heappop(self._held)[2]
        self._bytes -= part.bytes
        return part

    def _spill(self) -> None:
        """Write the less urgent half out, in blocks of like bounds."""
        self._held.sort(key=lambda entry: entry[:2])
        keep = max(1, len(self._held) // 2)
        while len(self._held) > keep:
            start = max(keep, len(self._held) - _BLOCK)
            block = [entry[2] for entry in self._held[start:]]
            before = sum(part.bytes for part in block)
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile()  # noqa: SIM115
                at = self._file.seek(0, 2)
                pickle.dump(block, self._file)
                self._file.flush()
            except OSError:
                for part in block:
                    part.warm = None
                self._bytes -= before - sum(part.bytes for part in block)
                return
            del self._held[start:]
            heapq.heappush(self._away, (block[0].bound, at, len(block)))
            self._bytes -= before
            self._waiting += len(block)

    def _fetch(self) -> None:
        """Read the most urgent block back. What it held on disk is given back once nothing is written out any more."""
        assert self._file is not None
        _, at, size = heapq.heappop(self._away)
        self._file.seek(at)
        block: list[Part] = pickle.load(self._file)
        self._waiting -= size
        if not self._away:
            self._file.truncate(0)
        for part in block:
            heapq.heappush(self._held, (part.bound, next(self._ids), part))
            self._bytes += part.bytes
