"""All minimal circuits of any claim, the smallest first: every circuit is looked at that holds no certified one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from verify.minimize.exhaustive import of_size, survivors
from verify.minimize.marco import Item
from verify.minimize.oracle import Answer, Components, Masks, Oracle

__all__ = ["ascending"]


def ascending(oracle: Oracle) -> Iterator[Item]:
    """Every circuit that is certified and holds no smaller certified one, each once, by size; at its end they are all there
    are, up to those that stayed open (kind `open`). A circuit with an open one inside is not `proven` minimal.

    Needs no monotonicity. Cost: a look at the witnesses at hand for each of `2^size` circuits less those above a certified
    one, in batches; an attack and a proof for each that no witness refutes.
    """
    members = list(range(oracle.size))
    minimal: list[Components] = []
    open_: list[Components] = []
    for size in range(oracle.size + 1):
        for masks in of_size(members, size, oracle.size):
            for circuit, answer in survivors(oracle, masks[~_above(masks, minimal)]):
                if answer is Answer.YES:
                    minimal.append(circuit)
                    yield Item("circuit", circuit, not any(other < circuit for other in open_))
                else:
                    open_.append(circuit)
                    yield Item("open", circuit, False)


def _above(masks: Masks, circuits: list[Components]) -> Masks:
    """Which rows hold one of the circuits."""
    found = np.zeros(len(masks), dtype=bool)
    for circuit in circuits:
        found |= masks[:, sorted(circuit)].all(1)
    return found
