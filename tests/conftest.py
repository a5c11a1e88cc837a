"""What all tests share: where the bench data is, and how hard Hypothesis tries."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
BESIDE = ROOT.parent / "shared" / "bench"

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch: workers that each start a thread a core fight over the cores and lose.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Bounds take as long as they take, and on a shared machine twice that: no deadline. `default` tries the same examples on every
# run, so that a failure is the change's and not the day's; `slow` looks further, differently each time.
settings.register_profile(
    "default", max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "slow", max_examples=2000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")  # --hypothesis-profile, read later, wins


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--bench",
        metavar="DIR",
        type=Path,
        # pytest looks for its settings from every argument that is a path, before it knows which belong to an option.
        help="folder with the bench models/ and data/ (default: $CERTIFY_BENCH, else ../shared/bench where there is one); "
        "tests that need it are skipped without. Write it with the equals sign: --bench=DIR",
    )


def pytest_configure(config: pytest.Config) -> None:
    asked: Path | None = config.getoption("--bench")
    if asked is not None and not (asked / "models").is_dir():
        raise pytest.UsageError(f"--bench={asked}: no folder models/ in it; give the folder that holds models/ and data/")


def find_bench(config: pytest.Config) -> tuple[Path | None, str]:
    """The bench folder, if there is one, and a plain sentence about it."""
    asked: Path | None = config.getoption("--bench")
    named = os.environ.get("CERTIFY_BENCH")
    folder, origin = BESIDE, "beside the project"
    if named:
        folder, origin = Path(named), "from CERTIFY_BENCH"
    if asked is not None:
        folder, origin = asked, "from --bench"
    if (folder / "models").is_dir():
        return folder.resolve(), f"{folder.resolve()} ({origin})"
    return None, f"none at {folder} ({origin}): tests that need it are skipped; give one with --bench=DIR or CERTIFY_BENCH"


def pytest_report_header(config: pytest.Config) -> str:
    return f"bench: {find_bench(config)[1]}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    folder, said = find_bench(config)
    if folder is None:
        for item in items:
            if item.get_closest_marker("bench"):
                item.add_marker(pytest.mark.skip(reason=f"bench data: {said}"))


@pytest.fixture(scope="session")
def bench(pytestconfig: pytest.Config) -> Path:
    """The bench folder (`models/`, `data/`, `queries/`). A test that asks for it should be marked `bench`."""
    folder, said = find_bench(pytestconfig)
    if folder is None:
        pytest.skip(f"bench data: {said}")
    return folder
