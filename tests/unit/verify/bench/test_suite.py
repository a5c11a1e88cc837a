"""Suites as records: what is read, what is refused, and in which words."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from specs.errors import InputError
from verify.bench.network import Published
from verify.bench.runs import digest, runs
from verify.bench.suite import bundled, read_suite

ROOT = Path(__file__).resolve().parents[4]
BENCH = "models/x.onnx"


def small(**changes: Any) -> dict[str, Any]:
    return {
        "format": "certify.suite/1",
        "title": "t",
        "networks": {
            "n": {"model": {"path": "m.onnx"}, "data": {"path": "d.npz"}, "granularity": "neuron", "epsilon": 0.1},
            "t": {
                "model": {"path": "t.onnx"},
                "granularity": "head",
                "tokens": [{"positions": "all"}],
                "agreement": {"metric": "top1"},
            },
        },
        "methods": {"ours": {"kind": "discover"}, "drawn": {"kind": "sampling"}},
        "experiments": {"e": {"title": "x", "networks": {"n": {"count": 2}}, "patching": "zero", "methods": ["ours", "drawn"]}},
        **changes,
    }


def written(folder: Path, suite: dict[str, Any]) -> Path:
    import json

    path = folder / "s.json"
    path.write_text(json.dumps(suite))
    return path


@pytest.mark.parametrize("name", bundled())
def test_bundled_suites_read_and_name_files_that_can_be_had(name: str) -> None:
    suite = read_suite(name)
    assert len(list(runs(suite))) == len(set(runs(suite)))
    for network in suite.networks.values():
        for part in network.files:
            assert part.source, "whoever has not got the file must learn where it is published"
            assert part.path is None or Path(part.path).is_file()
            assert part.bench is None or part.sha256


def test_smoke_and_default_need_nothing_but_the_project() -> None:
    for name in ("smoke", "default"):
        assert all(part.bench is None for network in read_suite(name).networks.values() for part in network.files)


def test_runs_are_the_product_of_everything(tmp_path: Path) -> None:
    suite = small()
    suite["experiments"]["e"] |= {"seeds": [0, 1], "epsilon_factors": [1, 2], "tolerance_factors": [0.5, 1, 2]}
    found = list(runs(read_suite(written(tmp_path, suite))))
    assert len(found) == 2 * 2 * 3 * 2 * 2 == len(set(found))


@pytest.mark.parametrize(
    ("spoil", "where", "said"),
    [
        (lambda s: s.update(experimnts={}), "$.experimnts", "use 'experiments'"),
        (lambda s: s["experiments"]["e"].update(methods=["our"]), "$.experiments.e.methods[0]", "use 'ours'"),
        (
            lambda s: s["experiments"]["e"].update(networks={"m": {"count": 1}}),
            "$.experiments.e.networks",
            "one under networks",
        ),
        (lambda s: s["methods"].update(x={"kind": "samplin"}), "$.methods.x.kind", "use 'sampling'"),
        (lambda s: s["networks"]["n"]["model"].update(bench="y"), "$.networks.n.model", "one of them"),
        (lambda s: s["networks"]["n"].update(scope={"a": "head"}), "$.networks.n", "`granularity` and `scope`"),
        (lambda s: s["networks"]["n"].update(tokens=[]), "$.networks.n.data", "unknown key 'data'"),
        (
            lambda s: s["networks"]["t"]["tokens"].append({"positions": [[0], 3]}),
            "$.networks.t.tokens[1].positions[1]",
            "token",
        ),
        (lambda s: s["networks"]["t"].pop("agreement"), "$.networks.t", "no key 'agreement'"),
        (lambda s: s["networks"]["n"].update(epsilon=-1.0), "$.networks.n.epsilon", "a number of at least 0"),
        (lambda s: s["experiments"]["e"]["networks"].update(n={"count": 0}), "$.experiments.e.networks.n.count", "at least 1"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(tmp_path: Path, spoil: Any, where: str, said: str) -> None:
    suite = small()
    spoil(suite)
    path = written(tmp_path, suite)
    with pytest.raises(InputError) as caught:
        read_suite(path)
    line = str(caught.value)
    assert line.startswith(f"{path} {where}") and said in line and "\n" not in line, line


def test_an_unknown_suite_is_told_what_there_is() -> None:
    with pytest.raises(InputError, match="default, paper, scale, smoke, transformers"):
        read_suite("papr")


def test_results_in_a_folder_of_its_name_do_not_hide_a_bundled_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "paper").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "table1" in read_suite("paper").experiments


def test_a_missing_file_is_named_with_source_and_hash(tmp_path: Path) -> None:
    published = Published(bench=BENCH, sha256="0" * 64, source="here @ abc")
    with pytest.raises(InputError, match=r"here @ abc.*0{64}.*--data DIR"):
        published.found(tmp_path, "s.yaml")
    with pytest.raises(InputError, match="--data DIR"):
        published.found(None, "s.yaml")


def test_another_file_of_that_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / BENCH).write_bytes(b"net")
    good = Published(bench=BENCH, sha256=hashlib.sha256(b"net").hexdigest())
    assert good.found(tmp_path, "s") == tmp_path / BENCH
    with pytest.raises(InputError, match="sha256"):
        Published(bench=BENCH, sha256="0" * 64).found(tmp_path, "s")


def test_a_digest_changes_with_what_changes_the_answer_only(tmp_path: Path) -> None:
    suite = read_suite(written(tmp_path, small()))
    first, second = list(runs(suite))[:2]
    assert digest(suite, first) != digest(suite, second), "another method"
    renamed = small(title="other")
    renamed["experiments"]["e"]["note"] = "said otherwise"
    assert digest(read_suite(written(tmp_path, renamed)), first) == digest(suite, first)
    longer = small()
    longer["experiments"]["e"]["budget"] = {"time_s": 5}
    assert digest(read_suite(written(tmp_path, longer)), first) != digest(suite, first)


def test_rows_of_earlier_versions_are_still_known(tmp_path: Path) -> None:
    suite = read_suite("scale")
    assert digest(suite, next(iter(runs(suite)))) == "114265c791956dd4", "its files have hashes: it is the same everywhere"
    asked = small()
    asked["experiments"]["e"]["certificates"] = True
    plain, with_ = read_suite(written(tmp_path, small())), read_suite(written(tmp_path, asked))
    one = next(iter(runs(plain)))
    assert digest(plain, one) != digest(with_, one), "a verdict may be another where a certificate is asked for"
