"""Figures of a report, for people and papers: the bracket of a search over time, and which components its circuits keep."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from verify.frontier import Point
    from verify.report import Report

__all__ = ["plot_frontier", "plot_search"]

_BLUE, _ORANGE, _GREY = "#3b6ea5", "#d1812c", "#d9d9d9"


def plot_search(report: Report, path: str | os.PathLike[str]) -> None:
    """Draw what a report says of a search: its bracket over time and, where they were enumerated, the matrix of its minimal
    circuits. The file's ending says how: .svg, .pdf, .png. Raises: OSError; ValueError: the report holds no search."""
    if report.search is None or report.circuit is None:
        raise ValueError("the report holds no search")
    circuits = report.enumeration.circuits if report.enumeration is not None else []
    height = min(6.0, 0.3 + 0.18 * len(circuits)) if circuits else 0.0
    figure = Figure(figsize=(7, 2.4 + height), layout="constrained")
    if circuits:
        above, below = figure.subplots(2, 1, height_ratios=[2.0, height])
        _matrix(below, circuits, report)
    else:
        above = figure.subplots()
    _bracket(above, report)
    _saved(figure, path)


def plot_frontier(points: Sequence[Point], over: str, path: str | os.PathLike[str]) -> None:
    """Draw the bracket of the least cost against a radius or tolerance. Raises: OSError."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes: Any = figure.subplots()
    drawn = sorted((point.value, point.lower, point.upper) for point in points)
    values, lowers, uppers = (list(column) for column in zip(*drawn, strict=True))
    axes.plot(values, [u if np.isfinite(u) else np.nan for u in uppers], "o-", color=_BLUE, label="smallest certified")
    axes.plot(values, lowers, "v-", color=_ORANGE, label="proven lower bound")
    axes.set_xlabel(over)
    axes.set_ylabel("components")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    _saved(figure, path)


def _saved(figure: Figure, path: str | os.PathLike[str]) -> None:
    figure.savefig(path, metadata={"Date": None} if os.fspath(path).endswith(".svg") else None)


def _bracket(axes: Any, report: Report) -> None:
    assert report.search is not None
    trace = report.search.trace
    times = [moment.time_s for moment in trace]
    axes.step(times, [moment.upper for moment in trace], where="post", color=_BLUE, label="smallest certified")
    axes.step(times, [moment.lower for moment in trace], where="post", color=_ORANGE, label="proven lower bound")
    axes.set_xlabel("seconds")
    axes.set_ylabel("components")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _matrix(axes: Any, circuits: Sequence[Mapping[str, Sequence[int]]], report: Report) -> None:
    """A row a circuit, a column a component that some circuit keeps."""
    union = sorted({(site, index) for kept in circuits for site, indices in kept.items() for index in indices})
    cells = np.zeros((len(circuits), max(len(union), 1)))
    place = {component: i for i, component in enumerate(union)}
    for row, kept in zip(cells, circuits, strict=True):
        for site, indices in kept.items():
            row[[place[site, index] for index in indices]] = 1
    from matplotlib.colors import ListedColormap

    axes.imshow(cells, aspect="auto", cmap=ListedColormap([_GREY, _BLUE]), vmin=0, vmax=1, interpolation="nearest")
    sites = list(dict.fromkeys(site for site, _ in union))
    for site in sites:
        columns = [i for i, (other, _) in enumerate(union) if other == site]
        axes.axvline(columns[-1] + 0.5, color="white", linewidth=2)
    axes.set_xticks([np.mean([i for i, (other, _) in enumerate(union) if other == site]) for site in sites], sites)
    axes.set_yticks([])
    assert report.enumeration is not None
    said = "all" if report.enumeration.complete else "at least"
    axes.set_ylabel(f"{said} {len(circuits)}\nminimal circuits", rotation=0, ha="right", va="center")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
