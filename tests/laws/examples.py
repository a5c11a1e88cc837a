"""What the laws run over: every operator and backend there is, and examples that are the same on every run."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

__all__ = ["collect", "share", "subclasses"]

T = TypeVar("T")

_NO_CHECKS: list[Any] = list(HealthCheck)


def subclasses(package: ModuleType, base: type[T]) -> list[type[T]]:
    """Every concrete subclass of `base` in any module of a package, found by importing them all: a new file needs no entry."""
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    found: list[type[T]] = []
    todo = list(base.__subclasses__())
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        ours = cls.__module__.startswith(package.__name__)
        named = ours and getattr(sys.modules[cls.__module__], cls.__name__, None) is cls  # not what `slots=True` replaced
        if named and cls not in found and not inspect.isabstract(cls):
            found.append(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def collect(strategy: st.SearchStrategy[T], count: int, start: int = 0) -> list[T]:
    """Examples of a strategy, the same on every run: no shrinking, no database."""
    found: list[T] = []

    @seed(start)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=_NO_CHECKS)
    @given(strategy)
    def keep(example: T) -> None:
        found.append(example)

    keep()
    return found


def share(part: float) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a law over this part of the examples that the Hypothesis profile grants, and at least five."""
    return settings(max_examples=max(5, int(settings().max_examples * part)))  # pyright: ignore[reportReturnType]
