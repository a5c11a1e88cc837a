"""The original model in its own runtime: what witnesses are replayed in and our reading is checked against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NOTHING", "Array", "Intervention", "Mask", "Runtime"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Intervention:
    """Every tensor in `kept` shows its readers `patch` wherever `kept` is False.

    Shapes: `kept[site]` and `patch[site]` have the tensor's shape, leading axis included. Sites are names of the graph's
    nodes; both mappings have the same ones.
    """

    kept: Mapping[str, Mask]
    patch: Mapping[str, Array]

    def shown(self, site: str, value: Array) -> Array:
        """What the readers of a tensor see, given its value as computed."""
        return np.where(self.kept[site], value, self.patch[site]) if site in self.kept else value


NOTHING = Intervention({}, {})


class Runtime(ABC):
    """One model, one input at a time, in the precision the model is run in."""

    @abstractmethod
    def outputs(self, x: Array) -> Array:
        """The model's output (logits, where a trailing softmax is dropped) for one input.

        Shapes: `x` has the graph's input shape, the model's own leading axis included; the result has the graph's output's.
        `x` is cast to the model's input type first.
        """

    @abstractmethod
    def intervened(self, x: Array, under: Intervention) -> Array:
        """The output under an intervention. What is kept is recomputed from what is upstream, patched values included."""

    @abstractmethod
    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        """The values of some tensors, for one input, as computed: before what their own readers are shown. Shapes: the
        tensors', leading axis included."""
