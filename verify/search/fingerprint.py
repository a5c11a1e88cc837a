"""What a question is, as one hash: two questions with the same hash have the same answers."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, cast

import torch

from specs.encode import Problem

__all__ = ["fingerprint"]


def fingerprint(problem: Problem) -> str:
    """SHA-256 of the model's hash, the components, and each claim's region, patch values and margins, to the last bit.

    What a spec's files hold counts, not their names; budget, weights and minimality do not. Cost: one pass over these arrays.
    """
    digest = hashlib.sha256()
    _enter(digest, (problem.model.sha256, str(problem.model.dtype), problem.components, problem.gates))
    _enter(digest, problem.spec.agreement.model_dump(mode="json"))
    _enter(digest, problem.spec.patching.kind)
    for claim in problem.claims:
        query = claim.query
        _enter(digest, (claim.label, query.region, query.gates, query.margins, claim.second))
    return digest.hexdigest()


def _enter(digest: Any, value: object) -> None:
    """Feed a value to a hash: its type, its size, its parts. Raises: TypeError: a kind of value that has no place here."""
    digest.update(type(value).__name__.encode() + b"\0")
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous().numpy()
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    elif value is None or isinstance(value, bool | int | float | str | torch.dtype):
        digest.update(repr(value).encode() + b"\0")
    elif isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        _enter(digest, tuple(mapping.items()))
    elif isinstance(value, list | tuple):
        parts = cast("list[object] | tuple[object, ...]", value)
        digest.update(str(len(parts)).encode() + b"\0")
        for part in parts:
            _enter(digest, part)
    elif dataclasses.is_dataclass(value):
        _enter(digest, tuple((entry.name, getattr(value, entry.name)) for entry in dataclasses.fields(value)))
    else:
        raise TypeError(f"{type(value).__name__} has no place in a question")
