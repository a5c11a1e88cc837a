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
    """One edge: component `index` of `site`. `consumer` is the site, or one of its heads; `role` is its name in a transformer
    (`a0.h3->m1`, `input->a0.h1<q>`), empty elsewhere."""

    site: str
    index: int
    producer: str
    consumer: str
    kept: bool
    role: str = ""


def wires(model: Model, reads: Iterable[Read], kept: Mapping[str, Sequence[int] | str]) -> list[Wire]:
    """The edges of a model's consumers, in order; those of a consumer that `kept` does not name are all kept."""
    from specs.foreign.roles import edges_by_role

    found: list[Wire] = []
    roles = {(spot.site, index): name for name, spot in edges_by_role(model).items() for index in spot.indices}
    for read in reads:
        entry = kept.get(read.consumer, "all")
        for index, (producer, consumer) in enumerate(read.ends):
            held = entry == "all" if isinstance(entry, str) else index in entry
            role = roles.get((read.consumer, index), "")
            found.append(Wire(read.consumer, index, producer, consumer, held, role))
    return found


def circuit_wires(circuit: Circuit, model: Model) -> list[Wire]:
    """The edges in a circuit's scope."""
    sites = [site for site, granularity in circuit.scope.items() if granularity == "edge"]
    return wires(model, model.reads(sites), circuit.kept) if sites else []
