"""The original model in its own runtime: what witnesses are replayed in and our reading is checked against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Mask", "Runtime"]

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Runtime(ABC):
    """One model, one input at a time, in the precision the model is run in."""

    @abstractmethod
    def outputs(self, x: Array) -> Array:
        """The model's output (logits, where a trailing softmax is dropped) for one input.

        Shapes: `x` has the graph's input shape, the model's own leading axis included; the result has the graph's output's.
        `x` is cast to the model's input type first.
        """

    @abstractmethod
    def intervened(self, x: Array, kept: Mapping[str, Mask], patch: Mapping[str, Array]) -> Array:
        """The output where every tensor in `kept` shows its readers `patch` wherever `kept` is False.

        Shapes: `kept[site]` and `patch[site]` have the tensor's shape, leading axis included. Sites are names of the graph's
        nodes; both mappings have the same ones. What is kept is recomputed from what is upstream, patched values included.
        """

    @abstractmethod
    def activations(
        self,
        x: Array,
        sites: Collection[str],
        kept: Mapping[str, Mask] | None = None,
        patch: Mapping[str, Array] | None = None,
    ) -> dict[str, Array]:
        """The model's own values at some tensors, for one input; or with `kept` and `patch` those of the intervened model, as
        computed, before their own patch. Shapes: the tensors', leading axis included."""
