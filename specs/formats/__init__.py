"""Readers of other tools' circuits, one format a file; the folder is the registry.

Each file has `read(request) -> ToolCircuit`, and says in its docstring what the format is, where it was read from, and what an
import loses. None imports the tool that wrote the file.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from specs.foreign.circuit import Reader

__all__ = ["formats", "reader"]


def formats() -> tuple[str, ...]:
    """Names of the formats: those of the files, with dashes."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def reader(name: str) -> Reader:
    """What reads a format. Raises: KeyError: no such format."""
    if name not in formats():
        raise KeyError(name)
    return cast("Reader", importlib.import_module(f"{__name__}.{name.replace('-', '_')}").read)
