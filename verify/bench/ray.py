"""The same runs over a Ray cluster, whose machines have this program and see suite, models and data under the same paths."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from specs.errors import InputError
from verify.bench.answer import answer, blank
from verify.bench.row import Row
from verify.bench.runs import Run
from verify.bench.suite import Suite, read_suite

__all__ = ["answers"]


def answers(suite: Suite, asked: Sequence[Run], bench: Path | None, address: str) -> Generator[Row, None, None]:
    """Rows as they come, in no fixed order, one core a run. `address` is a cluster's, `auto`, or `local` for one on this
    machine. A run whose machine is lost is done again once; after that its row says so.
    Raises: InputError: no Ray, no cluster."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "certify", "--ray", "Ray is not installed", "the package ray", "pip install 'circuit-certify[ray]'"
        ) from None
    ours: Any = ray
    try:
        ours.init(address=address, log_to_driver=False, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError("certify", "--ray", f"{address}: {said}", "the address of a running cluster, or local") from None
    try:
        remote = ours.remote(num_cpus=1, max_retries=1, runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}})(_answer)
        pending = {remote.remote(suite.file, run, bench): run for run in asked}
        while pending:
            ready, _ = ours.wait(list(pending), num_returns=1)
            run = pending.pop(ready[0])
            try:
                row: Row = ours.get(ready[0])
            except ours.exceptions.RayError as error:
                row = blank(suite, run, " ".join(f"lost: {type(error).__name__}: {error}".split())[:500])
            yield row
    finally:
        ours.shutdown()


def _answer(file: str, run: Run, bench: Path | None) -> Row:
    import torch

    torch.set_num_threads(1)
    return answer(read_suite(file), run, bench)
