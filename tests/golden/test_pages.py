"""`certify show --html` and `--svg`: what is on the page, that nothing is loaded from elsewhere, that names are only text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.golden.conftest import ROOT, Run, write

Case = tuple[dict[str, Any], dict[str, Any]]
SUITE = ROOT / "benchmarks" / "suites" / "digits"
HOSTILE = "<script>alert(1)</script>&\"'"


class _Page(HTMLParser):
    """Its text, and each element with its attributes. Elements must nest."""

    VOID = ("meta", "br", "img", "link", "input")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.elements, self.open = list[str](), list[tuple[str, dict[str, str | None]]](), list[str]()
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def _page(path: Path) -> _Page:
    page = _Page(path.read_text(encoding="utf-8"))
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base"), tag
        for name, value in attributes.items():
            assert not name.startswith("on") and (name != "src" or (value or "").startswith("data:image/png;base64,"))
            assert name != "href" or (value or "").startswith("./")
    assert not re.search(r"url\(|@import", path.read_text(encoding="utf-8"))
    return page


def _classes(page: _Page, tag: str) -> list[str]:
    return [attributes.get("class") or "" for name, attributes in page.elements if name == tag]


@pytest.mark.parametrize("name", ["mlp_certified", "mlp_falsified", "cnn_channel_falsified"])
def test_a_report(run: Run, tmp_path: Path, name: str) -> None:
    run(SUITE / name / "circuit.json", "--spec", SUITE / name / "spec.yaml", "--out", "r.json", "--quiet")
    done = run("show", "r.json", "--html", "r.html", "--svg", "c.svg")
    assert done.returncode == 0 and done.stdout == "wrote r.html\nwrote c.svg\n", done.stderr
    report, page = json.loads((tmp_path / "r.json").read_text()), _page(tmp_path / "r.html")
    for said in (report["verdict"], report["statement"], report["model_sha256"], report["versions"]["torch"]):
        assert said in page.text
    circuit = report["circuit"]
    assert circuit["scope_size"] == sum(circuit["sizes"].values())
    squares = _classes(page, "rect")
    assert squares.count("kept") == circuit["size"] and squares.count("ablated") == circuit["scope_size"] - circuit["size"]
    pictures = sum(tag == "img" for tag, _ in page.elements)
    assert pictures == (3 if "falsified" in name else 0)
    drawing = ElementTree.parse(tmp_path / "c.svg").getroot()
    assert drawing.tag.endswith("svg") and len(list(drawing.iter("{http://www.w3.org/2000/svg}rect"))) > circuit["scope_size"]


def test_a_search(run: Run, tmp_path: Path, case: Case) -> None:
    spec = {**case[1], "model": {"path": "small.onnx"}, "scope": {"relu_2": "neuron"}, "minimality": "subset"}
    (tmp_path / "s.json").write_text(json.dumps(spec))
    run("discover", "--spec", "s.json", "--out", "c.json", "--report", "r.json", "--all", "--quiet")
    assert run("show", "r.json", "--html", "r.html").returncode == 0
    page, report = _page(tmp_path / "r.html"), json.loads((tmp_path / "r.json").read_text())
    assert "minimal circuits" in page.text and "smallest certified" in page.text
    cells = _classes(page, "td")
    assert cells.count("in") + cells.count("all") == sum(
        len(indices) for kept in report["enumeration"]["circuits"] for indices in kept.values()
    )


def test_a_circuit_and_a_model(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, _ = write(tmp_path, *case)
    assert run("show", circuit, "--html", "c.html").returncode == 0
    page = _page(tmp_path / "c.html")
    assert "5 of 8 neurons kept" in page.text and _classes(page, "rect").count("ablated") == 3
    assert run("show", "small.onnx", "--html", "m.html").returncode == 0
    assert "8 neurons" in _page(tmp_path / "m.html").text
    refused = run("show", "small.onnx", "--svg", "m.svg")
    assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1 and not (tmp_path / "m.svg").exists()
    (tmp_path / "small.onnx").unlink()
    told = run("show", circuit, "--html", "c.html")
    assert told.returncode == 0 and "note" in told.stderr and "5 neurons kept" in _page(tmp_path / "c.html").text


def test_names_are_text(run: Run, tmp_path: Path) -> None:
    entries = {
        "format": "certify.report/1", "verdict": "unknown", "backend": HOSTILE, "seed": 0, "time_s": 1.0, "reason": HOSTILE,
        "statement": HOSTILE, "model": HOSTILE, "certificate": "javascript:alert(1)", "versions": {HOSTILE: HOSTILE},
        "circuit": {"file": HOSTILE, "size": 1, "scope_size": 2, "scope": {HOSTILE: "neuron"}, "kept": {HOSTILE: [0]},
                    "sizes": {HOSTILE: 2}},
        "claims": [{"label": HOSTILE, "verdict": "unknown", "reason": HOSTILE}],
    }  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps(entries))
    assert run("show", "r.json", "--html", "r.html").returncode == 0
    page = _page(tmp_path / "r.html")
    assert page.text.count(HOSTILE) >= 6


def test_what_is_there_is_not_overwritten(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = write(tmp_path, *case)
    for path in (spec, circuit, tmp_path / "missing" / "x.html"):
        refused = run("show", circuit, "--html", path)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1, refused.stderr
    assert json.loads(spec.read_text()) == case[1]
