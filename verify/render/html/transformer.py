"""The edges of a transformer drawn as it computes: a column of heads a layer, MLPs in a row below, from input to logits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element

from verify.render.html.svg import canvas, put, text, written
from verify.render.wires import Wire

__all__ = ["draw_transformer"]

_WIDE, _TALL, _COLUMN, _ROW, _MARGIN, _TOP, _BELOW = 62, 38, 138, 56, 14, 36, 44
_BESIDE = 2.4
_PORTS = {"q": "query", "k": "key", "v": "value", "": "MLP input or logits"}
_COLOUR = {"q": "#d55e00", "k": "#009e73", "v": "#0072b2", "": "var(--ink,#444)"}
"""Told apart by the colour-blind too (Okabe and Ito 2008); heads have a port for each."""
_STYLE = (
    "text{font-family:sans-serif;font-size:12px;fill:#222}.small{font-size:10.5px;fill:#666}.port{font-size:8.5px;fill:#666}"
    "path{fill:none}.wire-ablated{stroke:#c3c8d0;stroke-width:.6;stroke-dasharray:2 3;opacity:.55}"
    ".box{fill:var(--paper,#fff);stroke:var(--ink,#222);stroke-width:1.3}"
    ".box-ablated{fill:var(--paper,#fff);stroke:#b9bec7;stroke-width:.8;stroke-dasharray:3 2}.gone{fill:#a3a9b3}"
    + "".join(
        f".wire-kept-{port}{{stroke:{colour};stroke-width:1.9}}.end-{port}{{fill:{colour}}}" for port, colour in _COLOUR.items()
    )
)


@dataclass(frozen=True, slots=True)
class _Edge:
    """From a part of the model to another, or to one of a head's three inputs; and the component that it is."""

    start: str
    end: str
    port: str
    wire: Wire


@dataclass(frozen=True, slots=True)
class _Box:
    """Where a part is drawn: the middle of its left side."""

    x: float
    y: float
    said: str
    head: bool

    @property
    def out(self) -> tuple[float, float]:
        """Where its edges begin."""
        return self.x + _WIDE, self.y

    def port(self, name: str) -> tuple[float, float]:
        """Where edges end."""
        return self.x, self.y + (("qkv".index(name) - 1) * _TALL / 3.2 if name else 0)


def draw_transformer(drawn: Sequence[Wire]) -> str:
    """Edges that all have roles as SVG: kept ones in their port's colour, ablated ones dashed; a part of which no kept edge
    starts is dashed too. Lines tell what they are under the mouse."""
    edges = [_edge(wire) for wire in drawn]
    boxes = _boxes([name for edge in edges for name in (edge.start, edge.end)])
    width = max(box.x for box in boxes.values()) + _WIDE + _MARGIN
    bottom = max(box.y for box in boxes.values()) + _TALL / 2
    root = canvas(width, bottom + _BELOW, "the circuit's edges: what reads what")
    put(root, "style").text = _STYLE
    for layer in sorted({edge.end.partition(".")[0] for edge in edges if edge.port}, key=lambda name: int(name[1:])):
        text(root, boxes[f"{layer}.h0"].x + _WIDE / 2, 12, f"layer {layer[1:]}", "small", "middle")
    for edge in sorted(edges, key=lambda edge: edge.wire.kept):  # what is kept is drawn above
        _line(root, edge, boxes)
    alive = {edge.start for edge in edges if edge.wire.kept} | {"logits"}
    for name, box in boxes.items():
        _part(root, box, name in alive, {edge.port for edge in edges if edge.end == name and edge.wire.kept})
    _legend(root, bottom + 30, sum(wire.kept for wire in drawn), len(drawn))
    return written(root)


def _edge(wire: Wire) -> _Edge:
    start, _, end = wire.role.partition("->")
    end, _, port = end.partition("<")
    return _Edge(start, end, port.rstrip(">"), wire)


def _boxes(names: Iterable[str]) -> dict[str, _Box]:
    """A place for each part. Columns: the input, then each layer's heads and its MLP, then the logits."""
    found: dict[str, tuple[float, int | None]] = {}  # the stage, and the head's row
    for name in dict.fromkeys(names):
        match = re.fullmatch(r"a(\d+)\.h(\d+)|m(\d+)", name)
        if match is None:
            found[name] = (-1.0 if name == "input" else float("inf"), None)
        elif match[3] is not None:
            found[name] = (int(match[3]) + 0.5, None)
        else:
            found[name] = (float(match[1]), int(match[2]))
    columns = {stage: i for i, stage in enumerate(sorted({stage for stage, _ in found.values()}))}
    rows = 1 + max((row for _, row in found.values() if row is not None), default=0)
    middle, lane = _TOP + (rows - 1) * _ROW / 2, _TOP + rows * _ROW
    boxes: dict[str, _Box] = {}
    for name, (stage, row) in found.items():
        y = _TOP + row * _ROW if row is not None else lane if name.startswith("m") else middle
        said = name[1:].replace(".h", ".") if row is not None else f"MLP {name[1:]}" if name.startswith("m") else name
        boxes[name] = _Box(_MARGIN + columns[stage] * _COLUMN, y, said, row is not None)
    return boxes


def _line(root: Element, edge: _Edge, boxes: dict[str, _Box]) -> None:
    start, end = boxes[edge.start], boxes[edge.end]
    beside = _BESIDE * ("qkv".index(edge.port) - 1) if edge.port else 0.0  # three that go the same way are seen as three
    points = [*((x, y + beside) for x, y in [start.out, *_between(start, end, boxes)]), end.port(edge.port)]
    path, kept = f"M{points[0][0]:.6g} {points[0][1]:.6g}", edge.wire.kept
    for (x1, y1), (x2, y2) in pairwise(points):
        middle = (x1 + x2) / 2
        path += f"C{middle:.6g} {y1:.6g} {middle:.6g} {y2:.6g} {x2:.6g} {y2:.6g}"
    said = f"{edge.wire.site}[{edge.wire.index}]: {edge.wire.role}, {'kept' if kept else 'ablated'}"
    put(root, "path", said, class_=f"wire-kept-{edge.port}" if kept else "wire-ablated", d=path)


def _between(start: _Box, end: _Box, boxes: dict[str, _Box]) -> list[tuple[float, float]]:
    """Where a line from one box to another passes the columns in between: straight on, or through the gap that is nearest."""
    found: list[tuple[float, float]] = []
    for x in sorted({box.x for box in boxes.values() if start.x < box.x < end.x}):
        taken = [box.y for box in boxes.values() if box.x == x]
        straight = start.y + (end.y - start.y) * (x - start.x) / (end.x - start.x)
        gaps = [straight, *(y + side * _ROW / 2 for y in taken for side in (-1, 1))]
        y = min((gap for gap in gaps if all(abs(gap - y) > _TALL / 2 + 3 for y in taken)), key=lambda gap: abs(gap - straight))
        found += [(x, y), (x + _WIDE, y)]
    return found


def _part(root: Element, box: _Box, alive: bool, read: set[str]) -> None:
    """A box with its name, and a dot at each input that something kept ends at."""
    state, round_ = "box" if alive else "box-ablated", 5 if box.head else 0
    put(root, "rect", class_=state, x=box.x, y=box.y - _TALL / 2, width=_WIDE, height=_TALL, rx=round_)
    text(root, box.x + _WIDE / 2 + (4 if box.head else 0), box.y + 4, box.said, "label" if alive else "gone", "middle")
    for port in "qkv" if box.head else "":
        text(root, box.x + 6, box.port(port)[1] + 3, port, "port" if port in read else "port gone")
    for port in sorted(read):
        x, y = box.port(port)
        put(root, "circle", cx=x, cy=y, r=2.6, class_=f"end-{port}")


def _legend(root: Element, y: float, kept: int, of: int) -> None:
    x = float(_MARGIN)
    text(root, x, y, f"{kept} of {of} edges kept, read as", "small")
    x += 150
    for port, said in _PORTS.items():
        put(root, "path", class_=f"wire-kept-{port}", d=f"M{x:.6g} {y - 3.5:.6g}h22")
        text(root, x + 27, y, said, "small")
        x += 40 + 6.2 * len(said)
