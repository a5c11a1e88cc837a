"""A pytest plugin: `assert_certified(circuit, spec)` in tests, specs as parameters, verdicts in JUnit reports::

    @pytest.mark.certify_specs("specs/*.yaml")
    def test_circuit_is_faithful(certify_spec, assert_certified):
        assert_certified("circuit.json", certify_spec)

Loaded by every run of pytest where the package is installed, so it imports nothing of it until a test asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from verify.report import Report, WitnessReport

__all__ = ["AssertCertified", "assert_certified"]

_MARK = "certify_specs"
_FIXTURE = "certify_spec"
_SHOWN = 12
"""Numbers of a witness that a failure shows; `report.witness` has them all."""

AssertCertified = Callable[..., "Report"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line."""
    group = parser.getgroup("certify", "circuits, certified")
    group.addoption("--certify-timeout", type=float, metavar="S", help="seconds a spec, instead of its budget")
    group.addoption("--certify-backend", default="auto", metavar="NAME", help="what computes bounds: auto, native, lirpa, milp")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    said = (
        f"{_MARK}(*patterns): run the test once for each spec file, as fixture {_FIXTURE}; patterns count from the test's file"
    )
    config.addinivalue_line("markers", said)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each spec file that the marker names. A pattern without files is an error: it would test nothing."""
    marker = metafunc.definition.get_closest_marker(_MARK)
    if _FIXTURE not in metafunc.fixturenames:
        if marker is not None:
            raise pytest.Collector.CollectError(f"{metafunc.function.__name__} is marked {_MARK} but takes no {_FIXTURE}")
        return
    folder = metafunc.definition.path.parent
    files: list[Path] = []
    for pattern in marker.args if marker is not None else ():
        found = sorted(folder.glob(pattern))
        if not found:
            raise pytest.Collector.CollectError(f"no spec file matches {pattern!r} in {folder}")
        files += found
    if not files:
        raise pytest.Collector.CollectError(f"{_FIXTURE} needs @pytest.mark.{_MARK}('specs/*.yaml')")
    metafunc.parametrize(_FIXTURE, files, ids=[file.relative_to(folder).as_posix() for file in files])


@pytest.fixture
def assert_certified(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> AssertCertified:
    """`assert_certified(circuit, spec, model=None, **options)`: the report, where the claim is certified (and minimal as the
    spec asks); else the test fails, with the witness where there is one.

    Paths count from the test's file; `options` are those of `verify.certify`. An answer of unknown fails: nothing is proven.
    JUnit reports get the properties `certify_verdict`, `_margin`, `_time_s`, and SHA-256 of model, circuit and spec; where a
    test asks several times, each time anew.
    """
    folder = request.path.parent
    timeout_s: float | None = request.config.getoption("--certify-timeout")
    backend = str(request.config.getoption("--certify-backend"))

    def located(value: Any) -> Any:
        return str(folder / value) if isinstance(value, str | os.PathLike) else value

    def check(circuit: Any, spec: Any, model: Any = None, **options: Any) -> Report:
        __tracebackhide__ = True
        from specs.errors import InputError
        from verify.api import certify

        circuit, spec, model = located(circuit), located(spec), located(model)
        try:
            given: dict[str, Any] = {"timeout_s": timeout_s, "backend": backend, **options}
            report = certify(circuit, spec, model, **given)
        except InputError as error:
            pytest.fail(f"not a question: {error}", pytrace=False)
        properties: dict[str, object] = {"verdict": report.verdict, "margin": report.margin, "time_s": round(report.time_s, 3)}
        properties |= {"model_sha256": report.model_sha256, "circuit_sha256": _hash(circuit), "spec_sha256": _hash(spec)}
        for name, value in properties.items():
            if value is not None:
                record_property(f"certify_{name}", value)
        if (said := _wrong(report)) is not None:
            pytest.fail(said, pytrace=False)
        return report

    return check


def _hash(value: Any) -> str | None:
    return sha256(Path(value).read_bytes()).hexdigest() if isinstance(value, str) else None


def _wrong(report: Report) -> str | None:
    """Why this is not what was asked for, None where it is."""
    asked = f"{report.circuit.file if report.circuit else 'circuit'} under {report.spec}"
    if report.verdict != "certified":
        lines = [f"{asked}: {report.summary}", report.meaning]
        lines += [f"  {claim.label}: {claim.verdict}" for claim in report.claims if claim.verdict != "certified"]
        return "\n".join([*lines, *(_shown(report.witness) if report.witness is not None else [])])
    found = report.minimality
    if found is None or found.status == "proven":
        return None
    lines = [f"{asked}: {report.summary}", f"certified, but minimality at level {found.level} is {found.status}"]
    if found.smaller is not None:
        lines.append(f"  a smaller circuit is certified too: {found.smaller}")
    if found.unresolved:
        lines.append(f"  undecided: {', '.join(found.unresolved[:_SHOWN])}")
    return "\n".join(lines)


def _shown(witness: WitnessReport) -> list[str]:
    said = "overflow" if witness.deviation is None else f"{witness.deviation:.6g}"
    lines = [f"witness against {witness.claim}, replayed on the original model: deviation {said}"]
    lines.append(f"  input           {_numbers(witness.input)}")
    lines += [f"  patch {site:<9} {_numbers(values)}" for site, values in witness.patch.items()]
    lines.append(f"  model output    {_numbers(witness.model_output)}")
    return [*lines, f"  circuit output  {_numbers(witness.circuit_output)}"]


def _numbers(value: Any) -> str:
    """The first numbers of a nested list."""
    flat: list[Any] = []
    todo = [value]
    while todo:
        entry = todo.pop()
        if isinstance(entry, list):
            todo += reversed(entry)  # pyright: ignore[reportUnknownVariableType]
        else:
            flat.append(entry)
    text = ", ".join("none" if entry is None else f"{entry:.6g}" for entry in flat[:_SHOWN])
    return f"[{text}{f', ... {len(flat)} in all' if len(flat) > _SHOWN else ''}]"
