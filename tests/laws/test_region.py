"""Input sets: least values, projections, membership."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounds import region as module
from bounds.region import Region
from specs.strategies import regions
from tests.laws.examples import collect
from tests.laws.region import check_region

KINDS = sorted({cls.__name__ for cls in Region.__subclasses__() if cls.__module__ == module.__name__})
SHAPES = st.sampled_from([(1, 3), (1,), (1, 2, 2), (1, 1, 3, 2), (1, 12)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_region(kind: str) -> None:
    found = [r for r in collect(SHAPES.flatmap(regions), 120) if type(r).__name__ == kind]
    assert found, f"specs.strategies draws no {kind}: add it to specs/strategies/regions.py"
    for seed, region in enumerate(found):
        check_region(region, seed)


@given(SHAPES.flatmap(regions), st.integers(0, 999))
def test_any_region(region: Region, seed: int) -> None:
    check_region(region, seed)
