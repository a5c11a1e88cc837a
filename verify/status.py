"""What a report proves of each component of a circuit."""

from __future__ import annotations

from collections.abc import Mapping

from specs.circuit import Circuit
from specs.errors import InputError
from verify.report import Report

__all__ = ["MEANING", "statuses"]

MEANING: Mapping[str, str] = {
    "core": "every faithful circuit keeps it: proven",
    "necessary": "without it alone the circuit is not faithful: proven by a witness",
    "undecided": "whether the circuit is faithful without it is open",
    "kept": "kept; nothing is known of it by itself",
    "unneeded": "ablated, and the circuit is certified without it",
    "ablated": "ablated; the circuit is not certified",
}


def statuses(
    circuit: Circuit, counts: Mapping[str, int], report: Report | None, model_sha256: str, file: str
) -> dict[tuple[str, int], str]:
    """The status of each component in scope, a key of `MEANING`. Without a report nothing is proven.

    Raises: InputError: the report (read from `file`) is one of another circuit or model.
    """
    kept = {site: frozenset(_indices(circuit.kept[site], counts[site])) for site in circuit.scope}
    if report is None:
        return {(site, i): "kept" if i in kept[site] else "ablated" for site in counts for i in range(counts[site])}
    if report.circuit is None or report.circuit.scope != dict(circuit.scope):
        raise InputError(file, "$.circuit", "a report of another scope", "the report of this circuit", "certify it with --out")
    theirs = {site: frozenset(_indices(report.circuit.kept[site], counts[site])) for site in circuit.scope}
    if theirs != kept:
        raise InputError(
            file, "$.circuit", "a report of another circuit", "the report of this circuit", "certify it with --out"
        )
    if report.model_sha256 != model_sha256:
        raise InputError(
            file, "$.model_sha256", "a report of another model", "the report of this circuit", "certify it with --out"
        )
    certified, minimal = report.verdict == "certified", report.minimality
    core = frozenset(minimal.core or ()) if minimal is not None and certified else frozenset[str]()
    undecided = frozenset(minimal.unresolved) if minimal is not None else frozenset[str]()
    necessary = certified and minimal is not None and minimal.reached in ("local", "subset", "cardinal")
    found: dict[tuple[str, int], str] = {}
    for site, count in counts.items():
        for i in range(count):
            name = f"{site}[{i}]"
            if i not in kept[site]:
                found[site, i] = "unneeded" if certified else "ablated"
            elif name in core:
                found[site, i] = "core"
            elif necessary:
                found[site, i] = "necessary"
            else:
                found[site, i] = "undecided" if name in undecided else "kept"
    return found


def _indices(kept: object, count: int) -> tuple[int, ...]:
    if kept == "all":
        return tuple(range(count))
    return () if kept == "none" else tuple(kept)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
