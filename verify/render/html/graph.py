"""Edges drawn: those of a transformer as it computes; of other models producers on the left, consumers on the right, both in
order of evaluation, a line for each edge."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from verify.render.html.svg import canvas, put, text, written
from verify.render.html.transformer import draw_transformer
from verify.render.wires import Wire

__all__ = ["draw_wires"]

_STEP, _SIDE, _BETWEEN, _TOP = 18, 230, 300, 22
_LONGEST = 34
_STYLE = (
    "text{font-family:sans-serif;font-size:11px;fill:#222}.wire-kept{stroke:#1f4e8c;stroke-width:1.4}"
    ".wire-ablated{stroke:#b9bec7;stroke-width:.7;stroke-dasharray:2 3}"
)
"""Of its own, in pages too: lines are told apart without colour."""


def draw_wires(drawn: Sequence[Wire]) -> str:
    """The edges as SVG: kept ones drawn through, ablated ones dashed. Lines and names tell what they are under the mouse."""
    if drawn and all(wire.role for wire in drawn):
        return draw_transformer(drawn)
    producers, consumers = (list(dict.fromkeys(ends)) for ends in ([w.producer for w in drawn], [w.consumer for w in drawn]))
    height = _TOP + _STEP * max(len(producers), len(consumers), 1) + 6
    root = canvas(2 * _SIDE + _BETWEEN, height, "the circuit's edges: what reads what")
    put(root, "style").text = _STYLE
    text(root, _SIDE, 12, "producers", "small", "end")
    text(root, _SIDE + _BETWEEN, 12, "read by", "small")
    at = {name: _TOP + _STEP * (i + 0.5) for i, name in enumerate(producers)}
    to = {name: _TOP + _STEP * (i + 0.5) for i, name in enumerate(consumers)}
    for wire in sorted(drawn, key=lambda wire: wire.kept):  # what is kept is drawn above
        state = "kept" if wire.kept else "ablated"
        ends = {"x1": _SIDE + 6, "y1": at[wire.producer], "x2": _SIDE + _BETWEEN - 6, "y2": to[wire.consumer]}
        put(
            root,
            "line",
            f"{wire.site}[{wire.index}]: {wire.producer} -> {wire.consumer}, {state}",
            class_=f"wire-{state}",
            **ends,
        )
    for name, y in at.items():
        _named(root, name, _SIDE, y, "end")
    for name, y in to.items():
        _named(root, name, _SIDE + _BETWEEN, y, "start")
    return written(root)


def _named(root: Element, name: str, x: float, y: float, anchor: str) -> None:
    text(root, x, y + 4, name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}", "wire-name", anchor)
