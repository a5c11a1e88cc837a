"""Hypothesis strategies for networks, regions, circuits and claims: for this project's own laws, and for yours::

    from hypothesis import given
    from specs.strategies import cases, describe

    @given(cases())
    def test_my_backend_is_sound(case):
        query, masks = case
        note(describe(query, masks))
        ...

Everything is small (tensors of some forty elements) and odd on purpose: zero weights, weights that cancel, dead units, strides,
padding and groups, intervals that are points, circuits that keep all or nothing. Structure is drawn first and numbers come from
generators with a drawn seed, so that what fails shrinks to a short program with small numbers; `describe` prints it. Weights,
patches, centres and ends are float32 numbers held in float64; of what a graph holds only the thirds that an average pooling may
need, and a ball's radius, change when a query is moved to float32.

Needs `hypothesis`, which the package itself does not depend on.
"""

from specs.strategies.describe import describe
from specs.strategies.graphs import LAYOUTS, PLAIN, graphs
from specs.strategies.numbers import layers, tensors
from specs.strategies.operators import activations, functions, intervals, joints, piecewise
from specs.strategies.queries import cases, gates, margins, masks, queries
from specs.strategies.regions import balls, boxes, hulls, pairs, regions, token_sets

__all__ = [
    "LAYOUTS",
    "PLAIN",
    "activations",
    "balls",
    "boxes",
    "cases",
    "describe",
    "functions",
    "gates",
    "graphs",
    "hulls",
    "intervals",
    "joints",
    "layers",
    "margins",
    "masks",
    "pairs",
    "piecewise",
    "queries",
    "regions",
    "tensors",
    "token_sets",
]
