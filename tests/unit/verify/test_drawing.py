"""Circuits drawn: what of a transformer's edges is where, and what of it can be read off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from specs.model import load_model
from verify.render.html.drawing import draw, layers
from verify.render.html.graph import draw_wires
from verify.render.wires import Wire, wires

_MODELS = Path(__file__).resolve().parents[3] / "benchmarks" / "models"
_SVG = "{http://www.w3.org/2000/svg}"


def _induction(kept: set[str]) -> list[Wire]:
    model = load_model("induction.onnx", shown="net", where="", base=_MODELS)
    return [replace(wire, kept=wire.role in kept) for wire in wires(model, model.edges(), {})]


def _classes(root: ElementTree.Element, tag: str) -> dict[str, str]:
    """What each shape says under the mouse, and its class."""
    return {shape.findtext(f"{_SVG}title") or "": shape.get("class") or "" for shape in root.iter(f"{_SVG}{tag}") if len(shape)}


def test_every_edge_of_a_transformer_is_drawn_in_its_port() -> None:
    drawn = _induction({"input->a0.h2<v>", "a0.h2->a1.h0<k>", "a1.h0->logits"})
    root = ElementTree.fromstring(draw_wires(drawn))
    lines = _classes(root, "path")
    assert len(lines) == len(drawn) == 81
    kept = {said: state for said, state in lines.items() if state != "wire-ablated"}
    assert {said.split(": ")[1]: state for said, state in kept.items()} == {
        "input->a0.h2<v>, kept": "wire-kept-v",
        "a0.h2->a1.h0<k>, kept": "wire-kept-k",
        "a1.h0->logits, kept": "wire-kept-",
    }
    assert "3 of 81 edges kept" in "".join(root.itertext())


def test_parts_that_nothing_kept_starts_from_are_dashed() -> None:
    root = ElementTree.fromstring(draw_wires(_induction({"input->a0.h2<v>", "a0.h2->logits"})))
    boxes = [shape.get("class") for shape in root.iter(f"{_SVG}rect")]
    assert boxes.count("box") == 3 and boxes.count("box-ablated") == 7  # input, head 0.2 and the logits; the other heads


def test_lines_pass_between_boxes() -> None:
    """No line crosses a box on its way: where it passes a column it keeps clear of every box there."""
    root = ElementTree.fromstring(draw_wires(_induction(set())))
    boxes = [[float(shape.get(key) or 0) for key in ("x", "y", "width", "height")] for shape in root.iter(f"{_SVG}rect")]
    for line in root.iter(f"{_SVG}path"):
        if not len(line):
            continue
        numbers = [float(n) for n in (line.get("d") or "").replace("M", " ").replace("C", " ").split()]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))[::3]  # ends of the curves
        for x, y in points[1:-1]:
            assert not any(left <= x <= left + wide and top <= y <= top + tall for left, top, wide, tall in boxes)


def test_long_names_of_sites_are_drawn_in_full() -> None:
    site = "blocks.0.attn.hook_z"
    text = draw(layers({site: "head"}, {site: (1,)}, {site: 4}), standalone=True)
    assert site in text
    root = ElementTree.fromstring(text)
    assert min(float(shape.get("x") or 0) for shape in root.iter(f"{_SVG}rect")) >= 7 * len(site)
