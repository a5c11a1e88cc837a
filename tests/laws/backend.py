"""Laws of every backend: bounds hold at sampled points, batches change nothing, nothing is gained by asking for less."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import bounds.backends
from bounds.backends.base import Backend, BackendRefusal, BackendUnavailable, Bounder
from bounds.backends.native import Native
from bounds.ops import Sign
from bounds.query import Bound, Query
from tests.laws.evaluation import run
from tests.laws.examples import subclasses

__all__ = ["backends", "check_all_kept", "check_batch", "check_order", "check_sound", "opened"]

_EPS = torch.finfo(torch.float64).eps


def backends() -> list[Backend]:
    """Every backend there is: each method of those that have several, and the native ones in both precisions."""
    found: list[Backend] = []
    known: list[Any] = subclasses(bounds.backends, Backend)
    for cls in known:
        methods: Sequence[str] = {"native": ("interval", "linear", "difference"), "lirpa": ("ibp", "crown")}.get(cls.name, ())
        found += [cls(method=method) for method in methods] or [cls()]
    return [*found, *(Native(method=m, dtype=torch.float32) for m in ("interval", "linear", "difference"))]


def opened(backend: Backend, query: Query) -> Bounder | None:
    """None where the backend says that it will not. Skips the test where its library is not installed."""
    try:
        return backend.open(query)
    except BackendRefusal:
        return None
    except BackendUnavailable as error:
        pytest.skip(str(error))


def _bound(backend: Backend, query: Query, masks: Tensor) -> Bound | None:
    bounder = opened(backend, query)
    try:
        return None if bounder is None else bounder.bound(masks)
    except BackendRefusal:
        return None


def _slack(backend: Backend, size: Tensor) -> Tensor:
    """Only for what does not round outward: the square root of a unit roundoff, which its own guard grants too."""
    return _EPS**0.5 * (1 + size) if backend.name == "lirpa" else torch.zeros_like(size)


def check_sound(backend: Backend, query: Query, masks: Tensor, seed: int, count: int = 64) -> bool:
    """No sampled point has a form below its bound, or a margin below the bound of the margin. False where it was refused."""
    bound = _bound(backend, query, masks)
    if bound is None:
        return False
    assert bound.forms.shape == (len(masks), len(query.margins.offset)) and bound.margin.shape == (len(masks),)
    assert not bool(bound.forms.isnan().any() | bound.margin.isnan().any()), "a bound that is not a number"
    meant, cpu = query, torch.device("cpu")
    dtype = getattr(backend, "dtype", torch.float64)
    if dtype != torch.float64:
        moved = query.to(dtype, cpu).to(torch.float64, cpu)
        meant = Query(moved.graph, query.gates, query.region, query.margins)
    margins, output = query.margins, query.graph.output
    for i, (model, circuit) in enumerate(run(meant, masks, count, seed)):
        c, g = circuit.value[output], model.value[output]
        forms = margins.forms(c, g)
        weights = margins.circuit.flatten(1).abs(), margins.model.flatten(1).abs()
        error = circuit.error[output].flatten(1) @ weights[0].T + model.error[output].flatten(1) @ weights[1].T
        size = c.abs().flatten(1) @ weights[0].T + g.abs().flatten(1) @ weights[1].T + margins.offset.abs()
        highest = forms + error * (1 + 1e-6) + 4 * (c[0].numel() + 2) * _EPS * size + _slack(backend, size)
        over = (bound.forms[i] - highest).amax()
        assert float(over) <= 0, f"{backend}: a form is {float(over):.3g} below its bound"
        margin = margins.combine(highest)
        over = (bound.margin[i] - margin - 16 * _EPS * (1 + margin.abs() + highest.abs().amax(1))).amax()
        assert float(over) <= 0, f"{backend}: the margin is {float(over):.3g} below its bound"
    return True


def check_batch(backend: Backend, query: Query, masks: Tensor) -> None:
    """A batch of circuits gets what each gets by itself, to rounding: 1e-9, in float32 1e-3.

    The difference domain chooses its lines greedily, and rounding may tip a choice between equals: there it must be near.
    Where a step is, rounding may tip a whole bound: no law there.
    """
    if any(isinstance(node.op, Sign) for node in query.graph.nodes):
        return
    together = _bound(backend, query, masks)
    if together is None:
        return
    share = 1e-9 if getattr(backend, "dtype", torch.float64) == torch.float64 else 1e-3
    share = 1e-2 if getattr(backend, "method", "") == "difference" else share
    size = _largest(query)
    for i, mask in enumerate(masks):
        alone = _bound(backend, query, mask.unsqueeze(0))
        assert alone is not None
        a, b = together.forms[i], alone.forms[0]
        same = (a == b) | ((a - b).abs() <= share * (size + a.abs()))
        assert bool(same.all()), f"a batch changes bounds: {a.tolist()} together, {b.tolist()} alone"


def _largest(query: Query) -> float:
    from bounds.domains.refine import model_trace

    values = model_trace(query.graph, query.region, 1 << 24, refine=False).value.values()
    patches = [gate.patch.magnitude.max() for gate in query.gates.gates]
    return 1 + float(torch.stack([*(box.magnitude.max() for box in values), *patches]).max())


def check_order(query: Query, masks: Tensor) -> None:
    """Linear bounds are never below interval ones, and with the difference domain never below linear ones."""
    found = [_bound(Native(method=method), query, masks) for method in ("interval", "linear", "difference")]
    for loose, tight in itertools.pairwise(found):
        assert loose is not None and tight is not None
        slack = 1e-12 * (_largest(query) + loose.forms.abs())
        assert bool((tight.forms >= loose.forms - slack).all()), f"{tight.forms.tolist()} is looser than {loose.forms.tolist()}"


def check_all_kept(query: Query) -> None:
    """The circuit that keeps everything is the model: the difference is zero and the margin the tolerance, but for rounding."""
    masks = torch.ones((1, query.gates.size), dtype=torch.bool)
    if not torch.equal(query.margins.circuit, -query.margins.model):
        return
    best = query.margins.combine(query.margins.offset)
    for method in ("interval", "linear", "difference"):
        bound = _bound(Native(method=method), query, masks)
        assert bound is not None
        gap, allowed = float((best - bound.margin[0]).abs()), 1e-13 * _largest(query) * len(query.margins.offset)
        assert gap <= allowed, f"{method}: all kept, and the margin is off by {gap:.3g}"
