"""Branch and bound of circuits left open, to go on with where they are asked about again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from bounds.gates import mask_key
from verify.branch.run import Branching

__all__ = ["Branchings"]


@dataclass(eq=False)
class Branchings:
    """Those of one query, by circuit. `room`: bytes they may hold together; those asked about longest ago make room."""

    room: int = 1 << 30
    _held: OrderedDict[bytes, Branching] = field(default_factory=OrderedDict[bytes, Branching])

    def take(self, mask: Tensor, begin: Callable[[], Branching]) -> Branching:
        """A circuit's, where it is held and can go on, else a new one. Shapes: `mask` `(1, components)` bool."""
        held = self._held.pop(mask_key(mask), None)
        return held if held is not None and held.whole else begin()

    def put(self, mask: Tensor, branching: Branching) -> None:
        """Hold one for later, if it can go on."""
        if branching.whole:
            self._held[mask_key(mask)] = branching
        while self._held and sum(held.bytes for held in self._held.values()) > self.room:
            self._held.popitem(last=False)
