"""A circuit drawn layer by layer: a square a component, what became of it as its colour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from xml.etree.ElementTree import Element

from verify.render.html.svg import canvas, put, text, written

__all__ = ["STATES", "Layer", "State", "draw", "layers"]

State: TypeAlias = Literal["kept", "core", "unresolved", "ablated"]
STATES: dict[State, str] = {
    "core": "kept, and kept by every faithful circuit",
    "kept": "kept",
    "unresolved": "kept; whether it may go is undecided",
    "ablated": "ablated",
}

Kept: TypeAlias = Mapping[str, "Sequence[int] | str"]

_ROW, _CELL, _GAP, _LEFT, _TOP = 64, 12, 2, 130, 14
_LONGEST = 30
"""Letters of a site's name at most; the squares begin behind the longest."""
_SHOWN = 4096
"""Squares a site gets at most; what is more is told in words."""
_FILL = {"core": "#1f4e8c", "kept": "#6a9bd8", "unresolved": "#e0962c", "ablated": "#e4e6ea"}
"""Colours where no page's style sheet says otherwise: told apart in grey too."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One site: the components it has (None: not known), those kept, the state of some of the kept."""

    site: str
    granularity: str
    size: int | None
    kept: frozenset[int] | None
    """None: all, of a size that is not known."""
    marked: Mapping[int, State] = field(default_factory=dict[int, State])

    @property
    def said(self) -> str:
        """`17 of 32 neurons kept`."""
        plural = f"{self.granularity}s"
        if self.kept is None:
            return f"all {plural} kept"
        return f"{len(self.kept)} of {self.size} {plural} kept" if self.size is not None else f"{len(self.kept)} {plural} kept"

    def state(self, index: int) -> State:
        """What became of a component."""
        if self.kept is not None and index not in self.kept:
            return "ablated"
        return self.marked.get(index, "kept")


def layers(
    scope: Mapping[str, str],
    kept: Kept,
    sizes: Mapping[str, int],
    core: Iterable[str] = (),
    unresolved: Iterable[str] = (),
) -> list[Layer]:
    """The sites of a circuit. `core` and `unresolved` name components as `site[index]`; one of the core is in no doubt."""
    marks: dict[str, dict[int, State]] = {}
    given: tuple[tuple[State, Iterable[str]], ...] = (("unresolved", unresolved), ("core", core))
    for state, names in given:
        for name in names:
            found = re.fullmatch(r"(.*)\[(\d+)\]", name, re.DOTALL)
            if found:
                marks.setdefault(found[1], {})[int(found[2])] = state
    made: list[Layer] = []
    for site, granularity in scope.items():
        size, entry = sizes.get(site), kept[site]
        if isinstance(entry, str):
            every = None if size is None else frozenset(range(size))
            held = frozenset[int]() if entry == "none" else every
        else:
            held = frozenset(entry)
        made.append(Layer(site, str(granularity), size, held, marks.get(site, {})))
    return made


def draw(drawn: Sequence[Layer], standalone: bool = False) -> str:
    """The circuit as SVG, first site on top; `standalone` brings its own colours and a legend, for a file of its own."""
    rows = [_cells(layer) for layer in drawn]
    across = max((min(row, _ROW) for row in rows), default=1)
    left = max([_LEFT, *(12 + 7 * min(_LONGEST, len(layer.site)) for layer in drawn)])
    width = left + max(across, 32) * (_CELL + _GAP) + 10
    heights = [max(1, -(-min(row, _SHOWN) // _ROW)) * (_CELL + _GAP) + 26 for row in rows]
    height = _TOP + sum(heights) + (26 if standalone else 0)
    root = canvas(width, height, "the circuit, site by site")
    if standalone:
        fills = "".join(f".{state}{{fill:{colour}}}" for state, colour in _FILL.items())
        plain = "text{font-family:sans-serif;font-size:12px;fill:#222}.small{font-size:10px;fill:#555}"
        put(root, "style").text = plain + fills
    y = float(_TOP)
    for layer, count, tall in zip(drawn, rows, heights, strict=True):
        _row(root, layer, min(count, _SHOWN), left, y)
        if count > _SHOWN:
            text(root, left, y + tall - 12, f"… and {count - _SHOWN} more", "small")
        y += tall
    if standalone:
        _legend(root, left, y + 6)
    return written(root)


def _cells(layer: Layer) -> int:
    if layer.size is not None:
        return layer.size
    return max(layer.kept) + 1 if layer.kept else 0


def _row(root: Element, layer: Layer, count: int, left: float, y: float) -> None:
    text(root, 0, y + _CELL - 2, layer.site if len(layer.site) <= _LONGEST else f"{layer.site[: _LONGEST - 1]}…")
    text(root, 0, y + _CELL + 11, layer.said, "small")
    if layer.size is None and not count:
        text(root, left, y + _CELL - 2, "its size is not known here", "small")
    for i in range(count):
        state = layer.state(i)
        if layer.size is None and state == "ablated":
            continue
        x, row = left + i % _ROW * (_CELL + _GAP), i // _ROW
        place = {"x": x, "y": y + row * (_CELL + _GAP), "width": _CELL, "height": _CELL, "rx": 2}
        put(root, "rect", f"{layer.site}[{i}]: {STATES[state]}", class_=state, **place)


def _legend(root: Element, left: float, y: float) -> None:
    x = left
    for state in STATES:
        put(root, "rect", x=x, y=y, width=_CELL, height=_CELL, rx=2, class_=state)
        text(root, x + _CELL + 4, y + _CELL - 2, state)
        x += 100
