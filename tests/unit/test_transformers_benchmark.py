"""The pieces of `python -m benchmarks.transformers` that compute something themselves."""

from __future__ import annotations

import itertools

import torch

from benchmarks.transformers.__main__ import replaced
from benchmarks.transformers.induction import sequences
from benchmarks.transformers.max_of_four import Anytime, Tables


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


def test_a_section_is_replaced_where_it_stands() -> None:
    text = "# T\n\n## A\n\nold\n\n## B\n\nstays\n"
    assert replaced(text, "A", "## A\n\nnew\n") == "# T\n\n## A\n\nnew\n\n## B\n\nstays\n"
    assert replaced(text, "C", "## C\n\nnew\n").endswith("stays\n\n## C\n\nnew\n")
