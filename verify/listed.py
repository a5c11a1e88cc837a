"""Certificates of several circuits: the minimal ones that an enumeration found, or the one that refutes a minimality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from verify.branch.leaves import Refused
from verify.certificate import Arrays, Files, attempted, publish, question_of, trees_of
from verify.check.certificate import MANIFEST, PROOF
from verify.check.minimality import of_circuit
from verify.minimize.marco import Item
from verify.minimize.oracle import Components
from verify.refutations import Numbers
from verify.search.findings import enumerated, masked
from verify.search.run import Search
from verify.work.budget import Budget

if TYPE_CHECKING:
    from specs.encode import Problem
    from verify.report import Enumeration

__all__ = ["attest_listed", "shown_list"]


def attest_listed(
    problem: Problem, files: Files, search: Search, circuits: Sequence[Components], complete: bool, budget: Budget
) -> tuple[list[Components], bool]:
    """Add to a certificate of minimality that is there other circuits, which are certified too, and with `complete` that they
    are all minimal ones. Returns those that it holds then, and whether it shows that. Raises: as `attest`."""
    question, folder, held = question_of(problem, files), Path(files.folder), list[Components]()
    numbers, stated = Numbers(search, question), json.loads((folder / MANIFEST).read_text())["minimality"]
    with np.load(folder / PROOF, allow_pickle=False) as found:
        arrays: Arrays = {name: found[name] for name in found.files}
    for circuit in circuits:
        try:
            own = trees_of(masked(problem, circuit), of_circuit(question, numbers.of(circuit)), files, lambda: budget.expired)
        except Refused:
            continue  # what is not certified is not listed, and the list not complete
        arrays.update({f"listed.{len(held)}.{name}": array for name, array in own.items()})
        held.append(circuit)
    arrays["listed.kept"] = numbers.packed([numbers.of(circuit) for circuit in held])
    for shown in (True, False) if complete and len(held) == len(circuits) else (False,):
        try:
            publish(question, arrays, "certified", files, {"minimality": {**stated, "complete": shown}})
        except Refused:
            if not shown:
                raise
        else:
            return held, shown
    raise AssertionError("the last one returns or raises")


def shown_list(
    problem: Problem, files: Files, search: Search, items: Sequence[Item], complete: bool, budget: Budget
) -> Enumeration:
    """What an enumeration found, cut down to what the certificate shows."""
    circuits = [item.members for item in items if item.kind == "circuit"]
    made = attempted(lambda: attest_listed(problem, files, search, circuits, complete, budget), budget)
    held, complete = ([], False) if isinstance(made, str) else made
    return enumerated(problem, [item for item in items if item.kind != "circuit" or item.members in held], complete)
