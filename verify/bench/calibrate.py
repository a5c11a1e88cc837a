"""The rule that tolerances follow: a share of how far apart a network's answers are on its own data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["tolerance_of"]


def tolerance_of(outputs: NDArray[np.float64], named: Sequence[int] | None = None, share: float = 0.5) -> float:
    """`share` of the median gap between the two largest outputs, so that (at a half) the typical input keeps its class; where
    `named` are a regression's outputs, of the least of their standard deviations. To three digits. Shapes: `(inputs, outputs)`.
    """
    import numpy as np

    if named is not None:
        return float(f"{share * outputs[:, list(named)].std(axis=0).min():.3g}")
    ordered = np.sort(outputs, axis=1)
    return float(f"{share * np.median(ordered[:, -1] - ordered[:, -2]):.3g}")
