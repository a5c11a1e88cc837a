"""The interface of every bounding backend: one query opened, batches of circuits bounded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from bounds.query import Bound, Query

__all__ = ["Backend", "BackendRefusal", "BackendUnavailable", "Bounder"]


class BackendUnavailable(RuntimeError):
    """A backend's library is not installed; the message says how to install it."""


class BackendRefusal(ValueError):
    """A backend will not bound this graph; the message names the operator and its tensor."""


class Bounder(ABC):
    """One query, opened: keeps what does not depend on the circuit."""

    @abstractmethod
    def bound(self, masks: Tensor) -> Bound:
        """Bound every margin for each circuit. Shapes: `masks` `(batch, gates.size)` bool, True for kept; at least one row."""

    def adopt(self, other: Bounder) -> None:
        """Reuse, where it fits, what another bounder of the same query has worked out. Nothing that is proven changes."""
        del other

    def stopped(self) -> Bounder | None:
        """What can go on after a call that any exception stopped anywhere, a clock's included; None where nothing can, as what
        it keeps may be half made."""
        return None


class Backend(ABC):
    """A way of bounding, with its options. Stateless: what is worth keeping lives in the `Bounder`."""

    name: ClassVar[str]

    @abstractmethod
    def open(self, query: Query) -> Bounder:
        """Make ready to bound circuits of one query. Raises: BackendUnavailable; BackendRefusal."""
