"""One circuit under every patching, for people and papers: a table in Markdown and CSV, a figure."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from verify.report import rounded_down

if TYPE_CHECKING:
    from verify.ablations import Ablation, Radius

__all__ = ["ablations_csv", "ablations_markdown", "above", "below", "plot_ablations"]

_COLUMNS = (
    "patching",
    "values",
    "verdict",
    "margin",
    "largest deviation",
    "certified to",
    "falsified at",
    "time_s",
)
_BLUE, _ORANGE, _GREY = "#3b6ea5", "#d1812c", "#d9d9d9"


def ablations_csv(found: Sequence[Ablation]) -> str:
    """A row a kind; numbers in full, empty where there is none."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for entry in found:
        report, low, high = entry.report, *_ends(entry.radius)
        numbers = ["" if value is None else repr(value) for value in (report.margin, report.deviation, low, high)]
        rows.writerow([entry.kind, entry.source, report.verdict, *numbers, f"{report.time_s:.2f}"])
    return text.getvalue()


def ablations_markdown(found: Sequence[Ablation], circuit: str, spec: str) -> str:
    """The table, under a sentence that says what it is about."""
    lines = [f"# {_cell(circuit)} under every patching", "", f"Region and agreement are those of {_cell(spec)}.", ""]
    lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + "---|" * len(_COLUMNS)]
    for entry in found:
        report, low, high = entry.report, *_ends(entry.radius)
        seen = "" if report.deviation is None else f"{report.deviation:.6g}"
        numbers = [below(report.margin), seen, below(low), above(high)]
        cells = [entry.kind, entry.source, report.verdict, *numbers, f"{report.time_s:.2f}"]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    lines += [
        "",
        "Certified to, falsified at: radii of the input region. Between them nothing is known; empty: at none asked about.",
    ]
    return "\n".join(lines) + "\n"


def plot_ablations(found: Sequence[Ablation], epsilon: float | None, path: str | os.PathLike[str]) -> None:
    """Draw the verdicts and, where radii were asked about, how far each reaches; a line marks the spec's. Raises: OSError."""
    figure = Figure(figsize=(7, 1.0 + 0.42 * len(found)), layout="constrained")
    axes: Any = figure.subplots()
    asked = [radius for entry in found if entry.radius is not None for radius, _ in entry.radius.asked]
    end = 1.1 * max([*asked, epsilon or 0.0]) or 1.0
    for y, entry in enumerate(found):
        low, high = _ends(entry.radius)
        if entry.radius is not None:
            axes.barh(y, end, color=_GREY, height=0.6)
            axes.barh(y, low or 0.0, color=_BLUE, height=0.6)
            if high is not None:
                axes.barh(y, end - high, left=high, color=_ORANGE, height=0.6)
        axes.text(end * 1.02, y, entry.report.verdict, va="center", fontsize=9)
    if asked:
        for colour, said in ((_BLUE, "certified"), (_GREY, "not known"), (_ORANGE, "falsified")):
            axes.barh(0, 0, color=colour, label=said)
        if epsilon is not None:
            axes.axvline(epsilon, color="black", linewidth=1, linestyle="--", label="the spec's radius")
        figure.legend(frameon=False, loc="outside upper center", ncols=4, fontsize=8)
        axes.set_xlabel("radius of the input region")
    axes.set_xlim(0, end)
    axes.set_yticks(range(len(found)), [entry.kind for entry in found])
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None} if os.fspath(path).endswith(".svg") else None)


def below(value: float | None) -> str:
    """Six digits, rounded down: what is printed is proven."""
    return "" if value is None else rounded_down(value)


def above(value: float | None) -> str:
    """Six digits, rounded up: what is printed is falsified."""
    return "" if value is None else f"{abs(float(rounded_down(-value))):.6g}"


def _ends(radius: Radius | None) -> tuple[float | None, float | None]:
    return (None, None) if radius is None else (radius.certified, radius.falsified)


def _cell(text: str) -> str:
    # Names come from files: nothing in them may end a cell or become a link.
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("\n", " ")
