"""Rows made up for tests."""

from __future__ import annotations

from typing import Any

from verify.bench.row import Row

__all__ = ["row"]


def row(**said: Any) -> Row:
    """A row with what is said of it."""
    named: dict[str, Any] = {
        "experiment": "e", "network": "n", "index": 0, "method": "ours", "seed": 0, "epsilon_factor": 1.0,
        "tolerance_factor": 1.0, "digest": "d", "started": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Row(**(named | said))
