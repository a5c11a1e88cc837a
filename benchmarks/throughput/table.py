"""Results as tables, and beside them what we aim for."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.throughput.measure import Plan, Result, Row

__all__ = ["REFERENCE", "comparison", "show"]

REFERENCE = "auto_LiRPA f32, one at a time"
"""What ratios are of."""

_NOISE = 1e-5
"""How far auto_LiRPA's own float32 rounding, which it does not charge for, may put its margin on the wrong side."""

_GIB = 1024.0


def comparison(result: Result, contender: str) -> dict[str, Any] | None:
    """A contender's margins beside those of the reference, over the circuits that both bounded: means, the worst difference.

    A negative worst difference means: looser, for at least one circuit, by that much.
    """
    ours, theirs = result.margins.get(contender, []), result.margins.get(REFERENCE, [])
    pairs = list(zip(ours, theirs, strict=False))
    if not pairs:
        return None
    return {
        "circuits": len(pairs),
        "mean_margin": sum(a for a, _ in pairs) / len(pairs),
        "reference_mean_margin": sum(b for _, b in pairs) / len(pairs),
        "worst_difference": min(a - b for a, b in pairs),
    }


def show(console: Console, result: Result, plan: Plan) -> None:
    """Print the rates, memory and tightness of one case, and the aims that it has."""
    case = result.case
    table = Table(title=f"{case.name}: circuits bounded per second", caption=_caption(result, plan), title_justify="left")
    table.add_column("contender")
    for batch in plan.batches:
        table.add_column(f"batch {batch}", justify="right")
    table.add_column(f"x ref. at {plan.batches[-1]} (CPU)", justify="right")
    table.add_column("peak MiB (less baseline)", justify="right")
    table.add_column("mean margin", justify="right")
    table.add_column("worst difference", justify="right")
    for name in result.setup_s:
        rows = [row for batch in plan.batches if (row := result.row(name, batch)) is not None]
        compared = comparison(result, name)
        table.add_row(
            f"{name} [{result.version[name]}]".replace("[", r"\[") if result.version[name] else name,
            *(_rate(row) for row in rows),
            f"{_ratio(_times(result, name, plan.batches[-1]))} ({_ratio(_times(result, name, plan.batches[-1], cpu=True))})",
            _memory(rows, result.baseline_mib),
            f"{compared['mean_margin']:.6f}" if compared else "-",
            f"{compared['worst_difference']:+.2e}" if compared and name != REFERENCE else "-",
        )
    console.print(table)
    for line in _aims(result, plan):
        console.print(line, highlight=False)
    console.print()


def _caption(result: Result, plan: Plan) -> str:
    case = result.case
    compared = comparison(result, REFERENCE)
    return (
        f"{case.granularity} granularity, {case.ablated:.0%} ablated, epsilon {case.epsilon:.5f}, {plan.threads} torch "
        f"thread(s); medians of up to {plan.repetitions} turns. ~: average of the {plan.most} circuits measured. Margins over "
        f"{compared['circuits'] if compared else 0} circuits; difference: ours less {REFERENCE}'s. Baseline (imports and the "
        f"loaded query): {result.baseline_mib:.0f} MiB. Set-up of auto_LiRPA's module, not timed: "
        f"{result.setup_s.get(REFERENCE, math.nan):.2f} s."
    )


def _rate(row: Row) -> str:
    if row.rate is None:
        return row.note or "-"
    shown = f"{row.rate:.3g}" if row.rate < 100 else f"{row.rate:.0f}"
    return ("~" if row.measured < row.batch else "") + shown


def _times(result: Result, contender: str, batch: int, cpu: bool = False) -> float | None:
    """Ratio of medians, of wall time or of processor time."""
    rows = result.row(contender, batch), result.row(REFERENCE, batch)
    ours, theirs = (None if row is None else row.cpu_rate if cpu else row.rate for row in rows)
    return None if ours is None or theirs is None else ours / theirs


def _ratio(times: float | None) -> str:
    return "-" if times is None else f"{times:.2f}"


def _memory(rows: list[Row], baseline: float) -> str:
    peaks = [row.peak_mib for row in rows if row.peak_mib is not None]
    return f"{max(peaks):.0f} ({max(peaks) - baseline:+.0f})" if peaks else "-"


def _aims(result: Result, plan: Plan) -> list[str]:
    """One line for each precision of the native backend: each aim with what was measured and whether it is met."""
    if result.case.aim is None:
        return []
    batch = plan.batches[-1]
    lines = []
    for name in ("native f64", "native f32"):
        row, times, compared = result.row(name, batch), _times(result, name, batch), comparison(result, name)
        if row is None or row.peak_mib is None:
            continue
        parts = [_verdict(f"rate {_ratio(times)}x at batch {batch}, aim {result.case.aim:g}x", (times or 0) >= result.case.aim)]
        if compared is not None:
            worst = compared["worst_difference"]
            parts.append(_verdict(f"worst margin difference {worst:+.1e}, aim none looser (by {_NOISE:g})", worst >= -_NOISE))
        parts.append(_verdict(f"peak {row.peak_mib / _GIB:.2f} GiB, aim < 4", row.peak_mib < 4 * _GIB))
        lines.append(f"{name}: " + "; ".join(parts))
    return lines


def _verdict(text: str, met: bool) -> str:
    return f"{text}: {'met' if met else 'NOT met'}"
