"""Trees of splits and what a certificate states for their leaves, read from its arrays. Trusted base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify.check.interval import Array, Rejected
from verify.check.part import Constraint, Tuned
from verify.check.proof import Proof

__all__ = ["PROOF", "STEPS", "Trees", "tensors"]

PROOF, STEPS = "proof.npz", 65535


def tensors(proof: Proof) -> list[str]:
    """The tensors that a tree may split, in the order of their numbers."""
    return [*proof.regions, *(step.name for step in proof.steps)]


class Trees:
    """The trees of one claim, read one after another; every entry must be used exactly once."""

    def __init__(self, proof: Proof, arrays: Mapping[str, NDArray[Any]], i: int) -> None:
        kinds = {"goal": "i", "tensor": "i", "circuit": "u", "at": "i", "threshold": "f", "slopes": "u", "multipliers": "f"}
        found: dict[str, NDArray[Any]] = {}
        for name, kind in kinds.items():
            array = arrays.get(f"{i}.{name}")
            if array is None or array.dtype.kind != kind or array.ndim != (2 if name == "slopes" else 1):
                raise Rejected(f"{PROOF} holds no array {i}.{name} of the right type")
            found[name] = array
        self.proof, self.arrays, self.names = proof, found, tensors(proof)
        self.goals = [int(g) for g in found["goal"]]
        if sorted(set(self.goals)) != self.goals:
            raise Rejected("goals are not in ascending order")
        self.width = 3 * sum(step.size for step in proof.relus)
        if found["slopes"].shape[1] != self.width or found["slopes"].dtype != np.uint16:
            raise Rejected("slopes do not fit the model")
        self.node = self.split = self.count = self.multiplier = 0

    def leaves(self) -> Iterator[tuple[list[Constraint], Tuned]]:
        """The leaves of the next tree, each with the constraints on the way to it."""
        pending: list[list[Constraint]] = [[]]
        while pending:
            path = pending.pop()
            if self.node >= len(self.arrays["tensor"]):
                raise Rejected("a tree ends too early: leaves are missing")
            tensor = int(self.arrays["tensor"][self.node])
            self.node += 1
            if tensor < 0:
                yield path, self._tuned(len(path))
            else:
                above = self._constraint(tensor)
                pending.append([*path, Constraint(above.circuit, above.tensor, above.at, -1, above.threshold)])
                pending.append([*path, above])

    def _constraint(self, tensor: int) -> Constraint:
        k, arrays = self.split, self.arrays
        if tensor >= len(self.names) or k >= min(len(arrays["circuit"]), len(arrays["at"]), len(arrays["threshold"])):
            raise Rejected("a split of no tensor, or one that says too little")
        self.split += 1
        name, at, threshold = self.names[tensor], int(arrays["at"][k]), float(arrays["threshold"][k])
        if not 0 <= at < len(self.proof.root.y[name][0]) or not np.isfinite(threshold):
            raise Rejected(f"a split of element {at} of {name!r} at {threshold}")
        return Constraint(bool(arrays["circuit"][k]), name, at, 1, threshold)

    def _tuned(self, splits: int) -> Tuned:
        if self.count >= len(self.arrays["slopes"]):
            raise Rejected("a leaf without slopes")
        row = self.arrays["slopes"][self.count].astype(np.float64) / STEPS
        multipliers = self.arrays["multipliers"][self.multiplier : self.multiplier + splits].astype(np.float64)
        self.count, self.multiplier = self.count + 1, self.multiplier + splits
        if len(multipliers) < splits or not (multipliers >= 0).all() or not np.isfinite(multipliers).all():
            raise Rejected("multipliers that are missing, negative or not finite")
        parts: list[dict[str, Array]] = [{}, {}, {}]
        start = 0
        for step in self.proof.relus:
            for part in parts:
                part[step.name] = row[start : start + step.size]
                start += step.size
        return Tuned(parts[0], parts[1], parts[2], multipliers)

    def done(self) -> None:
        arrays = self.arrays
        used = [(self.node, "tensor"), (self.split, "circuit"), (self.split, "at"), (self.split, "threshold")]
        used += [(self.count, "slopes"), (self.multiplier, "multipliers")]
        if any(number != len(arrays[name]) for number, name in used):
            raise Rejected("entries that belong to no tree")
