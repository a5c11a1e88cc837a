"""Outward rounding, in one place.

Every bound in this package is an enclosure in *real* arithmetic although it is computed in floats. Two devices give that:

- `up` / `down` move a computed number to the next float, for single operations;
- `gamma(n)` bounds the relative error of a sum of `n` products in any order of summation (Higham, *Accuracy and Stability of
  Numerical Algorithms*, 2002, section 3.1): `|fl(x.y) - x.y| <= gamma(n) |x|.|y|`. It holds for every GEMM and direct
  convolution, whatever their blocking, with or without fused multiply-add. It does not hold for Winograd, FFT or TF32 kernels;
  `bounds.ops.conv` says how those are kept out.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["down", "gamma", "tiny", "up"]

_GUARD = 8
"""Roundings granted to the few operations around a sum (a bias, a scaling, the error term's own evaluation)."""


def gamma(terms: int, dtype: torch.dtype) -> float:
    """Relative error bound of a sum of `terms` products in `dtype`, with room for a few more operations.

    Guarantees: at least `2 n u / (1 - n u)`, `n = terms + 8`, `u` the unit roundoff; the factor 2 pays for evaluating the error
    term itself in floats. Raises: OverflowError where the sum is so long that no bound exists (`n u >= 1/2`).
    """
    scaled = (terms + _GUARD) * torch.finfo(dtype).eps / 2
    if scaled >= 0.5:
        raise OverflowError(f"a sum of {terms} products has no rounding bound in {dtype}; use float64")
    return 2 * scaled / (1 - scaled)


def tiny(terms: int, dtype: torch.dtype) -> float:
    """Absolute error that underflow may add to a sum of `terms` products."""
    return (terms + _GUARD) * torch.finfo(dtype).tiny


def up(x: Tensor) -> Tensor:
    """The next float above, elementwise."""
    return torch.nextafter(x, torch.full_like(x, torch.inf))


def down(x: Tensor) -> Tensor:
    """The next float below, elementwise."""
    return torch.nextafter(x, torch.full_like(x, -torch.inf))
