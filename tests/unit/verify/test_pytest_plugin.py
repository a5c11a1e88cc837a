"""The pytest plugin, in runs of pytest of its own: in another process where they import torch, which can be done once."""

from __future__ import annotations

import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest_plugins = ["pytester"]

SUITE = Path(__file__).resolve().parents[3] / "benchmarks" / "suites" / "digits"
PLUGIN = ("-p", "verify.pytest_plugin", "-p", "no:cacheprovider")


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    for name in ("mlp_certified", "mlp_falsified"):
        text = (SUITE / name / "circuit.json").read_text().replace("../../../models", str(SUITE.parents[1] / "models"))
        (pytester.path / f"{name}.json").write_text(text)
        spec = (SUITE / name / "spec.yaml").read_text().replace("../../../models", str(SUITE.parents[1] / "models"))
        (pytester.path / f"{name}.yaml").write_text(spec)
    return pytester


def installed(pytester: pytest.Pytester) -> tuple[str, ...]:
    """Arguments that load the plugin, unless the entry point does already."""
    from importlib.metadata import entry_points

    return PLUGIN[2:] if any(point.name == "certify" for point in entry_points(group="pytest11")) else PLUGIN


def test_verdicts_witnesses_properties_and_parameters(folder: pytest.Pytester) -> None:
    shutil.copy(folder.path / "mlp_certified.yaml", folder.path / "again.yaml")
    lines = [line for line in (folder.path / "again.yaml").read_text().splitlines() if not line.startswith("minimality")]
    (folder.path / "minimal.yaml").write_text("\n".join([*lines, "minimality: local", ""]))
    folder.makepyfile(
        """
        import pytest

        def test_good(assert_certified):
            report = assert_certified("mlp_certified.json", "mlp_certified.yaml")
            assert report.margin >= 0

        def test_bad(assert_certified):
            assert_certified("mlp_falsified.json", "mlp_falsified.yaml")

        def test_no_question(assert_certified):
            assert_certified("nowhere.json", "mlp_certified.yaml")

        def test_no_time(assert_certified):
            assert_certified("mlp_certified.json", "mlp_certified.yaml", timeout_s=1e-9)

        def test_minimal(assert_certified):
            assert_certified("mlp_certified.json", "minimal.yaml", timeout_s=10)

        @pytest.mark.certify_specs("mlp_certified.yaml", "aga*.yaml")
        def test_all(certify_spec, assert_certified):
            assert_certified("mlp_certified.json", certify_spec)
        """
    )
    arguments = ("-v", "--strict-markers", "--certify-timeout=60", "--junitxml=junit.xml")
    result = folder.runpytest_subprocess(*installed(folder), *arguments)
    result.assert_outcomes(passed=3, failed=4)
    result.stdout.fnmatch_lines(["*test_all[[]mlp_certified.yaml[]]*PASSED*", "*test_all[[]again.yaml[]]*PASSED*"])
    result.stdout.fnmatch_lines(["*falsified deviation=* > tolerance=*", "witness against*deviation*", "*input *", "*output *"])
    result.stdout.fnmatch_lines(["*not a question: *nowhere.json*no such file*"])
    result.stdout.fnmatch_lines(["*unknown bound=*reason=*"])
    result.stdout.fnmatch_lines(["*minimality at level local is *"])
    assert "Traceback" not in result.stdout.str()
    cases = {case.get("name"): case for case in ElementTree.parse(folder.path / "junit.xml").iter("testcase")}
    found = {entry.get("name"): entry.get("value") for entry in cases["test_good"].iter("property")}
    assert found["certify_verdict"] == "certified" and float(found["certify_margin"] or "nan") >= 0
    assert len(found["certify_model_sha256"] or "") == len(found["certify_spec_sha256"] or "") == 64
    failed = {entry.get("name"): entry.get("value") for entry in cases["test_bad"].iter("property")}
    assert failed["certify_verdict"] == "falsified"


@pytest.mark.parametrize(
    ("head", "takes", "said"),
    [
        ('@pytest.mark.certify_specs("none/*.yaml")', "certify_spec", "no spec file matches"),
        ("", "certify_spec", "needs @pytest.mark.certify_specs"),
        ('@pytest.mark.certify_specs("*.yaml")', "assert_certified", "takes no certify_spec"),
    ],
)
def test_a_parameter_that_would_test_nothing_is_an_error(head: str, takes: str, said: str, folder: pytest.Pytester) -> None:
    folder.makepyfile(f"import pytest\n{head}\ndef test_all({takes}):\n    pass\n")
    result = folder.runpytest_inprocess(*installed(folder))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said}*"])
