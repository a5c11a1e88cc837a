"""A circuit of another tool's as one of ours."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace

from specs.circuit import Circuit, Granularity, ModelFile
from specs.document import read_bytes
from specs.errors import InputError
from specs.foreign.circuit import Node, ToolCircuit
from specs.foreign.level import components, some
from specs.foreign.roles import edges_by_role
from specs.foreign.select import Selection
from specs.foreign.sites import Sites, Spot, read_map
from specs.model import Model

__all__ = ["Imported", "place"]


@dataclass(frozen=True, slots=True)
class Imported:
    """The circuit; of `scope` components it keeps `kept`. `dead`: kept ones that lie on no path of the file's, by the tool's
    names. `notes`: what the import lost or chose, a sentence each."""

    circuit: Circuit
    kept: int
    scope: int
    dead: tuple[str, ...]
    notes: tuple[str, ...]


def place(
    given: ToolCircuit,
    model: Model,
    file: str,
    *,
    map_file: str | None = None,
    selection: Selection | None = None,
    as_nodes: bool = False,
) -> Imported:
    """The circuit of `given` (read from `file`) in `model`.

    Guarantees: a component is kept exactly if the tool's circuit keeps it; every component that the tool's circuit ablates is
    ablated. Components of a site in scope that no name stands for are kept, and `notes` says so. Raises: InputError: a name
    stands for no site; a name outside the scope is ablated; as `components`.
    """
    selection = selection or Selection()
    entries = None if map_file is None else read_map(map_file, model)
    roles = edges_by_role(model) if map_file is None and given.edges else {}
    found = components(given, selection, file, as_nodes=as_nodes, mapped=entries, roles=roles)
    edges = map_file is None and any(node.kind == "edge" for node in found.parts)
    sites = Sites(model, file, entries)
    table = _Table(file)
    for node in found.parts:
        spot = roles[node.name] if edges else sites.find(node)
        if isinstance(spot, Spot):
            table.put(node, spot)
        elif not node.kept and node.kind != "output":
            needed = "a site for every component that is ablated"
            raise InputError(
                file, "", f"the circuit ablates {node.name!r}, which is outside the scope", needed, "map it to one"
            )
    if given.listed == "kept" and not edges and not any(node.kind == "input" for node in given.nodes):
        found = replace(found, notes=(*found.notes, "the file lists no input node: the model's input is kept"))
    if given.listed == "all":
        names = {name for part in found.parts for name in part.names}
        for name, entry in (entries or {}).items():
            if name not in names and isinstance(entry, Spot):
                raise InputError(map_file or "", f"$.{name}", f"{file} has no {name!r}", "names of this file", "delete it")
    else:
        for name, spot in roles.items() if edges else sites.universe(given.universe):
            table.rest(name, spot, kept=given.listed == "removed")
    return _imported(given, model, file, selection, found.dead, list(found.notes), table)


class _Table:
    """Which components are kept, site by site."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.granularity: dict[str, Granularity] = {}
        self.kept: defaultdict[str, dict[int, bool]] = defaultdict(dict)
        self.by: dict[tuple[str, int], str] = {}

    def put(self, node: Node, spot: Spot) -> None:
        said = self._said(node, spot)
        self._same(node.name, spot)
        for index, kept in zip(spot.indices, said, strict=True):
            if other := self.by.get((spot.site, index)):
                found = f"{node.name!r} and {other!r} are both {spot.site}[{index}]"
                raise InputError(self.file, "", found, "a component for each name", "say with --map which they are")
            self.by[spot.site, index] = node.name
            self.kept[spot.site][index] = kept

    def rest(self, name: str, spot: Spot, kept: bool) -> None:
        """What the file does not name."""
        self._same(name, spot)
        for index in spot.indices:
            self.kept[spot.site].setdefault(index, kept)

    def _said(self, node: Node, spot: Spot) -> tuple[bool, ...]:
        whole = (bool(node.kept),) * len(spot.indices)
        if node.units is None or not node.kept or all(node.units):
            return whole
        if len(node.units) != len(spot.indices):
            found = f"the circuit keeps {sum(node.units)} of {len(node.units)} neurons of {node.name!r}"
            needed = f"as many components; it stands for {len(spot.indices)} of {spot.site}"
            raise InputError(self.file, "", found, needed, "map it to the site of these neurons")
        return node.units

    def _same(self, name: str, spot: Spot) -> None:
        if self.granularity.setdefault(spot.site, spot.granularity) != spot.granularity:
            found = f"{name!r} is a {spot.granularity} of {spot.site}, others are {self.granularity[spot.site]}s"
            raise InputError(self.file, "", found, "one granularity a site", "")


def _imported(
    given: ToolCircuit, model: Model, file: str, selection: Selection, dead: tuple[str, ...], notes: list[str], table: _Table
) -> Imported:
    scope: dict[str, Granularity] = {}
    kept: dict[str, tuple[int, ...] | str] = {}
    size = total = 0
    for site in model.sites():
        if site.name not in table.kept:
            continue
        granularity = scope[site.name] = table.granularity[site.name]
        count, said = site.granularities[granularity], table.kept[site.name]
        if len(said) < count:
            notes.append(
                f"{count - len(said)} of {count} {granularity}s of {site.name} have no name in the file: they are kept"
            )
        stays = tuple(i for i in range(count) if said.get(i, True))
        size, total = size + len(stays), total + count
        kept[site.name] = "all" if len(stays) == count else stays or "none"
    if not scope:
        raise InputError(file, "", "no component of it is in the scope", "at least one", "map one to a site")
    if dead:
        notes.append(f"dead, on no path from an input to an output, and kept as given: {some(dead)}")
    provenance = {
        "tool": given.tool,
        "file": file,
        "sha256": hashlib.sha256(read_bytes(file)).hexdigest(),
        "selection": selection.said(),
        "notes": list(notes),
    }
    named = ModelFile(path=model.source, sha256=model.sha256)
    circuit = Circuit.model_validate(
        {"format": "certify.circuit/1", "model": named, "scope": scope, "kept": kept, "provenance": provenance}
    )
    return Imported(circuit, size, total, dead, tuple(notes))
