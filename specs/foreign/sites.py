"""From a tool's names to components of a model's sites: by a map that the user writes, or by TransformerLens's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, get_args

from specs.circuit import Granularity
from specs.document import Value, read_document
from specs.errors import InputError, nearest
from specs.foreign.circuit import Kind, Node
from specs.foreign.expect import Place, integer, listing, mapping, text
from specs.model import Model, Site

__all__ = ["OUTSIDE", "Sites", "Spot", "read_map"]

_COARSE: tuple[Granularity, ...] = ("head", "feature", "channel", "unit", "neuron", "edge")
_BY_NAME: Mapping[str, Granularity] = {str(known): known for known in get_args(Granularity)}
_KIND = "kind:"

_NAMED: Mapping[Kind, re.Pattern[str]] = {
    "head": re.compile(r"a(\d+)|blocks\.(\d+)\.attn\.hook_(?:result|z)(?:\..*)?"),
    "mlp": re.compile(r"m(\d+)|blocks\.(\d+)\.hook_mlp_out(?:\..*)?"),
    "neuron": re.compile(r"blocks\.(\d+)\.mlp\.hook_post(?:\..*)?"),
    "input": re.compile(r"(?:input|hook_embed)(?:\..*)?()"),
}
"""What sites are called in models that keep TransformerLens's names, slashes read as dots; the group is the layer."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Components of a site."""

    site: str
    granularity: Granularity
    indices: tuple[int, ...]


class _Outside:
    __slots__ = ()


OUTSIDE = _Outside()
"""Said of a name that is no component here: it is outside the scope, and so always kept."""

Entry: TypeAlias = "Spot | _Outside"


def read_map(file: str, model: Model) -> dict[str, Entry]:
    """A map file: `{"a0.h3": ["SITE", 3], "m0": ["SITE", "all"], "input": null, "kind:error": null}`, by `Node.names`.

    An entry is `[site, index]`, `[site, [index, ...]]` or `[site, "all"]`, with a granularity as third where not the site's
    coarsest is meant; null puts a name, or after `kind:` all names of a kind that have no entry, outside the scope.
    Raises: InputError: malformed; no such site, granularity or component; two names for one component.
    """
    entries = mapping(read_document(file), Place(file))
    sites = {site.name: site for site in model.sites()}
    found: dict[str, Entry] = {}
    taken: dict[tuple[str, int], str] = {}
    for name, value in entries.items():
        place = Place(file, name)
        if value is None:
            found[name] = OUTSIDE
            continue
        if name.startswith(_KIND):
            raise place.error("a site for a whole kind", "null", "map names one by one")
        spot = found[name] = _spot(value, place, sites)
        for index in spot.indices:
            if other := taken.get((spot.site, index)):
                raise place.error(f"{spot.site}[{index}], which {other!r} stands for too", "a component for one name only")
            taken[spot.site, index] = name
    return found


def _spot(value: Value, place: Place, sites: Mapping[str, Site]) -> Spot:
    parts = listing(value, place)
    if len(parts) not in (2, 3):
        raise place.error(f"a list of {len(parts)}", "[site, index] or [site, index, granularity], or null")
    name = text(parts[0], place.at(0))
    if name not in sites:
        raise place.at(0).error(f"the model has no site {name!r}", nearest(name, sites), "`certify show MODEL` lists the sites")
    site = sites[name]
    granularity = _coarsest(site)
    if len(parts) == 3:
        said = text(parts[2], place.at(2))
        granularity = _BY_NAME.get(said) if said in site.granularities else None
        if granularity is None:
            raise place.at(2).error(f"granularity {said!r}", f"one that {name} has", nearest(said, site.granularities))
    count, index = site.granularities[granularity], parts[1]
    if index == "all":
        return Spot(name, granularity, tuple(range(count)))
    given = listing(index, place.at(1)) if isinstance(index, list) else [index]
    indices = tuple(integer(entry, place.at(1)) for entry in given)
    for entry in indices:
        if entry >= count:
            raise place.at(1).error(f"component {entry}; site {name} has {count}", f"0..{count - 1} of {granularity}s")
    if len(set(indices)) < len(indices) or not indices:
        raise place.at(1).error("an index twice, or none", 'indices, each once, or "all"')
    return Spot(name, granularity, indices)


def _coarsest(site: Site) -> Granularity:
    return next(known for known in _COARSE if site.granularities.get(known))


class Sites:
    """Where the components of a tool's circuit are in a model. `given`: the user's map, None to go by names."""

    def __init__(self, model: Model, file: str, given: Mapping[str, Entry] | None) -> None:
        self.model, self.file, self.given = model, file, given
        self._by_name = _named(model) if given is None else {}

    def find(self, node: Node) -> Entry:
        """Where a node is. Raises: InputError: nowhere that is known."""
        if self.given is not None:
            for key in (*node.names, f"{_KIND}{node.kind}"):
                if key in self.given:
                    return self.given[key]
        elif found := self._by_name.get((node.kind, node.layer if node.kind != "input" else None)):
            if len(found) > 1:
                said = f"{node.name!r} may be any of {', '.join(site.name for site in found)}"
                raise InputError(self.file, "", said, "one site for each name", "say which with --map")
            return self._spot(found[0], node)
        if node.kind == "output" or (node.kind == "input" and node.kept):
            return OUTSIDE
        found = f"{node.name!r} ({node.kind}) is no site of {self.model.source} by name"
        remedy = f'put it into --map: "{node.name}": ["SITE", INDEX], or null for outside the scope'
        raise InputError(self.file, "", found, "a site for each component", remedy)

    def universe(self, kinds: Iterable[Kind]) -> list[tuple[str, Spot]]:
        """All components there are, with names: those of the map, or the model's that are called so."""
        if self.given is not None:
            return [(name, entry) for name, entry in self.given.items() if isinstance(entry, Spot)]
        found: list[tuple[str, Spot]] = []
        for (kind, layer), sites in self._by_name.items():
            if kind in kinds and layer is not None:
                for site in sites:
                    whole = self._spot(site, Node(site.name, kind, layer))
                    parts = [whole] if kind == "mlp" else [Spot(site.name, whole.granularity, (i,)) for i in whole.indices]
                    found += [(f"{site.name}[{part.indices[0]}]", part) for part in parts]
        return found

    def _spot(self, site: Site, node: Node) -> Spot:
        wanted = node.kind if node.kind == "head" else _coarsest(site)
        if node.kind == "neuron":  # at all positions, where there are several
            wanted = "unit" if "unit" in site.granularities else "neuron"
        granularity = _BY_NAME.get(wanted) if wanted in site.granularities else None
        if granularity is None:
            said = f"site {site.name}, where {node.name!r} is by name, has no granularity {wanted!r}"
            raise InputError(self.file, "", said, "components to ablate", "say with --map which they are")
        count = site.granularities[granularity]
        if node.index is None:
            return Spot(site.name, granularity, tuple(range(count)))
        if node.index >= count:
            said = f"{node.name!r}; site {site.name} has {count} {granularity}s"
            raise InputError(self.file, "", said, "the model that the circuit was found in")
        return Spot(site.name, granularity, (node.index,))


def _named(model: Model) -> dict[tuple[Kind, int | None], list[Site]]:
    found: dict[tuple[Kind, int | None], list[Site]] = {}
    for site in model.sites():
        plain = site.name.strip("/").replace("/", ".")
        for kind, pattern in _NAMED.items():
            if match := pattern.fullmatch(plain):
                layer = next((int(group) for group in match.groups() if group), None)
                found.setdefault((kind, layer), []).append(site)
    return found
