"""What a suite's folder holds beside its rows: tables, figures, one page; made anew from the rows at any time."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from specs.write import write_whole
from verify.bench.figures import figures
from verify.bench.page import page
from verify.bench.row import Row
from verify.bench.suite import Suite
from verify.bench.summary import groups, lines
from verify.bench.tables import csv_of, latex, markdown, rows_csv, tables

__all__ = ["conditions", "write_results"]


def write_results(suite: Suite, rows: Sequence[Row], folder: Path, command: str) -> str:
    """Write `rows.csv`, `summary.json`, for each table `NAME.csv`, all of them in `tables.md` and `tables.tex`, figures as
    `.svg`, and `index.html` with everything. Returns the tables in Markdown. Raises: OSError."""
    found, drawn = tables(suite, rows), figures(suite, rows)
    said = conditions(rows, command)
    text = "\n".join([f"## {suite.title}", "", *(f"{line}  " for line in said), "", *map(markdown, found)])
    summed = [asdict(line) for group in groups(rows) for line in lines(group, suite.experiments[group.experiment].methods)]
    files = {
        "rows.csv": rows_csv(rows),
        "summary.json": json.dumps({"title": suite.title, "conditions": said, "lines": summed}, indent=1, allow_nan=False)
        + "\n",
        "tables.md": text,
        "tables.tex": "% \\usepackage{booktabs}\n" + "\n".join(map(latex, found)),
        "index.html": page(suite.title, said, found, drawn),
        **{f"{table.name}.csv": csv_of(table) for table in found},
        **drawn,
    }
    for name, content in files.items():
        write_whole(content, folder / name)
    return text


def conditions(rows: Sequence[Row], command: str) -> list[str]:
    """By what, when and on what the rows were made."""
    if not rows:
        return [f"`{command}`", "No rows yet."]
    versions = {name: version for row in rows for name, version in row.versions.items() if version is not None}
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    first, last = min(row.started for row in rows), max(row.started for row in rows)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    return [f"`{command}`", f"Tables written on a machine with {machine}; one thread a run; runs of {first} to {last}.", listed]
