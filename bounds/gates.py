"""Where a graph's tensors may be replaced, component by component, by values from a box or from another tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.region import Box

__all__ = ["Gate", "Gates", "mask_key"]


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """One tensor whose readers see, for each ablated component, a patched value instead.

    Shapes: `group` (long) and the ends of `patch` have the tensor's shape; `group` holds the component of each element,
    numbered 0..size-1. A patched element takes any value of its interval in `patch`, each on its own. With a `source`, a tensor
    of the same graph and shape that no gate lies upstream of, it takes what `source` holds there; `patch` then encloses that.
    """

    tensor: str
    group: Tensor
    size: int
    patch: Box
    source: str | None = None

    def to(self, dtype: torch.dtype, device: torch.device) -> Gate:
        return Gate(self.tensor, self.group.to(device), self.size, self.patch.to(dtype, device), self.source)


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """All gates of a query, in graph order. A mask row lists their components one gate after the other, True for kept."""

    gates: tuple[Gate, ...]

    @property
    def size(self) -> int:
        """Number of components in all."""
        return sum(gate.size for gate in self.gates)

    @property
    def by_tensor(self) -> Mapping[str, Gate]:
        return {gate.tensor: gate for gate in self.gates}

    @property
    def sources(self) -> Mapping[str, str]:
        """The tensors that patched values come from, by gated tensor, where they come from one."""
        return {gate.tensor: gate.source for gate in self.gates if gate.source is not None}

    def expand(self, masks: Tensor) -> dict[str, Tensor]:
        """Spread component masks over elements. Shapes: `(batch, size)` bool to `(batch, *shape)` bool for each gated
        tensor."""
        parts = torch.split(masks, [gate.size for gate in self.gates], dim=1)
        return {gate.tensor: part[:, gate.group] for gate, part in zip(self.gates, parts, strict=True)}

    def to(self, dtype: torch.dtype, device: torch.device) -> Gates:
        return Gates(tuple(gate.to(dtype, device) for gate in self.gates))


def mask_key(masks: Tensor) -> bytes:
    """Circuits as a key of a mapping; the shape is not in it. Shape: `masks` `(..., components)` bool."""
    return masks.to(torch.uint8).cpu().numpy().tobytes()
