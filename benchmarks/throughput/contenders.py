"""Ways of bounding a batch of circuits, each behind the same call: masks in, margins out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from bounds.backends.base import Backend
    from bounds.query import Query

__all__ = ["Bounding", "Contender", "contenders"]

Bounding = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True, slots=True)
class Contender:
    """Who bounds, in which precision, and whether a batch goes in one call. `checkout` is put before the installed auto_LiRPA.

    `library` "none" bounds nothing: its process tells what imports and the loaded query weigh.
    """

    name: str
    library: Literal["native", "auto_LiRPA", "none"]
    dtype: str = "float32"
    batched: bool = True
    checkout: str | None = None

    def prepare(self, query: Query) -> Bounding:
        """Set up what is not timed. The result takes masks `(batch, components)` and returns margins `(batch,)`."""
        import torch

        dtype: torch.dtype = getattr(torch, self.dtype)
        if self.library == "none":
            return lambda masks: torch.zeros(len(masks), dtype=torch.float64)
        if self.library == "native":
            from bounds.backends.native import Native

            return self._native(query, Native(method="linear", dtype=dtype))
        from benchmarks.throughput.peer import Peer

        peer = Peer(query, dtype)
        if self.batched:
            return peer.bound
        return lambda masks: torch.cat([peer.bound(masks[i : i + 1]) for i in range(len(masks))])

    def _native(self, query: Query, backend: Backend) -> Bounding:
        import torch

        def bound(masks: Tensor) -> Tensor:
            opened = backend.open(query)
            if self.batched:
                return opened.bound(masks).margin
            return torch.cat([opened.bound(masks[i : i + 1]).margin for i in range(len(masks))])

        return bound


def contenders(lirpa07: Path | None) -> tuple[Contender, ...]:
    """All contenders, the reference of the ratios among them: `auto_LiRPA 0.3` in float32, one at a time."""
    found = [
        Contender("native f64", "native", "float64"),
        Contender("native f32", "native", "float32"),
        Contender("native f64, one at a time", "native", "float64", batched=False),
        Contender("native f32, one at a time", "native", "float32", batched=False),
        Contender("auto_LiRPA f32, one at a time", "auto_LiRPA", "float32", batched=False),
        Contender("auto_LiRPA f64, one at a time", "auto_LiRPA", "float64", batched=False),
        Contender("auto_LiRPA f32, batched", "auto_LiRPA", "float32"),
    ]
    if lirpa07 is not None:
        path = str(lirpa07.resolve())
        found += [
            Contender("auto_LiRPA 0.7 f32, one at a time", "auto_LiRPA", "float32", batched=False, checkout=path),
            Contender("auto_LiRPA 0.7 f32, batched", "auto_LiRPA", "float32", checkout=path),
        ]
    return tuple(found)
