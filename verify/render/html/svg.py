"""SVG by elements: whatever is put in is escaped on the way out."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

__all__ = ["canvas", "put", "text", "written"]


def canvas(width: float, height: float, title: str) -> Element:
    """An empty drawing, with a title for those who cannot see it."""
    root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {width:g} {height:g}", "role": "img"})
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    SubElement(root, "title").text = title
    return root


def put(parent: Element, tag: str, hint: str = "", **attributes: object) -> Element:
    """Add a shape; `hint` shows under the mouse. `class_` stands for `class`, other underscores for hyphens."""
    named = {("class" if key == "class_" else key.replace("_", "-")): _plain(value) for key, value in attributes.items()}
    shape = SubElement(parent, tag, named)
    if hint:
        SubElement(shape, "title").text = hint
    return shape


def text(parent: Element, x: float, y: float, said: str, class_: str = "label", anchor: str = "start") -> None:
    """Add a line of text, on its baseline."""
    put(parent, "text", x=x, y=y, class_=class_, text_anchor=anchor).text = said


def written(root: Element) -> str:
    """The drawing as text, without an XML declaration: fit for a file and for a page."""
    return ElementTree.tostring(root, encoding="unicode")


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
