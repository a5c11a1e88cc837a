"""The bounds of circuits asked about lately, for whoever asks about one of them again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor

from bounds.domains.trace import Trace
from bounds.gates import mask_key

__all__ = ["Recent"]


@dataclass(eq=False)
class Recent:
    """Traces of batches of circuits, by how they were made: the last one, and those before it as far as `room` bytes go."""

    room: int = 1 << 27
    _held: OrderedDict[tuple[str, tuple[int, ...], bytes], tuple[Trace, int]] = field(default_factory=OrderedDict)

    def get(self, method: str, masks: Tensor) -> Trace | None:
        """The trace of just these circuits, if it is held."""
        key = _key(method, masks)
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, method: str, masks: Tensor, trace: Trace) -> None:
        """Hold a trace; those asked for longest ago make room."""
        self._held[_key(method, masks)] = trace, trace.bytes
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self.room:
            self._held.popitem(last=False)


def _key(method: str, masks: Tensor) -> tuple[str, tuple[int, ...], bytes]:
    return method, tuple(masks.shape), mask_key(masks)
