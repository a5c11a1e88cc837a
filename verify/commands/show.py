"""`certify show`: a model's sites, a report, or a circuit, as tables on standard output, as a page, or as a drawing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specs.circuit import Circuit
from specs.document import jsonpath, read_document
from specs.errors import InputError
from specs.load import read_circuit
from specs.write import write_whole
from verify.report import Report, read_report

if TYPE_CHECKING:
    from specs.model import Model
    from verify.render.wires import Wire

__all__ = ["Options", "run"]

_CIRCUIT, _REPORT, _SPEC = "certify.circuit/", "certify.report/", "certify.spec/"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    file: str
    html: str | None = None
    svg: str | None = None
    allow_code: bool = False


def run(options: Options) -> int:
    """Show what a file holds: on standard output or, where they are asked for, as a page and a drawing. Returns the exit code.
    Raises: InputError."""
    from verify.commands.writing import check_writable, not_written

    for path, where, kind in ((options.html, "--html", "page"), (options.svg, "--svg", "figure")):
        if path is not None:
            check_writable(path, where, (options.file,), kind)
    if options.html is None and options.svg is None:
        _show(options)
        return 0
    page, drawing = _rendered(options)
    for path, text in ((options.html, page), (options.svg, drawing)):
        if path is None:
            continue
        if text is None:
            raise InputError(options.file, "$", "a model", "a report or a circuit, which can be drawn", "use --html")
        try:
            write_whole(text, path)
        except OSError as error:
            return not_written(path, error)
        print(f"wrote {path}")
    return 0


def _show(options: Options) -> None:
    from verify.render import table

    match _read(options):
        case Report() as report:
            table.show_report(report)
        case Circuit() as circuit:
            table.show_circuit(circuit, _asked(circuit, options.allow_code)[1] if "edge" in circuit.scope.values() else ())
        case model:
            table.show_model(model)


def _rendered(options: Options) -> tuple[str, str | None]:
    """The page, and the drawing where there is one."""
    from verify.render.html import circuit_page, model_page, report_page
    from verify.render.html.drawing import draw, layers
    from verify.render.html.graph import draw_wires
    from verify.render.html.page import report_layers

    match _read(options):
        case Report() as report:
            drawn = report_layers(report)
            beside = os.path.dirname(options.html or "") or "."
            return report_page(report, options.file, beside), draw(drawn, standalone=True) if drawn else None
        case Circuit() as circuit:
            sizes, edges = _asked(circuit, options.allow_code)
            drawing = draw_wires(edges) if edges else draw(layers(circuit.scope, circuit.kept, sizes), standalone=True)
            return circuit_page(circuit, sizes, options.file, edges), drawing
        case model:
            return model_page(model, options.file), None


def _read(options: Options) -> Report | Circuit | Model:
    file = options.file
    if Path(file).suffix.lower() not in (".json", ".yaml", ".yml"):
        return _model(file, options.allow_code)
    stated = _format(file)
    if stated.startswith(_REPORT):
        return read_report(file)
    if stated.startswith(_CIRCUIT):
        return read_circuit(file)
    found = f"format {stated!r}" if stated else "no format"
    needed = "a model (.onnx, .pt2), a report (certify.report/1) or a circuit (certify.circuit/1)"
    raise InputError(file, "$.format", found, needed, "pass it with --spec" if stated.startswith(_SPEC) else "")


def _asked(circuit: Circuit, allow_code: bool) -> tuple[dict[str, int], Sequence[Wire]]:
    """How many components each site has, and the edges in scope; nothing, where the model is not there to be asked. Raises:
    InputError: it is, and has no such sites."""
    from verify.render.wires import circuit_wires

    named = circuit.model
    if (named.is_code and not allow_code) or (not named.is_code and not os.path.exists(named.path)):
        print(f"certify: note: {named.path} is not there, so only what is kept is shown", file=sys.stderr)
        return {}, ()
    model = _model(named.path, allow_code)
    places = {site: jsonpath(("scope", site)) for site in circuit.scope}
    sizes = {
        site: model.group(site, str(granularity), shown=circuit.file, where=places[site])[1]
        for site, granularity in circuit.scope.items()
    }
    return sizes, circuit_wires(circuit, model)


def _format(file: str) -> str:
    value = read_document(file)
    stated = value.get("format") if isinstance(value, dict) else None
    return stated if isinstance(stated, str) else ""


def _model(file: str, allow_code: bool) -> Model:
    from specs.model import load_model

    return load_model(file, shown=file, where="", base=Path(), allow_code=allow_code)
