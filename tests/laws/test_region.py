"""Input sets: least values, projections, membership."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bounds
from bounds.region import Region
from specs.strategies import pairs, regions
from tests.laws.examples import collect, subclasses
from tests.laws.region import check_region

KINDS = [cls.__name__ for cls in subclasses(bounds, Region)]
SHAPES = st.sampled_from([(1, 3), (1,), (1, 2, 2), (1, 1, 3, 2), (1, 12)])
ANY = SHAPES.flatmap(lambda shape: st.one_of(regions(shape), pairs(shape)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_region(kind: str) -> None:
    found = [r for r in collect(ANY, 160) if type(r).__name__ == kind]
    assert found, f"specs.strategies draws no {kind}: add it to specs/strategies/regions.py"
    for seed, region in enumerate(found):
        check_region(region, seed)


@given(ANY, st.integers(0, 999))
def test_any_region(region: Region, seed: int) -> None:
    check_region(region, seed)
