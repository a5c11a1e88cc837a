"""The journal: what was written comes back; damage, other questions and second writers are said, not guessed about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from specs.errors import InputError
from tests.laws.tokens import posed
from tests.nets import asked, random_net
from verify.ladder.round import Decision
from verify.minimize.oracle import Answer
from verify.search.fingerprint import fingerprint
from verify.search.journal import Journal
from verify.verdict import Certified
from verify.witness.pool import Points

YES = [Decision(Certified(0.25), 0.5, "interval bounds")]


def written(path: Path) -> Journal:
    journal = Journal(str(path), "q", False)
    journal.answered(frozenset({0, 2, 70}), Answer.YES, YES)
    journal.answered(frozenset(), Answer.NO, None)
    journal.witnessed(1, Points(torch.tensor([[0.1, 0.2]], dtype=torch.float64), {"s": torch.ones((1, 1, 3)).double()}))
    return journal


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    written(tmp_path / "j").close()
    again = Journal(str(tmp_path / "j"), "q", True)
    found = again.learned
    assert found.answers == [(frozenset({0, 2, 70}), Answer.YES), (frozenset(), Answer.NO)]
    (decision,) = found.decisions[frozenset({0, 2, 70})]
    assert decision.verdict == Certified(0.25) and decision.rung == "interval bounds"
    ((claim, points),) = found.points
    assert claim == 1 and points.x.tolist() == [[0.1, 0.2]] and points.patches["s"].shape == (1, 1, 3)
    again.close(remove=True)
    assert not (tmp_path / "j").exists()


def test_a_line_cut_short_is_dropped_and_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "j"
    written(path).close()
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - 60, -7):
        path.write_bytes(whole[:cut])
        journal = Journal(str(path), "q", True)
        assert len(journal.learned.answers) == 2 and not journal.learned.points
        journal.answered(frozenset({5}), Answer.NO, None)
        journal.close()
        again = Journal(str(path), "q", True)
        assert len(again.learned.answers) == 3
        again.close()


def test_everything_cut_off_is_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"format": "certify.jou')
    journal = Journal(str(tmp_path / "j"), "q", True)
    assert not journal.learned.answers
    journal.close()


@pytest.mark.parametrize(
    "damage", [b"no json\n", b"{}\n", b'{"kept": "zz", "answer": "certified"}\n', b'{"kept": "3", "answer": "maybe"}\n',
               b'{"claim": 0, "x": [[1000000000, 1000], "eJw="], "patches": {}}\n', b"[" * 5000 + b"\n",
               b'{"kept": "3", "answer": "certified", "claims": [[-1.0, null, "x"]]}\n'],
)  # fmt: skip
def test_damage_names_the_line(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "j"
    written(path).close()
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(InputError, match="line 5"):
        Journal(str(path), "q", True)


def test_what_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "j")
    journal = written(Path(path))
    with pytest.raises(InputError, match="another run writes it"):
        Journal(path, "q", True)
    journal.close()
    with pytest.raises(InputError, match="--resume"):
        Journal(path, "q", False)
    with pytest.raises(InputError, match="another question"):
        Journal(path, "other", True)
    with pytest.raises(InputError, match="cannot be written"):
        Journal(str(tmp_path / "nowhere" / "j"), "q", False)


def test_a_fingerprint_is_of_the_question_alone(tmp_path: Path) -> None:
    model = random_net(tmp_path, 2, 3, 2, seed=1)
    region = {"kind": "linf", "center": [0.1, 0.2], "epsilon": 0.1}
    first = fingerprint(asked(model, region, 0.5))
    assert first == fingerprint(asked(model, region, 0.5))
    others = [
        asked(model, region, 0.5000001),
        asked(model, {**region, "epsilon": 0.1001}, 0.5),
        asked(model, region, 0.5, patching={"kind": "constant", "constant": {"act_0": [0.0, 0.0, 1e-9]}}),
        asked(model, region, 0.5, patching={"kind": "reachable", "reachable": region}),
        asked(model, region, 0.5, agreement={"norm": "l1"}),
        asked(random_net(tmp_path, 2, 3, 2, seed=2), region, 0.5),
    ]
    assert len({first, *map(fingerprint, others)}) == 1 + len(others)


def test_questions_about_tokens_have_fingerprints_too() -> None:
    first = [fingerprint(posed(seed)[0]) for seed in range(3)]  # all sequences, alternatives, a list
    assert first == [fingerprint(posed(seed)[0]) for seed in range(3)] and len(set(first)) == 3
