"""Finite regions: sequences of tokens as one-hot rows, by number. Trusted base."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs.arrays import resolve
from verify.check.interval import Array, Rejected

__all__ = ["MAX_POINTS", "Tokens", "read_tokens"]

MAX_POINTS = 1 << 20
_AT_ONCE = 1 << 12


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One token a position, each a row of zeros and a one, or as a `bag` the sum of these rows: all combinations of `options`,
    or the rows of `sequences` alone."""

    options: tuple[NDArray[np.int64], ...]
    sequences: NDArray[np.int64] | None
    vocabulary: int
    bag: bool

    @property
    def count(self) -> int:
        return math.prod(map(len, self.options)) if self.sequences is None else len(self.sequences)

    def rows(self, start: int, stop: int) -> Array:
        """Sequences by number, as far as there are any, as flat inputs. Shape: `(at most stop - start, size)`."""
        if self.sequences is not None:
            return self._written(self.sequences[start:stop])
        places = np.unravel_index(np.arange(start, min(stop, self.count)), [len(options) for options in self.options])
        return self._written(np.stack([options[at] for options, at in zip(self.options, places, strict=True)], 1))

    def _written(self, ids: NDArray[np.int64]) -> Array:
        rows = np.eye(self.vocabulary)[ids]
        return rows.sum(1) if self.bag else rows.reshape(len(ids), -1)

    def holds(self, x: Array) -> bool:
        """Whether a flat input is one of them."""
        if self.sequences is None and not self.bag:
            ids = x.reshape(-1, self.vocabulary).argmax(1)
            allowed = all(i in options for i, options in zip(ids, self.options, strict=True))
            return allowed and bool((self._written(ids[None])[0] == x).all())
        if self.count > MAX_POINTS:
            raise Rejected(f"{self.count} sums of tokens are too many for the checker")
        return any((self.rows(at, at + _AT_ONCE) == x).all(1).any() for at in range(0, self.count, _AT_ONCE))

    @property
    def lower(self) -> Array:
        return self._hull(np.min)

    @property
    def upper(self) -> Array:
        return self._hull(np.max)

    def _hull(self, end: Any) -> Array:
        rows: list[Array] = [end(np.eye(self.vocabulary)[options], axis=0) for options in self.options]
        return reduce(np.add, rows) if self.bag else np.concatenate(rows)


def read_tokens(record: Any, shape: tuple[int, ...], file: str, where: str) -> Tokens:
    """The region that a record states. Raises: Rejected: it is not finite, or does not fit the model."""
    vocabulary, size = shape[-1], math.prod(shape)
    if record.epsilon or (record.sum and size != vocabulary):
        raise Rejected("of regions of tokens, balls around them and sums of several rows are not covered")
    if record.sequences is not None:
        given = resolve(record.sequences, file=file, where=where)
        ids = given.astype(np.int64)
        if ids.ndim != 2 or not ids.size or (ids != given).any():
            raise Rejected("sequences that are no list of equally long lists of token numbers")
        options = tuple(np.unique(column) for column in ids.T)
    else:
        ids, everything = None, range(vocabulary)
        stated = ["all"] * (size // vocabulary) if record.positions == "all" else record.positions
        options = tuple(np.array(everything if entry == "all" else sorted(set(entry)), np.int64) for entry in stated)
    if not all(0 <= option[0] <= option[-1] < vocabulary for option in options):
        raise Rejected(f"a token that is not in the vocabulary of {vocabulary}")
    if not record.sum and len(options) * vocabulary != size:
        raise Rejected(f"{len(options)} positions, and the model takes {size // vocabulary}")
    return Tokens(options, ids, vocabulary, record.sum)
