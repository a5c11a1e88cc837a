"""Tables for people, on standard output: a model's sites, a report, a circuit."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from verify.render.wires import Wire, wires
from verify.report import rounded_down

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.model import Model
    from verify.report import Minimality, Report, WitnessReport

__all__ = ["flat", "minimality_said", "ranges", "show_circuit", "show_model", "show_report", "show_wang"]

_WIDE = 200
"""Columns where standard output is no terminal: nothing may be cut for a program that reads it."""


def _console() -> Console:
    return Console(soft_wrap=False, highlight=False) if sys.stdout.isatty() else Console(width=_WIDE, highlight=False)


def _table(*columns: str, right: frozenset[str] = frozenset()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _said(*cells: object) -> list[Text]:
    # Names come from files: they are no markup.
    return [Text("" if cell is None else str(cell)) for cell in cells]


def show_model(model: Model) -> None:
    """Sites in order of evaluation: shape, components by granularity; those that follow an activation function are marked."""
    console, graph = _console(), model.graph
    shape, output = list(graph.input_shape), list(graph.shape(graph.output))
    console.print(Text(f"{model.source}  sha256 {model.sha256}"), soft_wrap=True)
    console.print(
        Text(f"input {graph.input} {shape}, {str(model.dtype).removeprefix('torch.')}; output {graph.output} {output}")
    )
    if model.dropped_softmax:
        console.print(Text("the trailing softmax is left out: outputs are its inputs, the logits"))
    table = _table("site", "operator", "shape", "components", "after activation")
    for site in model.sites():
        sizes = ", ".join(f"{count} {name}{'s' * (count != 1)}" for name, count in site.granularities.items())
        table.add_row(*_said(site.name, site.operator, list(site.shape), sizes, "*" if site.after_activation else ""))
    console.print(table)
    if edges := wires(model, model.edges(), {}):
        console.print()
        console.print(_edges(edges, "edges, by index"))


def _edges(shown: Sequence[Wire], title: str) -> Table:
    """What each consumer, or head of one, reads."""
    table = _table("site", "read by", title)
    by_reader: dict[tuple[str, str], list[str]] = {}
    for wire in shown:
        by_reader.setdefault((wire.site, wire.consumer), []).append(f"{wire.index} {wire.producer}")
    for (site, consumer), names in by_reader.items():
        table.add_row(*_said(site, consumer, ", ".join(names)))
    return table


def show_circuit(circuit: Circuit, edges: Sequence[Wire] = ()) -> None:
    """What a circuit keeps, site by site; and `edges`, those in its scope, by name."""
    console = _console()
    console.print(Text(f"{circuit.file}: a circuit of {circuit.model.path}"), soft_wrap=True)
    if circuit.provenance:
        console.print(Text("; ".join(f"{key}: {value}" for key, value in circuit.provenance.items())), soft_wrap=True)
    table = _table("site", "granularity", "kept", "which", right=frozenset({"kept"}))
    for site, granularity in circuit.scope.items():
        kept = circuit.kept[site]
        count = kept if isinstance(kept, str) else len(kept)
        table.add_row(*_said(site, granularity, count, ranges(kept) if not isinstance(kept, str) else ""))
    console.print(table)
    if edges:
        console.print()
        console.print(_edges([wire for wire in edges if wire.kept], "edges kept"))


def show_report(report: Report) -> None:
    """Verdict, claims, what each rung did, and where the answer came from."""
    console = _console()
    console.print(Text(report.summary), style="bold")
    console.print(Text(report.meaning))
    if report.interrupted:
        console.print(Text("The run was interrupted; claims that were not reached are unknown."))
    if report.circuit is not None:
        console.print(
            Text(f"circuit {report.circuit.file}: {report.circuit.size} of {report.circuit.scope_size} components kept")
        )
    if report.minimality is not None:
        for line in minimality_said(report.minimality):
            console.print(Text(line), soft_wrap=True)
    console.print(Text(f"spec {report.spec}; model {report.model}, sha256 {report.model_sha256}"), soft_wrap=True)
    claims = _table("claim", "verdict", "margin", "largest deviation", "decided by", "time_s", "reason", right=_NUMBERS)
    for claim in report.claims:
        cells = (
            claim.label,
            claim.verdict,
            rounded_down(claim.margin) if claim.margin is not None else "",
            _short(claim.deviation),
            claim.decided_by,
            f"{claim.time_s:.2f}",
        )
        claims.add_row(*_said(*cells, claim.reason))
    rungs = _table("rung", "asked", "decided", "time_s", right=_NUMBERS)
    for rung in report.rungs:
        rungs.add_row(*_said(rung.name, rung.asked, rung.decided, f"{rung.time_s:.3f}"))
    for part in (claims, rungs):
        console.print()
        console.print(part)
    if report.witness is not None:
        console.print()
        console.print(_witness(report.witness))
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items() if version is not None)
    console.print()
    console.print(
        Text(f"backend {report.backend} on {report.device}, seed {report.seed}, {report.time_s:.2f} s; {versions}"),
        soft_wrap=True,
    )


def show_wang(claims: list[dict[str, Any]]) -> None:
    """Scores in the sense of Wang et al. 2022, those that matter least first. They are sampled: nothing here is proven."""
    console = _console()
    for claim in claims:
        said = f"{claim['claim']}: scores of Wang et al. 2022 on {claim['samples']} samples; nothing here is proven"
        console.print(Text(said), style="bold")
        worst = ", ".join(claim["worst_set"]) or "no component"
        console.print(Text(f"incompleteness {claim['wang_incompleteness']:.4g}, without {worst}"), soft_wrap=True)
        table = _table("component", "minimality score", right=frozenset({"minimality score"}))
        for name, score in sorted(claim["wang_minimality"].items(), key=lambda entry: entry[1]):
            table.add_row(*_said(name, f"{score:.4g}"))
        console.print(table)


_NUMBERS = frozenset({"margin", "largest deviation", "time_s", "asked", "decided"})


def minimality_said(told: Minimality) -> list[str]:
    """What was shown, in a sentence or two."""
    said = {
        "proven": f"It is {told.level}-minimal: every smaller circuit that must fail for that is refuted.",
        "refuted": f"It is not {told.level}-minimal: a smaller circuit is certified.",
        "relative": f"It is {told.level}-minimal only relative to {told.unresolved_count} circuits left undecided"
        + ("." if told.ended else ", and to those that the search did not come to."),
    }
    lines = [said[told.status] + f" Proven: {told.reached}. The least cost is between {told.lower} and {told.upper}."]
    if told.unresolved:
        lines.append(f"undecided without {', '.join(told.unresolved)}")
    if told.core:
        lines.append(f"every faithful circuit keeps {', '.join(told.core)}")
    if told.smaller is not None:
        lines.append("smaller: " + "; ".join(f"{site} {ranges(tuple(kept))}" for site, kept in told.smaller.items()))
    return lines


def _witness(witness: WitnessReport) -> Table:
    table = _table(
        f"witness of {witness.claim}", "model", "circuit", "difference", right=frozenset({"model", "circuit", "difference"})
    )
    pairs = list(zip(flat(witness.model_output), flat(witness.circuit_output), strict=False))
    for i, (model, circuit) in enumerate(pairs[:_ROWS]):
        difference = None if model is None or circuit is None else circuit - model
        table.add_row(*_said(f"output {i}", _short(model), _short(circuit), _short(difference)))
    if len(pairs) > _ROWS:
        table.add_row(*_said(f"... {len(pairs) - _ROWS} more", "", "", ""))
    return table


_ROWS = 20


def flat(values: object) -> list[float | None]:
    """The numbers of nested lists in order; None for what is no number."""
    if isinstance(values, list):
        return [number for entry in values for number in flat(entry)]  # pyright: ignore[reportUnknownVariableType]
    return [float(values)] if isinstance(values, int | float) else [None]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def ranges(indices: Iterable[int]) -> str:
    """`0-3, 7, 9-12`."""
    parts: list[list[int]] = []
    for index in sorted(indices):
        if parts and index == parts[-1][1] + 1:
            parts[-1][1] = index
        else:
            parts.append([index, index])
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
