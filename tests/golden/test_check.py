"""`--certificate` and `certify check` through the installed command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.golden.conftest import ROOT, Run, write

CASES = sorted(path.parent for path in (ROOT / "benchmarks" / "suites").glob("*/*/expected.json"))
EXIT = {"certified": 0, "falsified": 1}


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_every_verdict_of_the_bundled_suite_is_confirmed(folder: Path, run: Run, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())["verdict"]
    out, made = tmp_path / "report.json", tmp_path / "cert"
    done = run(folder / "circuit.json", "--spec", folder / "spec.yaml", "--certificate", made, "--out", out)
    assert done.returncode == EXIT[expected], done.stderr
    assert json.loads(out.read_text())["certificate"] == str(made)
    checked = run("check", made)
    assert checked.returncode == 0, checked.stdout
    assert re.fullmatch(rf"confirmed {expected} claims=1 leaves=\d+ time=\S+s", checked.stdout.strip())
    assert sum(file.stat().st_size for file in made.iterdir()) < 20_000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cert", "report.json"]


def test_a_rejected_certificate_exits_1_and_says_why(
    run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    circuit, spec = write(tmp_path, *case)
    done = run(circuit, "--spec", spec, "--certificate", "cert")
    assert done.returncode in (0, 1), done.stderr
    case[1]["agreement"]["tolerance"] = 1e-9
    write(tmp_path, *case)
    checked = run("check", "cert")
    assert checked.returncode == 1 and checked.stdout.startswith("rejected spec") and not checked.stderr


@pytest.mark.parametrize("content", [None, "", "{", '{"format": "certify.certificate/1"}'])
def test_what_is_no_certificate_confirms_nothing(content: str | None, run: Run, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "cert").mkdir()
        (tmp_path / "cert" / "certificate.json").write_text(content)
        (tmp_path / "cert" / "proof.npz").write_bytes(b"")
    checked = run("check", "cert")
    assert checked.returncode == (1 if content and len(content) > 1 else 2)
    assert len((checked.stdout + checked.stderr).strip().splitlines()) == 1


def test_what_certificates_do_not_cover_is_refused_before_anything_is_run(
    run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    case[1]["patching"] = {"kind": "resample", "resample": case[1]["input"]}
    circuit, spec = write(tmp_path, *case)
    done = run(circuit, "--spec", spec, "--certificate", "cert", "--out", "report.json")
    assert done.returncode == 2 and "resample" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "cert").exists() and not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "a\0b", "..", "missing.onnx"])
def test_a_certificate_that_names_no_file_is_rejected(
    path: str, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    from verify.check.certificate import digest

    circuit, spec = write(tmp_path, *case)
    assert run(circuit, "--spec", spec, "--certificate", "cert").returncode in (0, 1)
    manifest = json.loads((tmp_path / "cert" / "certificate.json").read_text())
    manifest["model"]["path"] = path
    manifest["sha256"] = digest(manifest)
    (tmp_path / "cert" / "certificate.json").write_text(json.dumps(manifest))
    checked = run("check", "cert", timeout_s=60)
    assert checked.returncode == 1 and checked.stdout.startswith("rejected") and checked.stdout.count("\n") == 1
    assert not checked.stderr


@pytest.mark.parametrize(("made", "said"), [("file", "no directory"), ("folder", "holds"), ("missing/cert", "no directory")])
def test_a_place_that_cannot_be_written_is_refused(
    made: str, said: str, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    circuit, spec = write(tmp_path, *case)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    done = run(circuit, "--spec", spec, "--certificate", made)
    assert done.returncode == 2 and said in done.stderr
    assert (tmp_path / "folder" / "notes.txt").read_text() == (tmp_path / "file").read_text() == "mine"


def test_without_time_for_a_certificate_the_verdict_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import verify
    from tests.unit.verify.check.questions import written
    from verify.branch import leaves

    circuit, spec = written(tmp_path, tolerance=0.107)
    monkeypatch.setattr(leaves, "holds", lambda *_: False)
    report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", timeout_s=3)
    assert report.verdict == "unknown" and report.certificate is None and "no certificate" in (report.reason or "")
    assert not (tmp_path / "cert").exists()


def test_the_checker_imports_nothing_of_the_engine() -> None:
    code = "import sys, verify.check.certificate; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    found = set(done.stdout.split())
    ours = {name for name in found if name.split(".")[0] in ("bounds", "verify", "benchmarks")}
    allowed = {"verify"} | {name for name in ours if name == "verify.check" or name.startswith("verify.check.")}
    assert ours == allowed and not {"torch", "scipy", "pickle5"} & found


@pytest.mark.parametrize("level", ["local", "cardinal"])
def test_discovery_with_a_certificate_of_its_minimality(
    level: str, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    patching = {"zero": {"kind": "zero"}, "closed": {"kind": "closed", "closed": {**case[1]["input"], "epsilon": 0.2}}}
    spec = {**case[1], "minimality": level, "model": case[0]["model"], "scope": case[0]["scope"]}
    spec["patching"] = patching["closed" if level == "cardinal" else "zero"]
    spec["agreement"] = {**case[1]["agreement"], "tolerance": 0.02}
    (tmp_path / "search.json").write_text(json.dumps(spec))
    words = ("discover", "--spec", "search.json", "--out", "c.json", "--report", "r.json", "--certificate", "cert", "--quiet")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["certificate"] == "cert" and report["minimality"]["reason"] is None
    checked = run("check", "cert")
    assert checked.returncode == 0, checked.stdout
    said = dict(word.split("=") for word in checked.stdout.split() if "=" in word)
    assert said["minimality"] == report["minimality"]["reached"] and said["lower"] == str(report["minimality"]["lower"])
    assert said["upper"] == str(report["circuit"]["size"]) and int(said["refuted"]) >= report["circuit"]["size"] > 0
    # The same of a circuit that is there, and the certificate of one that is not minimal says so.
    again = run("c.json", "--spec", "search.json", "--certificate", "again", "--quiet")
    assert again.returncode == 0 and run("check", "again").returncode == 0, again.stderr
    (tmp_path / "c.json").write_text((tmp_path / "c.json").read_text() + " ")
    assert run("check", "cert").stdout.startswith("rejected circuit")


def test_a_search_that_finds_nothing_to_prove_has_the_witness(
    run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    case[1]["agreement"]["tolerance"] = 0.001
    write(tmp_path, *case)
    words = ("discover", "--spec", "spec.yaml", "--start", "circuit.json", "--out", "c.json", "--certificate", "cert")
    done = run(*words, "--quiet")
    assert done.returncode == 1 and not (tmp_path / "c.json").exists(), done.stderr
    assert run("check", "cert").stdout.startswith("confirmed falsified")
