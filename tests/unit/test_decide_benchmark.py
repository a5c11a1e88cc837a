"""The deciding benchmark on a bundled model, with a peer that is a shell script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.decide import gap, queries, sequence, tools
from benchmarks.decide.__main__ import main
from benchmarks.decide.cases import SEQUENCE
from benchmarks.decide.question import Question, spec_document, write_question, write_region
from benchmarks.decide.rows import Rows
from benchmarks.decide.tables import queries_table, table
from benchmarks.decide.tools import Exported, ask_certify, ask_peer
from benchmarks.decide.walk import order, problem_of, walk
from specs.encode import Problem
from tests.unit.test_peers import VNNLIB, pretend, query  # noqa: F401  # pyright: ignore[reportUnusedImport]  # a fixture

CASE = SEQUENCE["digits_mlp"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors, and other tests on the other core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def region(tmp_path: Path) -> Path:
    return write_region(tmp_path / "region", CASE.ends(tmp_path, (1, 64)))


@pytest.fixture
def problem(region: Path, tmp_path: Path) -> Problem:
    return problem_of(CASE, tmp_path, region)


def test_region_and_tolerance_follow_their_rules(tmp_path: Path) -> None:
    model, data = CASE.paths(tmp_path)
    images = np.load(data)["images"].reshape(-1, 64)
    lower, upper = CASE.ends(tmp_path, (1, 64))
    assert lower.min() >= 0 and upper.max() <= 1
    assert np.allclose((lower + upper)[0, images[0] > 0.5] / 2, images[0][images[0] > 0.5], atol=0.0101)
    assert np.all(upper - lower <= 0.04 + 1e-12)
    session = onnxruntime.InferenceSession(str(model))
    logits = np.stack([np.asarray(session.run(None, {"image": image[None]})[0]).flatten() for image in images])
    ranked = np.sort(logits, axis=1)
    rule = 0.5 * np.median(ranked[:, -1] - ranked[:, -2])
    assert CASE.tolerance(tmp_path, CASE.load(tmp_path)) == pytest.approx(rule, rel=6e-3)


def test_order_is_by_activation_times_gradient(problem: Problem) -> None:
    found = order(problem, None)
    assert sorted(found) == list(range(64))
    graph = problem.model.graph
    x = problem.claims[0].query.region.box().center.unsqueeze(0)
    values = graph.evaluate(x, keep=frozenset({"relu_2"}))
    first, second = values["logits"].flatten().argsort(descending=True)[:2].tolist()
    weight: Any = graph.node["logits"].op
    share = (values["relu_2"].flatten() * (weight.weight[first] - weight.weight[second])).abs()
    last = [i - 32 for i in found if i >= 32]
    assert torch.equal(share[last], share[last].sort().values)


def test_a_walk_keeps_what_it_needs(region: Path, tmp_path: Path) -> None:
    *met, end = walk(CASE, tmp_path, region, 5.0)
    verdicts = [record["verdict"] for record in met]
    assert end["components"] == len(met) == 64
    assert end["left"] == 64 - verdicts.count("certified")
    assert {"certified", "falsified"} <= set(verdicts)
    sizes = [sum(map(len, record["kept"].values())) for record in met]
    assert sizes[0] == 63 and all(size == 63 - verdicts[:i].count("certified") for i, size in enumerate(sizes))
    for record in met:
        if record["verdict"] == "certified":
            assert record["proven"] <= record["tolerance"]


def test_a_cold_call_and_its_files(region: Path, tmp_path: Path) -> None:
    scope = CASE.scope(CASE.load(tmp_path))
    kept = {"relu_1": list(range(32)), "relu_2": list(range(1, 32))}
    spec = spec_document(region, CASE.agreement(50.0))
    question = write_question(tmp_path / "question", CASE.paths(tmp_path)[0], scope, kept, spec)
    found = ask_certify(question, 10)
    assert (found["verdict"], found["tool"]) == ("certified", "certify")
    assert found["proven"] <= 50 and found["time_s"] > 0 and found["rung"] in found["rungs"]
    question.spec.write_text("{}")
    assert ask_certify(question, 10)["verdict"] == "error"


def test_a_peer_is_put_in_our_words(query: tuple[Path, Path], tmp_path: Path) -> None:  # noqa: F811
    exported = Exported(query[0].parent)
    assert ask_peer(pretend(tmp_path / "a", "echo unsat"), exported, 5, 1.0)["verdict"] == "certified"
    spurious = ask_peer(pretend(tmp_path / "b", "echo 'sat\n((X_0 0.2) (X_1 0.75))'"), exported, 5, 1.0)
    assert spurious["verdict"] == "spurious" and "misses" in spurious["note"]
    near = ask_peer(pretend(tmp_path / "d", "echo 'sat\n((X_0 0.74999) (X_1 0.75))'"), exported, 5, 1.0)
    assert near["verdict"] == "near" and "1.0e-05" in near["note"]
    bounded = ask_peer(pretend(tmp_path / "c", "echo unknown; echo 'crown: worst=-0.5' >&2"), exported, 5, 1.0)
    assert (bounded["verdict"], bounded["proven"]) == ("unknown", 1.5)


def test_sequence_with_a_peer_and_resumed(
    tmp_path: Path,
    query: tuple[Path, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cold(question: Question, limit_s: float) -> dict[str, Any]:
        assert json.loads(question.circuit.read_text())["scope"] == {"relu_1": "neuron", "relu_2": "neuron"}
        return {"tool": tools.OURS, "limit_s": limit_s, "verdict": "certified", "time_s": 2.0}

    monkeypatch.setattr(sequence, "ask_certify", cold)
    monkeypatch.setattr(sequence, "export", lambda _: Exported(query[0].parent))
    pretend(tmp_path / "peers", "echo unsat")
    asked = ["sequence", "--case", "digits_mlp", "--peers", str(tmp_path / "peers"), "--out", str(tmp_path / "out")]
    asked += ["--data", str(tmp_path), "--few", "0", "--sample", "1", "--limit", "5"]
    assert main(asked) == 0
    shown = capsys.readouterr()
    assert "neuralsat: not in" in shown.err and "marabou: not in" in shown.err
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["query"] for row in rows if row["tool"] == "vibecheck"] == sequence.sample(64, 1) == [0, 31, 63]
    assert "| digits_mlp | vibecheck      | 3     | 3       |" in shown.out
    whole = next(row for row in rows if row["query"] == sequence.WHOLE)
    assert whole["time_s"] >= whole["start_s"] > 0
    # What is there is not measured again, and a run that was stopped goes on where it was.
    (tmp_path / "out" / "rows.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert main([*asked, "--resume"]) == 0
    again = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert again[:-1] == lines[:-1] and json.loads(again[-1])["tool"] == json.loads(lines[-1])["tool"]


def test_gap_bounds_what_it_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["gap", "--case", "digits_mlp", "--circuits", "1", "--share", "0.03", "--limit", "5", "--out", str(tmp_path)]
    assert main(asked) == 0
    rows = Rows(tmp_path, resume=True)
    (row,) = rows.some(part=gap.PART, tool="bounds")
    assert row["linear"] >= row["difference"] >= row["optimised"] >= row["seen"] > 0
    assert row["siamese"] is None or row["siamese"] >= row["seen"]
    assert len(rows.some(part=gap.PART)) == 1 + len(gap.FACTORS)
    assert "| digits_mlp | 3%" in capsys.readouterr().out


def test_circuits_lack_their_share() -> None:
    masks = gap.circuits(100, 0.03, 4)
    assert (~masks).sum(1).tolist() == [3, 3, 3, 3]
    assert torch.equal(masks, gap.circuits(100, 0.03, 4)) and len({tuple(mask.tolist()) for mask in masks}) == 4
    assert (~gap.circuits(10, 0.01, 1)).sum() == 1


def test_samples() -> None:
    assert sequence.sample(10, 2) == [0, 1, 4, 5, 8, 9]
    assert sequence.sample(3, 2) == [0, 1, 2]
    assert sequence.sample(5, 0) == []
    assert sequence.sample(5, 0, few=5) == [0, 1, 2, 3, 4]


def test_missing_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    for part, name in ((queries.PART, "256x2"), (sequence.PART, "resnet2b"), (gap.PART, "256x4")):
        assert any(line.startswith(part) and name in line and "skipped" in line for line in said.splitlines())


def test_a_broken_row_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.jsonl").write_text('{"part": "gap"}\n{"part\n')
    assert main(["--out", str(tmp_path), "--resume"]) == 2
    assert "line 2" in capsys.readouterr().err


def test_queries_table_shows_the_bound_of_what_is_open(tmp_path: Path) -> None:
    rows = Rows(tmp_path, resume=False)
    common = {"part": queries.PART, "case": "", "query": "1"}
    rows.add({**common, "tool": "vibecheck", "limit_s": 12.0, "verdict": "unknown", "time_s": 12.5, "proven": 0.461})
    rows.add({**common, "tool": "certify", "limit_s": 12.0, "verdict": "certified", "time_s": 3.0, "proven": 0.3})
    shown = queries_table(rows)
    assert shown.splitlines()[-1].split(" | ") == ["| 1    ", "[12 s] certified 3.0", "[12 s] unknown 12.5 (≤ 0.461) |"]


def test_tables_are_aligned() -> None:
    assert table(["a", "long"], [["bbb", "c"]]) == "| a   | long |\n|-----|------|\n| bbb | c    |"
