"""The scale table: sizes doubled until nothing is proven, one between, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.transformers import scale, sizes
from benchmarks.transformers.scale import reached, told
from benchmarks.transformers.sizes import BASE, KINDS, Outcome, Size, problem_of


def outcome(kind: str, size: Size, limit_s: float, *, decided: bool, cpu_s: float = 1.0) -> Outcome:
    by = "certified, linear bounds" if decided else "unknown, time budget used up"
    return Outcome(kind, size, limit_s, "proven" if decided else "open", by, cpu_s, 2.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Size]:
    """Sizes that were asked about; whatever is at most five layers deep, and 24 wide, is proven."""
    seen: list[Size] = []

    def ask(kind: str, size: Size, limit_s: float) -> Outcome:
        seen.append(size)
        return outcome(kind, size, limit_s, decided=size.depth <= 5 and size.width <= 24)

    monkeypatch.setattr(scale, "ask", ask)
    return seen


def test_an_axis_is_doubled_and_then_bisected(asked: list[Size]) -> None:
    found = list(reached("ball", "depth", 6, {}))
    assert [o.size.depth for o in found] == [2, 4, 8, 6] and all(o.size.width == BASE.width for o in found)
    assert told(found, "ball", "depth", 6) == [
        "4 (certified, linear bounds, 1.0 s)",
        "6 (unknown, time budget used up, 1.0 s)",
    ]


def test_widths_are_whole_heads(asked: list[Size]) -> None:
    assert [o.size.width for o in reached("ball", "width", 6, {})] == [16, 32, 24]


def test_a_base_that_is_not_proven_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "ask", lambda kind, size, s: outcome(kind, size, s, decided=size.radius <= 0.003))
    found = list(reached("ball", "radius", 6, {}))
    assert [o.size.radius for o in found] == pytest.approx([0.01, 0.005, 0.0025, 0.0025 * 2**0.5])
    assert told(found, "ball", "radius", 6)[0].startswith("0.0025 ")


def test_what_took_less_than_the_limit_is_not_asked_again(asked: list[Size]) -> None:
    known: dict[Any, Outcome] = {}
    list(reached("ball", "depth", 6, known))
    asked.clear()
    list(reached("ball", "depth", 60, known))
    assert [size.depth for size in asked] == [8, 6], "what was not proven in six seconds may be in sixty"
    asked.clear()
    list(reached("ball", "depth", 60, known))
    assert not asked


def test_what_came_after_the_limit_or_was_refuted_is_an_answer_for_a_longer_one(asked: list[Size]) -> None:
    size = Size(depth=4)
    late = outcome("ball", size, 6, decided=True, cpu_s=20)
    refuted = Outcome("ball", Size(depth=8), 6, "refuted", "falsified, quick attack", 0.1, 0.1)
    known = {(o.kind, o.size, o.limit_s): o for o in (late, refuted)}
    found = list(reached("ball", "depth", 60, known))
    assert [o.size.depth for o in found] == [2, 4, 8, 6] and not late.proven and found[1].proven
    assert [size.depth for size in asked] == [2, 6]


def test_what_is_nowhere_proven_says_so() -> None:
    assert told([outcome("ball", BASE, 6, decided=False)], "ball", "depth", 6)[0] == "none"
    assert told([outcome("ball", BASE, 6, decided=True)], "ball", "depth", 6) == told([], "ball", "depth", 6) == ["not run"] * 2
    wide = [outcome("ball", size, 6, decided=True) for size in (BASE, Size(width=512))]
    assert told(wide, "ball", "width", 6)[1] == "not tried"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "edges"])
def test_tolerances_are_beyond_what_an_attack_finds(kind: str) -> None:
    problem, least = problem_of(kind, Size(1, 8, 2, 0.01))
    tolerance = problem.spec.agreement.tolerance  # pyright: ignore[reportAttributeAccessIssue]
    assert least == 0 and len(problem.components) == 1 and tolerance > 0
    again, _ = problem_of(kind, Size(1, 8, 2, 0.01))
    assert again.spec.agreement == problem.spec.agreement, "a size is a question, whenever it is asked"


def test_a_small_question_is_proven_and_rows_are_read_back(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    found = sizes.ask("ball", Size(1, 8, 2, 1e-3), 60)
    assert found.proven and found.by.startswith("certified") and 0 < found.cpu_s < 60
    scale.write({("ball", found.size, 60.0): found}, rows)
    assert scale.read(rows) == {("ball", found.size, 60.0): found}
    assert scale.read(tmp_path / "none") == {}


def test_a_question_ends_soon_after_its_limit() -> None:
    found = sizes.ask("ball", Size(8, 32, 8, 0.1), 0.5)
    assert found.answer != "proven" or found.cpu_s <= 0.55
    assert found.cpu_s < 2
