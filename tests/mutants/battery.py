"""The laws that mutants are held against, each over examples that are the same on every run. No Hypothesis, no shrinking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.backends.native import Native
from bounds.build import Builder
from bounds.graph import Graph
from bounds.ops import Clip, LeakyRelu
from bounds.ops.base import Affine, Elementwise, Joint
from bounds.query import Query
from bounds.region import Region
from specs.strategies import PLAIN, cases, functions, graphs, intervals, joints, queries, regions
from tests.exact.branching import check_branching
from tests.exact.patterns import TooLarge, exact_margin
from tests.exact.programs import check_program, open_case
from tests.laws.affine import check_affine
from tests.laws.backend import check_all_kept, check_sound
from tests.laws.edges import check_narrowed, check_patched
from tests.laws.elementwise import check_elementwise
from tests.laws.examples import collect
from tests.laws.joint import before, check_joint
from tests.laws.monotone import check_monotone
from tests.laws.queue import check_queue
from tests.laws.region import check_region
from tests.laws.search import check_search
from tests.laws.shrink import check_shrink, dense_case
from tests.laws.split import check_split
from tests.laws.tokens import check_choices, check_enumeration, check_halves, check_point_boxes, check_sharp_points
from tests.laws.trace import check_trace

__all__ = ["LAWS"]


@cache
def _graphs() -> list[Graph]:
    builder = Builder("x", (1, 2, 3, 4))
    builder.transpose("x", (0, 2, 3, 1), name="turned")  # a permutation that is not its own inverse
    builder.conv("turned", torch.arange(36.0).reshape(4, 3, 3, 1), None, (2, 1), (1, 0), name="conv")
    return [builder.build("conv"), *collect(graphs(), 80)]


@cache
def _operators() -> list[tuple[Elementwise, tuple[Tensor, Tensor]]]:
    return collect(st.tuples(functions(), intervals((16,))), 90)


@cache
def _joints() -> list[tuple[Joint, tuple[Tensor, Tensor]]]:
    pairs = joints().flatmap(lambda op: st.tuples(st.just(op), intervals((2, *before(op)))))
    return collect(pairs, 80)


@cache
def _regions() -> list[Region]:
    return collect(st.sampled_from([(1, 3), (1, 2, 2)]).flatmap(regions), 60)


@cache
def _cases() -> list[tuple[Query, Tensor]]:
    steep = queries(graphs(of=st.sampled_from((LeakyRelu(-0.5), LeakyRelu(1.5), Clip(-1.0, 1.0)))))
    plain, pooled = queries(graphs(blocks=PLAIN)), queries(graphs(layouts=("line", "image"), blocks=("conv", "max_pool")))
    return collect(cases(plain), 80) + collect(cases(), 15) + collect(cases(steep), 15) + collect(cases(pooled), 15)


def _affine() -> None:
    for seed, graph in enumerate(_graphs()):
        for node in graph.nodes:
            if isinstance(node.op, Affine):
                check_affine(graph, node, seed)


def _elementwise() -> None:
    for seed, (op, ends) in enumerate(_operators()):
        check_elementwise(op, *ends, seed)


def _joint() -> None:
    for seed, (op, ends) in enumerate(_joints()):
        check_joint(op, *ends, seed)


def _region() -> None:
    for seed, region in enumerate(_regions()):
        check_region(region, seed)


def _trace() -> None:
    for seed, case in enumerate(_cases()):
        check_trace(*case, seed)


def _trace_in_float32() -> None:
    for seed, case in enumerate(_cases()):
        check_trace(*case, seed, torch.float32)


def _bound() -> None:
    for seed, case in enumerate(_cases()):
        for method in ("linear", "difference"):
            check_sound(Native(method=method), *case, seed)


def _all_kept() -> None:
    for query, _ in _cases():
        check_all_kept(query)


def _subproblem() -> None:
    for seed, (query, masks) in enumerate(_cases()):
        check_split(query, masks[0], seed)


def _shrunken() -> None:
    for seed in range(30):
        check_shrink(*dense_case(seed), seed)


@cache
def _programs() -> list[tuple[Query, Tensor, float]]:
    """Queries that bounds leave open, and their exact margins."""
    found: list[tuple[Query, Tensor, float]] = []
    for query, mask in map(open_case, range(30)):
        try:
            found.append((query, mask, exact_margin(query, mask[0], pieces=200)))
        except TooLarge:
            continue
    return found


def _program() -> None:
    for query, masks, exact in _programs():
        check_program(query, masks, exact)


def _deciding() -> None:
    for query, masks, exact in _programs()[:15]:
        for by_input in (True, False):
            check_branching(query, masks, exact, -0.01, by_input, rounds=30)


def _queue() -> None:
    for seed in range(5):
        check_queue(seed)


def _monotone() -> None:
    for seed, (query, _) in enumerate(_cases()):
        if not query.gates.sources:
            check_monotone(query, seed)


def _search() -> None:
    for seed in range(150):
        check_search(seed)


def _tokens() -> None:
    for seed in range(3):
        check_point_boxes(seed)
        check_sharp_points(seed)
        check_enumeration(seed)
        check_halves(seed)
    check_choices(1)


def _edges() -> None:
    for seed in range(4):
        check_patched(seed)
        check_narrowed(seed)


LAWS: Mapping[str, Callable[[], None]] = {
    "affine": _affine,
    "elementwise": _elementwise,
    "joint": _joint,
    "region": _region,
    "trace": _trace,
    "trace in float32": _trace_in_float32,
    "bound": _bound,
    "edges": _edges,
    "monotone": _monotone,
    "all kept": _all_kept,
    "subproblem": _subproblem,
    "shrunken": _shrunken,
    "program": _program,
    "deciding": _deciding,
    "queue": _queue,
    "search": _search,
    "tokens": _tokens,
}
