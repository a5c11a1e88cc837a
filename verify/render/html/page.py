"""From a report, a circuit or a model to the page's text. What the template is given is worked out here; it only lays out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from verify.render.html.chart import bracket
from verify.render.html.drawing import STATES, Layer, draw, layers
from verify.render.html.graph import draw_wires
from verify.render.html.image import as_image, difference_png, image_png
from verify.render.table import flat, minimality_said, ranges
from verify.render.wires import Wire, wires
from verify.report import rounded_down

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.model import Model
    from verify.report import Report, WitnessReport

__all__ = ["circuit_page", "model_page", "report_layers", "report_page"]

_VALUES = 50
"""Entries that a table of numbers shows, those that differ most."""
_CIRCUITS = 200
"""Rows that the matrix of minimal circuits shows."""

_OPENING = {
    "certified": "Proven, for the whole region and all patched values, not for samples:",
    "falsified": "Refuted by a counterexample, which was replayed on the original model. What was claimed, and is not so:",
    "unknown": "Neither proven nor refuted within the budget; that is no “no”. What was asked:",
}


def report_page(report: Report, name: str, beside: str = ".") -> str:
    """The page of a report. `name` is what it is called; links count from the directory `beside`."""
    told = report.minimality
    drawn = report_layers(report)
    found: dict[str, Any] = {
        "title": f"{report.verdict}: {name}",
        "name": name,
        "report": report,
        "open": any(claim.reason for claim in report.claims),
        "opening": _OPENING[report.verdict],
        "drawing": Markup(draw(drawn)) if drawn else "",
        "states": _states(drawn),
        "minimality": minimality_said(told) if told is not None else [],
        "chart": Markup(bracket(report.search.trace, report.time_s)) if report.search is not None else "",
        "matrix": _matrix(report),
        "witness": _witness(report.witness) if report.witness is not None else None,
        "certificate": _link(report.certificate, beside) if report.certificate is not None else "",
    }
    return _page("report.html", found)


def circuit_page(circuit: Circuit, sizes: Mapping[str, int], name: str, edges: Sequence[Wire] = ()) -> str:
    """The page of a circuit. `sizes`: how many components each site has, as far as that is known; `edges`: those in scope."""
    drawn = layers(circuit.scope, circuit.kept, sizes)
    found = {"title": name, "name": name, "circuit": circuit, "layers": drawn, "drawing": Markup(draw(drawn))}
    found |= {"edges": edges, "graph": Markup(draw_wires(edges)) if edges else ""}
    return _page("circuit.html", {**found, "states": _states(drawn), "ranges": ranges})


def model_page(model: Model, name: str) -> str:
    """The page of a model: its sites in order of evaluation."""
    edges = wires(model, model.edges(), {})
    drawing = Markup(draw_wires(edges)) if edges else ""
    return _page("model.html", {"title": name, "name": name, "model": model, "graph": model.graph, "drawing": drawing})


def report_layers(report: Report) -> list[Layer]:
    """The circuit of a report as it is drawn; empty where it holds none."""
    circuit, told = report.circuit, report.minimality
    if circuit is None:
        return []
    core = (told.core or []) if told is not None else []
    return layers(circuit.scope, circuit.kept, circuit.sizes, core, told.unresolved if told is not None else [])


def _page(template: str, found: Mapping[str, Any]) -> str:
    # Names come from files: everything is escaped, except drawings, which are made of elements.
    environment = Environment(
        loader=PackageLoader("verify.render.html", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["proven"] = rounded_down  # pyright: ignore[reportArgumentType]
    environment.filters["short"] = _short  # pyright: ignore[reportArgumentType]
    return environment.get_template(template).render(found)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _states(drawn: Sequence[Layer]) -> dict[str, str]:
    """The legend: states that occur, with what they mean."""
    seen = {layer.state(i) for layer in drawn for i in range(layer.size or 0)}
    seen |= {layer.state(i) for layer in drawn if layer.size is None for i in layer.kept or ()}
    return {state: said for state, said in STATES.items() if state in seen}


def _link(path: str, beside: str) -> str:
    """A relative address, whatever the path looks like: the leading `./` keeps it from being read as a scheme."""
    return "./" + quote(os.path.relpath(path, beside or ".").replace(os.sep, "/"))


def _matrix(report: Report) -> dict[str, Any] | None:
    if report.enumeration is None or not report.enumeration.circuits:
        return None
    circuits = report.enumeration.circuits
    union = sorted({(site, i) for kept in circuits for site, indices in kept.items() for i in indices})
    rows = [[i in kept.get(site, ()) for site, i in union] for kept in circuits[:_CIRCUITS]]
    core = set(report.enumeration.core)
    columns = [(f"{site}[{i}]", f"{site}[{i}]" in core) for site, i in union]
    return {"columns": columns, "rows": rows, "more": max(0, len(circuits) - _CIRCUITS)}


def _witness(witness: WitnessReport) -> dict[str, Any]:
    """Outputs side by side, and the input as a picture or, where it is none, as numbers."""
    outputs = _side_by_side(flat(witness.model_output), flat(witness.circuit_output))
    found: dict[str, Any] = {"report": witness, "outputs": outputs, "more": 0, "pictures": [], "values": [], "patches": []}
    found["patches"] = [(site, len(flat(values))) for site, values in witness.patch.items()]
    image = as_image(witness.input)
    center = as_image(witness.center) if witness.center is not None else None
    if image is None:
        centers = flat(witness.center) if witness.center is not None else [None] * len(flat(witness.input))
        rows = sorted(_side_by_side(centers, flat(witness.input)), key=lambda row: -abs(row[3] or 0.0))
        return {**found, "values": rows[:_VALUES], "more": max(0, len(rows) - _VALUES)}
    shown = [image] if center is None else [center, image]
    low, high = min(float(x.min()) for x in shown), max(float(x.max()) for x in shown)
    pictures = [("witness", image_png(image, low, high), f"from {low:.4g} (black) to {high:.4g} (white)")]
    if center is not None and center.shape == image.shape:
        change = image - center
        largest = float(abs(change).max())
        pictures.insert(0, ("center of the region", image_png(center, low, high), "on the same scale"))
        pictures.append(("difference", difference_png(change, largest), f"red more, blue less, at most {largest:.4g}"))
    return {**found, "pictures": pictures}


_Row = tuple[int, "float | None", "float | None", "float | None", float]


def _side_by_side(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[_Row]:
    """Index, both numbers, the second less the first, and that as a part of the largest: the length of its bar."""
    changes = [None if a is None or b is None else b - a for a, b in zip(ours, theirs, strict=True)]
    largest = max((abs(change) for change in changes if change is not None), default=0.0) or 1.0
    rows = enumerate(zip(ours, theirs, changes, strict=True))
    return [(i, a, b, change, abs(change or 0.0) / largest) for i, (a, b, change) in rows]
