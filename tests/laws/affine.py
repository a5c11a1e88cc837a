"""Laws of affine operators, for any node of a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops.base import Affine
from bounds.rounding import gamma, tiny

__all__ = ["check_adjoint", "check_affine", "check_forward", "check_magnitude", "check_terms"]

_EPS = torch.finfo(torch.float64).eps


def check_affine(graph: Graph, node: Node, seed: int) -> None:
    """All of them."""
    check_adjoint(graph, node, seed)
    check_magnitude(graph, node, seed)
    check_forward(graph, node, seed)
    check_terms(graph, node, seed)


def _inputs(graph: Graph, node: Node, seed: int, dtype: torch.dtype = torch.float64, rows: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((rows, *graph.shape(name)), generator=generator).to(dtype) for name in node.inputs]


def _coefficients(node: Node, seed: int, dtype: torch.dtype = torch.float64, rows: int = 5) -> Tensor:
    a = torch.randn((rows, *node.shape), generator=torch.Generator().manual_seed(seed + 1))
    a[..., seed % max(1, a.shape[-1])] = 0.0  # what no row looks at may be left out
    return a.to(dtype)


def check_adjoint(graph: Graph, node: Node, seed: int, rows: int = 5) -> None:
    """`<a, L x> = <L^T a, x>`, shapes as promised, for few rows and for many."""
    op = node.op
    assert isinstance(op, Affine)
    for n in (rows, 64):
        x, a = _inputs(graph, node, seed, rows=n), _coefficients(node, seed, rows=n)
        parts = op.adjoint(a)
        y = op.linear(*x)
        assert y.shape == a.shape, "linear: shape"
        left = (a * y).flatten(1).sum(1)
        right = torch.zeros(n, dtype=torch.float64)
        for part, source in zip(parts, x, strict=False):
            assert part.shape == source.shape, "adjoint: shape"
            right = right + (part * source).flatten(1).sum(1)
        size = (a.abs() * op.magnitude(*(v.abs() for v in x))).flatten(1).sum(1)
        assert bool(((left - right).abs() <= 1e3 * _EPS * size).all()), f"adjoint of {node.name}: {left} against {right}"


def check_magnitude(graph: Graph, node: Node, seed: int) -> None:
    """`|L x| <= |L| |x|`, tight: equality for the right signs, so `|L|` is no larger than it must be."""
    op = node.op
    assert isinstance(op, Affine)
    x = _inputs(graph, node, seed)
    wide = op.magnitude(*(v.abs() for v in x))
    assert bool((op.linear(*x).abs() <= wide * (1 + 1e-12)).all()), f"magnitude of {node.name}"
    count = wide[0].numel()
    units = torch.eye(count, dtype=torch.float64).reshape(count, *node.shape)
    least = torch.zeros(count, dtype=torch.float64)
    for part, source in zip(op.adjoint(units), x, strict=False):
        least = least + (part.abs() * source[:1].abs()).flatten(1).sum(1)
    assert torch.allclose(least, wide[0].flatten(), rtol=1e-12, atol=1e-300), f"magnitude of {node.name}: not |L|"


def check_forward(graph: Graph, node: Node, seed: int) -> None:
    """The function is its linear part plus the offset, and zero goes to the offset."""
    op = node.op
    assert isinstance(op, Affine)
    x = _inputs(graph, node, seed)
    offset = op.offset()
    offset = torch.zeros(node.shape, dtype=torch.float64) if offset is None else offset.expand(node.shape)
    y = op.forward(*x)
    assert y.shape[1:] == node.shape, f"forward of {node.name}: shape"
    assert torch.allclose(y, op.linear(*x) + offset, rtol=1e-12, atol=1e-12), f"forward of {node.name}"
    zero = op.forward(*(torch.zeros_like(v) for v in x))
    assert torch.equal(zero, offset.expand_as(zero)), f"forward of {node.name} at 0"


def check_terms(graph: Graph, node: Node, seed: int) -> None:
    """In float32, `linear` and `adjoint` are within `gamma(terms)` of their values; without terms they are exact."""
    op, low = node.op, node.op.to(torch.float32, torch.device("cpu"))
    assert isinstance(op, Affine) and isinstance(low, Affine)
    high = low.to(torch.float64, torch.device("cpu"))
    slack, floor = gamma(op.terms, torch.float32) if op.terms else 0.0, tiny(op.terms, torch.float32) if op.terms else 0.0
    for rows in (5, 64):
        x, a = _inputs(graph, node, seed, torch.float32, rows), _coefficients(node, seed, torch.float32, rows)
        found = low.linear(*x).double()
        true = high.linear(*(v.double() for v in x))
        allowed = slack * high.magnitude(*(v.double().abs() for v in x)) + floor
        assert bool(((found - true).abs() <= allowed).all()), f"terms of {node.name}: linear"
        sizes = _absolute_adjoint(high, node, a.double().abs())
        for part, exact, size in zip(low.adjoint(a), high.adjoint(a.double()), sizes, strict=True):
            assert bool(((part.double() - exact).abs() <= slack * size + floor).all()), f"terms of {node.name}: adjoint"


def _absolute_adjoint(op: Affine, node: Node, a: Tensor) -> list[Tensor]:
    """`|L|^T a`, through the matrix of the adjoint."""
    count = a[0].numel()
    units = torch.eye(count, dtype=torch.float64).reshape(count, *node.shape)
    return [(a.flatten(1) @ part.abs().flatten(1)).reshape(len(a), *part.shape[1:]) for part in op.adjoint(units)]
