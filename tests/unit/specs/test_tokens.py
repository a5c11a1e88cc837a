"""Regions of token sequences, from their record to the set of inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bounds.tokens import Tokens
from specs import sets
from specs.errors import InputError
from specs.record import Origin
from specs.spec import Spec


def read(shape: tuple[int, ...], base: Path | str = ".", **region: Any) -> Tokens:
    entries = {
        "format": "certify.spec/1",
        "input": {"kind": "tokens", **region},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": 1.0},
    }
    spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(base)))
    ((_, found, _),) = sets.read_regions(spec.input, shape, torch.float32, file="spec.yaml", where="$.input")
    assert isinstance(found, Tokens)
    return found


def written(tokens: Tokens) -> set[tuple[int, ...]]:
    points = tokens.listed(0, tokens.count)
    return {tuple(row) for row in points.reshape(len(points), -1, tokens.vocabulary).argmax(2).tolist()}


def test_alternatives_combine() -> None:
    assert written(read((1, 3, 3), positions=[[2], "all", [0, 1]])) == {(2, b, c) for b in range(3) for c in (0, 1)}
    assert read((1, 3, 4), positions="all").count == 64
    assert read((1, 2, 4), positions="all", epsilon=0.25).radius == 0.25


def test_sequences_from_a_list_or_a_file(tmp_path: Path) -> None:
    rows = [[0, 1, 1], [2, 0, 1]]
    np.savez(tmp_path / "s.npz", ids=np.array(rows))
    for given in (rows, {"file": "s.npz", "array": "ids"}):
        assert written(read((1, 3, 3), tmp_path, sequences=given)) == {(0, 1, 1), (2, 0, 1)}
    one = read((1, 3, 3), tmp_path, sequences={"file": "s.npz", "index": [1]})
    assert written(one) == {(2, 0, 1)} and torch.equal(one.box().lower, one.box().upper)


def test_sums_of_rows() -> None:
    tokens = read((1, 3), positions=["all", [0, 2]], sum=True)
    points = {tuple(row) for row in tokens.listed(0, tokens.count).reshape(-1, 3).int().tolist()}
    assert points == {(2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1), (0, 0, 2)} and tokens.count == 6


@pytest.mark.parametrize(
    ("shape", "region", "said"),
    [
        ((1, 2, 3), {"positions": ["all"]}, "$.input.positions: 1 positions; the model's 2"),
        ((1, 2, 3), {"positions": [[0], [1, 3]]}, "$.input.positions[1][1]: token 3; the vocabulary has 3; use 0..2"),
        ((1, 2, 3), {"sequences": [[0, 1, 2]]}, "$.input.sequences: an array of shape [1, 3]; sequences of 2 tokens each"),
        ((1, 2, 3), {"sequences": [[0, 1], [2, 1.5]]}, "$.input.sequences[1][1]: token 1.5; an integer in 0..2"),
        ((1, 2, 3), {"positions": ["all", "all"], "sum": True}, "$.input.sum: an input of shape [1, 2, 3]; one row"),
        ((1, 3), {"positions": "all", "sum": True}, "$.input.positions: all; alternatives for each position that is summed"),
        ((1, 400), {"positions": ["all", "all", "all"], "sum": True}, "$.input.positions: 64000000 sums; at most 1048576"),
    ],
)
def test_refuses(shape: tuple[int, ...], region: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(shape, **region)
    assert said in str(caught.value)
