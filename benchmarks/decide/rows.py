"""Results as they come: one JSON object a line, so that a run that was stopped can go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Row", "Rows"]

Row: TypeAlias = dict[str, Any]

_KEY = ("part", "case", "query", "tool", "limit_s")


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _KEY)


class Rows:
    """Rows in `FOLDER/rows.jsonl`, the last of a key counting. A row is told by its part, case, query, tool and limit."""

    def __init__(self, folder: Path, resume: bool) -> None:
        """Raises: OSError; ValueError: a line that is no row."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "rows.jsonl"
        self._rows: dict[tuple[Any, ...], Row] = {}
        if resume and self.path.exists():
            for number, line in enumerate(self.path.read_text().splitlines(), 1):
                try:
                    row = json.loads(line)
                except ValueError:
                    raise ValueError(f"{self.path} line {number}: no row; delete the line, or run without --resume") from None
                self._rows[_key(row)] = row
        else:
            self.path.write_text("")

    def __iter__(self) -> Iterator[Row]:
        return iter(list(self._rows.values()))

    def find(self, **key: Any) -> Row | None:
        """The row of a key, if it is there."""
        return self._rows.get(_key(key))

    def some(self, **fields: Any) -> list[Row]:
        """Rows with these fields, in the order in which their keys first came."""
        return [row for row in self._rows.values() if all(row.get(name) == value for name, value in fields.items())]

    def add(self, row: Row) -> None:
        """Take a row in and write it down."""
        self._rows[_key(row)] = row
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
