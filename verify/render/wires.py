"""Edges by name: which producer which consumer reads, and which of these a circuit keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bounds.stream import Read
    from specs.circuit import Circuit
    from specs.model import Model

__all__ = ["Wire", "circuit_wires", "wires"]


@dataclass(frozen=True, slots=True)
class Wire:
    """One edge: component `index` of `site`. `consumer` is the site, or one of its heads."""

    site: str
    index: int
    producer: str
    consumer: str
    kept: bool


def wires(reads: Iterable[Read], kept: Mapping[str, Sequence[int] | str]) -> list[Wire]:
    """The edges of consumers, in order; those of a consumer that `kept` does not name are all kept."""
    found: list[Wire] = []
    for read in reads:
        entry = kept.get(read.consumer, "all")
        for index, (producer, consumer) in enumerate(read.ends):
            held = entry == "all" if isinstance(entry, str) else index in entry
            found.append(Wire(read.consumer, index, producer, consumer, held))
    return found


def circuit_wires(circuit: Circuit, model: Model) -> list[Wire]:
    """The edges in a circuit's scope."""
    return wires(model.reads([site for site, granularity in circuit.scope.items() if granularity == "edge"]), circuit.kept)
