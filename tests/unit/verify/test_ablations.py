"""One circuit under every patching: which kinds there are, and that a bracket holds only radii that were answered."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import verify
from specs.load import read_spec
from tests.golden.conftest import ROOT
from verify.ablations import Answer, bracket, kinds

DIGITS = ROOT / "benchmarks" / "suites" / "digits"


@given(low=st.floats(0, 10), width=st.floats(0, 3), first=st.floats(0.01, 5), count=st.integers(0, 12), shaky=st.booleans())
def test_a_bracket_holds_what_was_answered(low: float, width: float, first: float, count: int, shaky: bool) -> None:
    asked: list[float] = []

    def answer(radius: float) -> Answer:
        # Now and then a question runs out of time.
        if shaky and len(asked) % 3 == 1:
            return "unknown"
        return "certified" if radius <= low else "falsified" if radius > low + width else "unknown"

    def ask(radius: float) -> Answer:
        asked.append(radius)
        return answer(radius)

    found = bracket(ask, first, answer(first), count)
    assert len(asked) <= count and len(set(asked)) == len(asked) and first not in asked
    assert found.certified is None or (found.certified <= low and (found.certified, "certified") in found.asked)
    assert found.falsified is None or (found.falsified > low + width and (found.falsified, "falsified") in found.asked)


def test_a_bracket_closes() -> None:
    found = bracket(lambda radius: "certified" if radius <= 0.3 else "falsified", 0.05, "certified", 20)
    assert found.certified is not None and found.falsified is not None
    assert found.certified <= 0.3 < found.falsified and found.falsified - found.certified < 1e-5


def test_kinds_of_a_spec() -> None:
    spec = read_spec(DIGITS / "mlp_certified" / "spec.yaml")
    assert [patching.kind for _, patching in kinds(spec)] == ["zero", "mean", "box", "reachable", "resample", "closed"]
    own = read_spec(DIGITS / "mlp_mean_certified" / "spec.yaml")
    assert kinds(own)[0][1] is own.patching


def test_verdicts_are_those_of_certify(tmp_path: Path) -> None:
    folder = DIGITS / "mlp_certified"
    found = list(verify.robustness(folder / "circuit.json", folder / "spec.yaml", radii=1, timeout_s=20))
    by_kind = {entry.kind: entry for entry in found}
    assert by_kind["zero"].report.verdict == "certified" and by_kind["mean"].report.verdict == "falsified"
    for entry in found:
        assert entry.radius is not None and len(entry.radius.asked) == 2
        if entry.radius.certified is not None and entry.radius.falsified is not None:
            assert entry.radius.certified < entry.radius.falsified


def test_functions_stay_functions() -> None:
    import verify.discover
    import verify.frontier  # their modules have their names

    for _ in range(2):
        assert callable(verify.discover) and callable(verify.frontier) and callable(verify.robustness)
