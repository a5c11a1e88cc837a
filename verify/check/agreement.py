"""How far a circuit's outputs are from the model's, in the unit of a spec's metric, as intervals. Trusted base."""

from __future__ import annotations

import numpy as np

from specs import agreement
from verify.check.interval import TINY, Array, Box, Rejected, gamma, minus

__all__ = ["deviation"]


def deviation(record: agreement.Agreement, model: Box, circuit: Box) -> Box:
    """Intervals that hold the deviations between outputs in the given ones. Shapes: ends `(..., outputs)` to `(...)`.

    A claim holds where the upper end is at most its tolerance, and is violated where the lower end is greater.
    """
    if isinstance(record, agreement.Top1):
        return _behind(model, circuit)
    lower, upper = minus(circuit, model)
    if isinstance(record, agreement.LogitDifference):
        t, k = record.target, record.against
        lower, upper = minus((lower[..., [t]], upper[..., [t]]), (lower[..., [k]], upper[..., [k]]))
    elif isinstance(record, agreement.Feature):
        raise Rejected("certificates of features are not covered")
    elif record.outputs is not None:
        lower, upper = lower[..., list(record.outputs)], upper[..., list(record.outputs)]
    least, most = np.maximum(np.maximum(lower, -upper), 0.0), np.maximum(-lower, upper)
    norm = record.norm if isinstance(record, agreement.Logits) else "linf"
    if norm == "linf":
        return least.max(-1), most.max(-1)
    slack = 4 * gamma(lower.shape[-1] + 4)
    sums = [end.sum(-1) if norm == "l1" else np.sqrt(np.square(end).sum(-1)) for end in (least, most)]
    return sums[0] * (1 - slack) - TINY, sums[1] * (1 + slack) + 1e-150


def _behind(model: Box, circuit: Box) -> Box:
    """By how much some other output of the circuit exceeds the one that is the model's first; of several first ones in one
    point the least such gap counts."""
    low, high = circuit
    if low.shape[-1] < 2:
        raise Rejected("top1 of one output")
    first = model[1] >= model[0].max(-1, keepdims=True)
    second, best = np.moveaxis(np.partition(high, -2, axis=-1)[..., -2:], -1, 0)
    others: Array = np.where(high == best[..., None], second[..., None], best[..., None])
    least = np.nextafter(low.max(-1, keepdims=True) - high, -np.inf)
    most = np.nextafter(others - low, np.inf)
    if not np.isfinite(least).all() or not np.isfinite(most).all():
        raise Rejected("an output that is not finite")
    least, most = np.where(first, least, np.inf).min(-1), np.where(first, most, -np.inf).max(-1)
    return np.maximum(least, 0.0), np.maximum(most, 0.0)
