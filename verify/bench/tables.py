"""Tables as people and papers want them: Markdown, LaTeX (booktabs), CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verify.bench.curves import brackets
from verify.bench.row import Row
from verify.bench.suite import Experiment, Suite
from verify.bench.summary import CHECKED, Group, Line, groups, lines

__all__ = ["Table", "csv_of", "latex", "markdown", "rows_csv", "tables"]

_MOMENTS = (0.1, 1.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Table:
    """A title, words below it, a header and lines of cells."""

    name: str
    title: str
    notes: tuple[str, ...]
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(suite: Suite, rows: Sequence[Row]) -> list[Table]:
    """For each experiment the methods on each network; for those that compare searches also their sizes over time."""
    found: list[Table] = []
    for name, experiment in suite.experiments.items():
        mine = [row for row in rows if row.experiment == name]
        if not mine:
            continue
        found.append(_compared(name, experiment, suite, groups(mine)))
        searches = {row.method for row in mine if row.trace}
        if len(searches) > 1:
            found.append(_over_time(name, experiment, groups(mine)))
    return found


def _compared(name: str, experiment: Experiment, suite: Suite, members: Sequence[Group]) -> Table:
    told = [line for group in members for line in lines(group, experiment.methods)]
    header = (
        "network", "ε", "δ", "method", "inputs", "size", "of", "proven robust", "95 % together", "falsified", "open",
        "p (Holm)", "minimal as asked", "levels proven", "brackets closed", "search s", "certify s",
    )  # fmt: skip
    checked = any(line.checked for line in told)
    if checked:
        header += ("confirmed by the checker", "levels confirmed", "checker / engine", "certificate")
    notes = [
        f"Input: {'the ball around each input' if experiment.input == 'ball' else 'each input itself'}; patching: "
        f"{_patching(experiment)}; at most {experiment.budget.time_s:g} s for each search and each certification.",
        *_tolerances(experiment, suite),
    ]
    if checked:
        notes.append(_checked(told))
    if not all(line.bracketed for line in told):
        notes.append("A lower bound was above an upper one: this must not be, and says that something is wrong.")
    if any(line.failed for line in told):
        notes.append(f"{sum(line.failed for line in told)} runs gave no answer (see the rows) and are in no figure.")
    said = (experiment.note,) if experiment.note else ()
    return Table(name, experiment.title, (*said, *notes), header, tuple(_cells(line, checked) for line in told))


def _tolerances(experiment: Experiment, suite: Suite) -> list[str]:
    """What δ is of each network: as the suite says it of the network, or by its rule."""
    agreements = {name: suite.networks[name].agreement for name in experiment.networks}
    stated = [f"{name} ({agreement.metric})" for name, agreement in agreements.items() if agreement is not None]
    said = [f"δ as the suite states it: {', '.join(stated)}."] if stated else []
    if len(stated) == len(agreements):
        return said
    rule = suite.calibration
    whose = "δ of the others" if said else "δ"
    return [
        *said,
        f"{whose}: {rule.share:g} of the median gap between the two largest outputs over the data's first {rule.inputs} inputs "
        "(all, where it has fewer), of a regression's outputs of their standard deviation there; ε: L∞, in the data's units.",
    ]


def _checked(told: Sequence[Line]) -> str:
    """What came of the certificates, all methods together."""
    counts = {name: sum(line.checked.get(name, 0) for line in told) for name in CHECKED}
    total = sum(counts.values())
    rest = "".join(f", {counts[name]} {name}" for name in CHECKED[2:] if counts[name])
    return (
        f"Certificates: of {total} certified circuits the independent checker confirms {counts['confirmed']} and refuses "
        f"{counts['refused']}{rest}; refused or unfinished ones count as open. Checker / engine: its time beside that of "
        "search and certification. Sizes are means."
    )


def _patching(experiment: Experiment) -> str:
    """As the notes say it."""
    if experiment.patching in ("zero", "mean"):
        return experiment.patching
    around = "the ball" if experiment.patch_factor == 1 else f"a ball of {experiment.patch_factor:g} times the radius"
    return f"{experiment.patching} over {around}"


def _cells(line: Line, checked: bool) -> tuple[str, ...]:
    share = "–" if line.share is None else f"{100 * line.share[0]:.0f}–{100 * line.share[1]:.0f} %"
    found = (
        line.network, _number(line.epsilon), _number(line.tolerance), line.method, str(line.count),
        "–" if line.size is None else f"{line.size:.1f}", _number(line.scope_size), _percent(line.certified, line.count), share,
        str(line.falsified), str(line.unknown), "–" if line.p_value is None else f"{line.p_value:.2g}",
        "–" if line.proven is None else _percent(line.proven, line.count), _levels(line.levels),
        "–" if line.closed is None else _percent(line.closed, line.count), _seconds(line.search_s), _seconds(line.certify_s),
    )  # fmt: skip
    if not checked:
        return found
    return (
        *found,
        f"{line.checked.get('confirmed', 0)} of {sum(line.checked.values())}" if line.checked else "–",
        _levels(line.checked_levels),
        _seconds(line.check_share),
        "–" if line.certificate_bytes is None else f"{line.certificate_bytes / 1000:.1f} kB",
    )


def _levels(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{level} {count}" for level, count in counts.items()) or "–"


def _over_time(name: str, experiment: Experiment, members: Sequence[Group]) -> Table:
    found: list[tuple[str, ...]] = []
    for group in members:
        for method in experiment.methods:
            rows = [row for row in group.rows if row.method == method and row.trace]
            if rows:
                ends = [f"{b.lower:.1f}–{b.upper:.1f}" for b in brackets(rows, _MOMENTS)]
                found.append((group.network, method, str(len(rows)), *ends))
    header = ("network", "search", "inputs", *(f"after {moment:g} s" for moment in _MOMENTS))
    notes = ("Mean of the proven lower bound, and of the smallest certified circuit, after so much time.",)
    return Table(f"{name}_over_time", f"{experiment.title}: size over time", notes, header, tuple(found))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _percent(hits: int, count: int) -> str:
    return f"{100 * hits / count:.1f} %" if count else "–"


def markdown(table: Table) -> str:
    """A heading, the notes, the table."""
    head = ["| " + " | ".join(table.header) + " |", "|" + "---|" * len(table.header)]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in table.lines]
    return "\n".join([f"### {table.title}", "", *(f"{note}  " for note in table.notes), "", *head, *body, ""])


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "ε": r"$\varepsilon$", "δ": r"$\delta$", "∞": r"$\infty$", "–": "--",
}  # fmt: skip


def latex(table: Table) -> str:
    """A `table` environment with booktabs rules; nothing else needs a package."""
    cells = [" & ".join(map(_escaped, line)) + r" \\" for line in (table.header, *table.lines)]
    words = _escaped(" ".join((f"{table.title}.", *table.notes)))
    shape = "l" * len(table.header)
    head = [r"\begin{table}", rf"\caption{{{words}}}", rf"\label{{tab:{table.name.replace('_', '-')}}}"]
    head += [rf"\begin{{tabular}}{{{shape}}}", r"\toprule"]
    return "\n".join([*head, cells[0], r"\midrule", *cells[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def csv_of(table: Table) -> str:
    """Header and lines."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.lines])
    return text.getvalue()


def rows_csv(rows: Sequence[Row]) -> str:
    """All rows, without what is no single value: traces, circuits, versions; nor of certificates, where there are none."""
    left_out = {"trace", "kept", "versions"}
    if not any(row.checked for row in rows):
        left_out |= {"checked", "check_note", "checked_level", "checked_lower", "certificate_s", "check_s", "certificate_bytes"}
    text = io.StringIO()
    writer = csv.DictWriter(text, [name for name in Row.model_fields if name not in left_out], lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump(exclude=left_out) for row in rows)
    return text.getvalue()
