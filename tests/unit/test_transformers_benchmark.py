"""The pieces of `python -m benchmarks.transformers` that compute something themselves."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.models import train_greater_than, train_ioi
from benchmarks.transformers import greater_than, ioi
from benchmarks.transformers.__main__ import replaced
from benchmarks.transformers.ask import Asked
from benchmarks.transformers.induction import sequences
from benchmarks.transformers.max_of_four import Anytime, Tables
from benchmarks.transformers.parts import Sentences
from verify.verdict import Certified, Falsified

_EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
_Z = ("blocks.0.attn.hook_z", "blocks.1.attn.hook_z")
_FOUND = {
    "ioi": [(_Z[0], 3), (_Z[1], 1), (_Z[1], 2)],
    "greater_than": [(_Z[1], 0), (_Z[1], 1), (_Z[1], 2), ("blocks.0.hook_mlp_out", 0), ("blocks.1.hook_mlp_out", 0)],
}
"""What discovery finds among heads and MLPs (docs/results/transformers.md)."""


def drawn(seed: int, sharpness: float, length: int = 3, vocabulary: int = 5) -> Tables:
    """Random tables, of a model that is right more often the sharper it is."""
    random = torch.Generator().manual_seed(seed)
    score = torch.randn((length, vocabulary, vocabulary), generator=random, dtype=torch.float64)
    score += sharpness * torch.arange(vocabulary)
    value = torch.randn((length, vocabulary, vocabulary), generator=random, dtype=torch.float64)
    value += sharpness * torch.eye(vocabulary)
    direct = torch.randn((vocabulary, vocabulary), generator=random, dtype=torch.float64)
    return Tables((score, score), (value, value), (direct, direct))


def right(tables: Tables) -> int:
    """By brute force."""
    length, vocabulary = tables.score[0].shape[0], tables.score[0].shape[2]
    ids = torch.tensor(list(itertools.product(range(vocabulary), repeat=length)))
    place = torch.arange(length)
    score = tables.score[0][place, ids[:, -1:], ids].softmax(1)
    logits = tables.direct[0][ids[:, -1]] + (score.unsqueeze(2) * tables.value[0][place, ids]).sum(1)
    return int((logits.argmax(1) == ids.amax(1)).sum())


def test_the_count_ends_exact_and_never_exceeds_it() -> None:
    for seed in range(8):
        tables = drawn(seed, sharpness=float(seed % 4))
        count, true = Anytime(tables), right(tables)
        before = 0
        while count.open:
            count.step()
            assert before <= count.right <= true, "more is proven than is so, or less than before"
            before = count.right
        assert (count.right, count.right + count.wrong) == (true, 5**3)


def test_tables_enclose_what_the_model_computes() -> None:
    from benchmarks.transformers.ask import model_at
    from benchmarks.transformers.max_of_four import _MODEL

    tables, graph = Tables.of(_MODEL), model_at(_MODEL).graph
    ids = torch.randint(0, 64, (200, 4), generator=torch.Generator().manual_seed(0))
    place = torch.arange(4)
    middle = [(low + high) / 2 for low, high in (tables.score, tables.value, tables.direct)]
    score = middle[0][place, ids[:, -1:], ids].softmax(1)
    logits = middle[2][ids[:, -1]] + (score.unsqueeze(2) * middle[1][place, ids]).sum(1)
    given = graph(torch.nn.functional.one_hot(ids, 64).double().unsqueeze(1)).reshape(200, -1)
    assert bool((logits - given).abs().max() < 1e-9)
    assert all(bool((low <= high).all()) for low, high in (tables.score, tables.value, tables.direct))


def test_sequences_of_induction() -> None:
    ids = sequences(4)
    assert len(ids) == 4 * 4 * 3**4  # the token, where it stood before, and all others in the other places
    for row in ids[::50].tolist():
        assert row[:-1].count(row[-1]) == 1 and row[-2] != row[-1]


def test_sentences_are_all_there_are_and_the_models_right_on_every_one() -> None:
    asked = ioi.claim()
    assert len(asked.ids.unique(dim=0)) == len(asked.ids) == 8 * 7 * 2 * 3 * 2 * 3
    for row in asked.ids[::97].tolist():
        names = [token for token in row if token in train_ioi.NAMES]
        assert [names.count(name) for name in sorted(names, key=names.count)] == [1, 2, 2]
        assert names.count(int(train_ioi.receiver(torch.tensor([row])))) == 1
    assert ioi.right(asked) == len(asked.ids)
    asked = greater_than.claim()
    assert len(asked.ids.unique(dim=0)) == len(asked.ids) == 12 * 8 * 39
    words = [train_greater_than.TOKENS[token] for token in asked.ids[777].tolist()]
    after = [train_greater_than.TOKENS[i] for i in train_greater_than.later(asked.ids)[777].nonzero().flatten().tolist()]
    assert words[2] == words[5] and after == [f"{year:02d}" for year in range(int(words[3]) + 1, 40)]
    assert greater_than.least_probability(asked) > 0.98


@pytest.mark.parametrize(("name", "every"), [("ioi", 7), ("greater_than", 31)])
def test_the_parts_found_are_enough_and_none_can_go(name: str, every: int) -> None:
    """Over some of the sentences: enough over all is enough over these, and these show that none can go."""
    whole: Sentences = {"ioi": ioi, "greater_than": greater_than}[name].claim()
    asked = replace(whole, ids=whole.ids[::every])
    of_parts = Asked(asked.model, asked.scope, asked.spec())
    kept = {site: [i for s, i in _FOUND[name] if s == site] for site in asked.scope}
    assert isinstance(of_parts.decide(kept).verdict, Certified)
    for site, index in _FOUND[name]:
        assert isinstance(of_parts.decide(of_parts.without(kept, site, index)).verdict, Falsified)
    between = asked.between(_FOUND[name])
    edges = json.loads((_EXAMPLES / name / "edges.json").read_text())["kept"]
    assert all(set(edges[site]) <= set(between[site]) for site in between)
    assert sum(map(len, between.values())) == {"ioi": 19, "greater_than": 30}[name]
    assert isinstance(Asked(asked.model, dict.fromkeys(edges, "edge"), asked.spec()).decide(edges).verdict, Certified)


def test_a_section_is_replaced_where_it_stands() -> None:
    text = "# T\n\n## A\n\nold\n\n## B\n\nstays\n"
    assert replaced(text, "A", "## A\n\nnew\n") == "# T\n\n## A\n\nnew\n\n## B\n\nstays\n"
    assert replaced(text, "C", "## C\n\nnew\n").endswith("stays\n\n## C\n\nnew\n")
