"""Rows as Markdown tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from benchmarks.decide import gap, queries, sequence
from benchmarks.decide.rows import Row, Rows
from benchmarks.decide.tools import OURS

__all__ = ["gap_tables", "queries_table", "sequence_table", "table"]


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, columns aligned so that it reads as plain text too."""
    every = [list(header), *map(list, lines)]
    widths = [max(len(line[i]) for line in every) for i in range(len(header))]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in every]
    return "\n".join([shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _answer(row: Row) -> str:
    """Verdict and seconds; where it is open, the bound of the deviation that it reached."""
    said = f"{row['verdict']} {row['time_s']:.1f}"
    if row["verdict"] in queries.DECIDED:
        return said
    return said if row.get("proven") is None else f"{said} (≤ {row['proven']:.3g})"


def _tools(rows: Sequence[Row], first: Sequence[str]) -> list[str]:
    found = dict.fromkeys(row["tool"] for row in rows)
    return [tool for tool in first if tool in found] + [tool for tool in found if tool not in first]


def queries_table(rows: Rows) -> str:
    """A line a question, a column a tool: the answer with the largest limit that it was given."""
    mine = rows.some(part=queries.PART)
    if not mine:
        return ""
    tools = _tools(mine, (OURS,))
    lines: list[list[str]] = []
    for name in dict.fromkeys(row["query"] for row in mine):
        cells: list[str] = []
        for tool in tools:
            asked = sorted((r for r in mine if (r["query"], r["tool"]) == (name, tool)), key=lambda r: r["limit_s"])
            cells.append("; ".join(f"[{row['limit_s']:g} s] {_answer(row)}" for row in asked) or "–")
        lines.append([name, *cells])
    told = (
        "Verdict and wall seconds with start-up, for each limit; where it is open, the bound of the deviation that was proven."
    )
    return f"### Queries\n\n{told}\n\n" + table(["query", *tools], lines)


def sequence_table(rows: Rows) -> str:
    """Ours on whole searches, then everybody on the sampled questions."""
    mine = rows.some(part=sequence.PART)
    if not mine:
        return ""
    keys = dict.fromkeys((row["case"], row["limit_s"]) for row in mine)
    whole = [_whole(rows.some(part=sequence.PART, case=case, limit_s=limit), case, limit) for case, limit in keys]
    head = ["search", "limit s", "δ", "queries", "certified", "falsified", "unknown", "kept", "total s", "of it start-up"]
    sampled = [line for case, limit in keys for line in _sampled(rows.some(part=sequence.PART, case=case, limit_s=limit), case)]
    told = (
        "The same sampled questions for all. Seconds of `certify` are those of these questions in the search, plus all of its "
        "start-up; `ratio` is the tool's seconds over these; time-outs count as they took. `near`: the counterexample "
        "holds within 1e-4 only; `spurious`: not even so; neither counts as decided."
    )
    parts = ["### Searches\n\n" + table(head, whole)]
    if sampled:
        heads = [
            "search",
            "tool",
            "asked",
            "decided",
            "near",
            "spurious",
            "seconds",
            "ratio",
            "slowest",
            "decided, not by certify",
        ]
        parts.append(f"### Sampled questions of the searches\n\n{told}\n\n" + table(heads, sampled))
    return "\n\n".join(parts)


def _whole(mine: Sequence[Row], case: str, limit: float) -> list[str]:
    ours = [row for row in mine if row["tool"] == OURS and row["query"] != sequence.WHOLE]
    end = next((row for row in mine if row["query"] == sequence.WHOLE), None)
    counts = Counter(row["verdict"] for row in ours)
    verdicts = [str(counts[name]) for name in ("certified", "falsified", "unknown")]
    delta = _number(ours[0]["tolerance"]) if ours else "–"
    if end is None:
        return [case, f"{limit:g}", delta, str(len(ours)), *verdicts, "–", "stopped", "–"]
    kept = f"{end['left']} of {end['components']}"
    return [case, f"{limit:g}", delta, str(len(ours)), *verdicts, kept, f"{end['time_s']:.1f}", f"{end['start_s']:.1f}"]


def _sampled(mine: Sequence[Row], case: str) -> list[list[str]]:
    ours = {row["query"]: row for row in mine if row["tool"] == OURS}
    end = ours.pop(sequence.WHOLE, None)
    others = [row for row in mine if row["tool"] != OURS]
    lines: list[list[str]] = []
    for tool in _tools(others, (sequence.COLD,)):
        theirs = [row for row in others if row["tool"] == tool and row["query"] in ours]
        decided = [row for row in theirs if row["verdict"] in queries.DECIDED]
        spent = sum(row["time_s"] for row in theirs)
        same = sum(ours[row["query"]]["time_s"] for row in theirs) + (end["start_s"] if end else 0.0)
        beyond = [row for row in decided if ours[row["query"]]["verdict"] not in queries.DECIDED]
        wrong = [str(sum(row["verdict"] == word for row in theirs)) for word in ("near", "spurious")]
        slowest = max((row["time_s"] for row in theirs), default=0.0)
        counts = [str(len(theirs)), str(len(decided)), *wrong, f"{spent:.1f}", f"{spent / same:.1f}", f"{slowest:.1f}"]
        lines.append([case, tool, *counts, str(len(beyond))])
    if lines:
        some = {row["query"] for row in others if row["query"] in ours}
        own = [ours[query] for query in some]
        decided = sum(row["verdict"] in queries.DECIDED for row in own)
        spent = sum(row["time_s"] for row in own) + (end["start_s"] if end else 0.0)
        slowest = max(row["time_s"] for row in own)
        lines.insert(0, [case, OURS, str(len(own)), str(decided), "0", "0", f"{spent:.1f}", "1.0", f"{slowest:.1f}", "–"])
    return lines


def gap_tables(rows: Rows) -> str:
    """Medians of the gaps by network and share, then the share of questions that each rung decided."""
    mine = rows.some(part=gap.PART, tool="bounds")
    if not mine:
        return ""
    lines: list[list[str]] = []
    for case, share in dict.fromkeys((row["case"], row["share"]) for row in mine):
        here = [row for row in mine if (row["case"], row["share"]) == (case, share)]
        gaps = {name: _median([row[name] - row["seen"] for row in here if row[name] is not None]) for name in gap.BOUNDS}
        siamese, difference = gaps["siamese"], gaps["difference"]
        ratio = siamese / difference if siamese is not None and difference is not None and difference > 0 else None
        times = " / ".join(f"{median(row[f'{name}_s'] for row in here):.2f}" for name in gap.BOUNDS)
        seen = _number(median(row["seen"] for row in here))
        lines.append([case, f"{share:.0%}", str(len(here)), seen, *map(_number, gaps.values()), _number(ratio), times])
    head = ["network", "ablated", "circuits", "worst seen", *gap.BOUNDS, "siamese / difference", "seconds each"]
    told = (
        "Medians: proven bound of the deviation less the worst deviation found. `siamese`: CROWN by auto_LiRPA; `linear`: "
        "ours, from intervals of the difference too."
    )
    parts = [f"### Gap to the sampled worst case\n\n{told}\n\n" + table(head, lines)]
    asked = [row for row in rows.some(part=gap.PART) if row["tool"].startswith("ladder")]
    if asked:
        parts.append(_rungs(asked))
    return "\n\n".join(parts)


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None


def _rungs(asked: Sequence[Row]) -> str:
    rungs = list(dict.fromkeys(row["rung"] for row in asked if row["rung"] is not None))
    lines: list[list[str]] = []
    for case, share, tool in dict.fromkeys((row["case"], row["share"], row["tool"]) for row in asked):
        here = [row for row in asked if (row["case"], row["share"], row["tool"]) == (case, share, tool)]
        counts = Counter(row["rung"] for row in here)
        cells = [f"{counts[rung] / len(here):.0%}" for rung in (*rungs, None)]
        time_s = f"{median(row['time_s'] for row in here):.2f}"
        lines.append([case, f"{share:.0%}", tool.removeprefix("ladder "), *cells, time_s])
    told = "Tolerance in multiples of the worst deviation found."
    head = ["network", "ablated", "δ", *rungs, "open", "median s"]
    return f"### Share of questions decided by each rung\n\n{told}\n\n" + table(head, lines)
