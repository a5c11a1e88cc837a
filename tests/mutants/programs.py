"""Unsound changes to the exact backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from bounds.backends import encode
from bounds.backends.milp import Search
from bounds.backends.program import Program
from bounds.backends.relaxation import Relaxation
from tests.mutants.planting import Patch, changed, mutant


@mutant("program")
def a_split_that_drops_a_side(patch: Patch) -> None:
    def one_side(original: Any, search: Search, expired: Any) -> None:
        before = len(search._stack)
        original(search, expired)
        if len(search._stack) > before:
            del search._stack[-1]

    changed(patch, Search, "step", one_side)


@mutant("program")
def chords_too_low(patch: Patch) -> None:
    def low(original: Any, program: Program, x: Any, v: Any, slope: float, a: Any, b: Any) -> None:
        original(program, x, v, slope, a, b / 2 if slope <= 1 else b * 2)

    changed(patch, Program, "bend", low)


@mutant("program")
def multipliers_believed_without_the_columns(patch: Patch) -> None:
    """The rows' part of the bound alone: what the columns' ends take off, the solver's tolerances included, is dropped."""

    def rows_alone(original: Any, relaxation: Relaxation, y: Any, cost: Any, constant: float) -> float:
        held = relaxation._ends
        relaxation._ends = [np.zeros_like(held[0]), np.zeros_like(held[1]), *held[2:]]
        found = original(relaxation, y, cost, constant)
        relaxation._ends = held
        return found

    changed(patch, Relaxation, "_bound", rows_alone)


@mutant("program")
def patches_that_all_take_their_lower_end(patch: Patch) -> None:
    def lowest(original: Any, encoder: Any, name: str, wanted: Any, columns: Any) -> Any:
        found = original(encoder, name, wanted, columns)
        if name not in encoder.circuit.sources and wanted.any():
            encoder.program.upper[-1] = encoder.program.lower[-1]
        return found

    changed(patch, encode._Encoder, "_patch", lowest)


@mutant("program")
def differences_of_the_wrong_sign(patch: Patch) -> None:
    def crossed(original: Any, encoder: Any, node: Any, circuit: Any, model: Any, columns_c: Any, columns_m: Any) -> None:
        original(encoder, node, model, circuit, columns_m, columns_c)

    changed(patch, encode._Encoder, "_differ", crossed)
