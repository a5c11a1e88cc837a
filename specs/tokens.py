"""From the record of token sequences to the set of inputs that they are."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bounds import tokens as sets
from bounds.ops.base import Shape
from bounds.region import Region
from specs import region as records
from specs.arrays import resolve
from specs.errors import InputError

__all__ = ["check_tokens", "read_tokens"]

_LISTED = 1 << 20
"""The most sums of rows that are listed."""


def read_tokens(record: records.Tokens, shape: Shape, *, file: str, where: str) -> sets.Tokens:
    """The set that a record states, for a model whose input of `shape` holds one-hot rows along its last axis.

    Raises: InputError: a token that the vocabulary does not have, another number of positions than the model takes, more than a
    million sums, or as `specs.arrays.resolve`.
    """
    vocabulary = shape[-1]
    positions = None if record.sum else math.prod(shape) // vocabulary
    if record.sum and math.prod(shape) != vocabulary:
        raise InputError(file, f"{where}.sum", f"an input of shape {list(shape)}", "one row", "delete `sum`")
    if record.sequences is not None:
        ids = _ids(record, positions, vocabulary, file, f"{where}.sequences")
        allowed = torch.zeros((ids.shape[1], vocabulary), dtype=torch.bool)
        allowed[torch.arange(ids.shape[1]).expand_as(ids), ids] = True
        return sets.Tokens(allowed, shape, record.epsilon, ids, record.sum)
    allowed = _allowed(record, positions, vocabulary, file, f"{where}.positions")
    whole = sets.Tokens(allowed, shape if not record.sum else tuple(allowed.shape), record.epsilon)
    if not record.sum:
        return whole
    if whole.count > _LISTED:
        raise InputError(file, f"{where}.positions", f"{whole.count} sums", f"at most {_LISTED}", "fewer alternatives")
    ids = whole.listed(0, whole.count).argmax(2)
    return sets.Tokens(allowed, shape, record.epsilon, ids, True)


def check_tokens(region: Region, tokens: bool, *, file: str, where: str) -> None:
    """Raises: InputError: the model takes token numbers (`tokens`), and the region has points that are none."""
    if tokens and not (isinstance(region, sets.Tokens) and region.radius == 0 and not region.bag):
        raise InputError(
            file, where, "a region of points that are no tokens",
            "`kind: tokens`, without epsilon, as the model takes token numbers",
            "for a ball around them, give a model that takes one-hot rows",
        )  # fmt: skip


def _allowed(record: records.Tokens, positions: int | None, vocabulary: int, file: str, where: str) -> Tensor:
    given = record.positions
    assert given is not None
    if given == "all":
        if positions is None:
            raise InputError(file, where, "all", "alternatives for each position that is summed", "e.g. [all, all]")
        return torch.ones((positions, vocabulary), dtype=torch.bool)
    if positions not in (None, len(given)):
        raise InputError(file, where, f"{len(given)} positions", f"the model's {positions}")
    allowed = torch.zeros((len(given), vocabulary), dtype=torch.bool)
    for p, options in enumerate(given):
        if options == "all":
            allowed[p] = True
            continue
        for i, token in enumerate(options):
            if token >= vocabulary:
                raise InputError(
                    file, f"{where}[{p}][{i}]", f"token {token}", f"the vocabulary has {vocabulary}", f"use 0..{vocabulary - 1}"
                )
            allowed[p, token] = True
    return allowed


def _ids(record: records.Tokens, positions: int | None, vocabulary: int, file: str, where: str) -> Tensor:
    assert record.sequences is not None
    given = resolve(record.sequences, file=file, where=where)
    if given.ndim != 2 or not given.size or positions not in (None, given.shape[1]):
        needed = "a list of sequences" if positions is None else f"sequences of {positions} tokens each"
        raise InputError(file, where, f"an array of shape {list(given.shape)}", needed)
    wrong = (given != np.floor(given)) | (given < 0) | (given >= vocabulary)
    if wrong.any():
        row, p = (int(i) for i in np.argwhere(wrong)[0])
        raise InputError(file, f"{where}[{row}][{p}]", f"token {given[row, p]:g}", f"an integer in 0..{vocabulary - 1}")
    return torch.from_numpy(given.astype(np.int64))
