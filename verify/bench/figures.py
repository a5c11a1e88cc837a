"""Figures of a suite, each as the text of an SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from verify.bench.curves import brackets, moments, solved
from verify.bench.row import Row
from verify.bench.suite import Suite
from verify.bench.summary import Group, groups, lines

__all__ = ["figures"]

_COLOURS: tuple[str, ...] = ("#3b6ea5", "#d1812c", "#4f8f5b", "#a6496b", "#7a6aa8", "#808080")


def figures(suite: Suite, rows: Sequence[Row]) -> dict[str, str]:
    """By file name: for each experiment robustness bars, a cactus plot, brackets over time where something was searched for,
    and sizes against radius or tolerance where these vary."""
    found: dict[str, str] = {}
    for name, experiment in suite.experiments.items():
        mine = [row for row in rows if row.experiment == name and row.error is None]
        plain = [group for group in groups(mine) if group.epsilon_factor == group.tolerance_factor == 1]
        methods = [method for method in experiment.methods if any(row.method == method for row in mine)]
        colours = {method: _COLOURS[i % len(_COLOURS)] for i, method in enumerate(experiment.methods)}
        if plain:
            found[f"{name}_robust.svg"] = _bars(plain, methods, colours)
            found[f"{name}_cactus.svg"] = _cactus(plain, methods, colours)
            if any(row.trace for row in mine):
                found[f"{name}_brackets.svg"] = _brackets(plain, methods, colours)
        for factor in ("epsilon_factor", "tolerance_factor"):
            if len({getattr(row, factor) for row in mine}) > 1:
                found[f"{name}_{factor.removesuffix('_factor')}.svg"] = _varied(mine, methods, factor, colours)
    return found


def _panels(titles: Sequence[str], height: float = 2.8) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(max(4.2, 3.4 * len(titles)), height), layout="constrained")
    panels: list[Any] = list(figure.subplots(1, len(titles), squeeze=False)[0])
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure, panels


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    # The same figure is the same file: no date, ids that count from a fixed salt.
    with mpl.rc_context({"svg.hashsalt": "certify", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _bars(members: Sequence[Group], methods: Sequence[str], colours: dict[str, str]) -> str:
    """Proven robust shares, with their intervals; what is neither proven nor refuted stands on top, pale."""
    figure, panels = _panels([group.network for group in members])
    for axes, group in zip(panels, members, strict=True):
        for i, line in enumerate(lines(group, methods)):
            share, open_ = 100 * line.certified / line.count, 100 * line.unknown / line.count
            low, high = (100 * end for end in line.share or (0.0, 0.0))
            axes.bar(i, share, color=colours[line.method], width=0.7)
            axes.bar(i, open_, bottom=share, color=colours[line.method], alpha=0.25, width=0.7)
            # The interval holds the share, but for the last bit.
            axes.errorbar(i, share, yerr=[[max(share - low, 0.0)], [max(high - share, 0.0)]], color="black", capsize=3, lw=1)
        names = [line.method for line in lines(group, methods)]
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
        axes.set_ylim(0, 105)
    panels[0].set_ylabel("proven robust, %", fontsize=8)
    return _svg(figure)


def _cactus(members: Sequence[Group], methods: Sequence[str], colours: dict[str, str]) -> str:
    """How many runs each method proves, against the time that each of these took."""
    figure, panels = _panels([group.network for group in members])
    for axes, group in zip(panels, members, strict=True):
        for method in methods:
            times = solved([row for row in group.rows if row.method == method])
            axes.step(range(1, len(times) + 1), times, where="post", marker=".", ms=3, color=colours[method], label=method)
        axes.set_yscale("log")
        axes.set_xlabel("runs proven", fontsize=8)
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("seconds a run", fontsize=8)
    return _svg(figure)


def _brackets(members: Sequence[Group], methods: Sequence[str], colours: dict[str, str]) -> str:
    """Mean size of the best certified circuit over time, and the mean lower bound (dashed)."""
    shown = [group for group in members if any(row.trace for row in group.rows)]
    figure, panels = _panels([group.network for group in shown])
    for axes, group in zip(panels, shown, strict=True):
        times = moments([row for row in group.rows if row.trace])
        for method in methods:
            path = brackets([row for row in group.rows if row.method == method], times)
            if path:
                at = [b.time_s for b in path]
                axes.step(at, [b.upper for b in path], where="post", color=colours[method], label=method)
                axes.step(at, [b.lower for b in path], where="post", color=colours[method], ls="--", lw=1)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("seconds", fontsize=8)
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("components (dashed: proven lower bound)", fontsize=8)
    return _svg(figure)


def _varied(rows: Sequence[Row], methods: Sequence[str], factor: str, colours: dict[str, str]) -> str:
    """Mean size against a factor of the radius or the tolerance, the other factor at its own value nearest to 1."""
    other = "tolerance_factor" if factor == "epsilon_factor" else "epsilon_factor"
    fixed = min({getattr(row, other) for row in rows}, key=lambda value: abs(value - 1))
    kept = [row for row in rows if getattr(row, other) == fixed]
    names = list(dict.fromkeys(row.network for row in kept))
    figure, panels = _panels(names)
    for axes, network in zip(panels, names, strict=True):
        for method in methods:
            here = [row for row in kept if row.network == network and row.method == method and row.size is not None]
            values = sorted({getattr(row, factor) for row in here})
            means = [_mean([row.size or 0 for row in here if getattr(row, factor) == value]) for value in values]
            axes.plot(values, means, "o-", ms=3, color=colours[method], label=method)
        axes.set_xlabel("ε, as a multiple" if factor == "epsilon_factor" else "δ, as a multiple", fontsize=8)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=7)
    panels[0].set_ylabel("components", fontsize=8)
    return _svg(figure)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
