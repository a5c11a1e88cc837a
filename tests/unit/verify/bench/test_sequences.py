"""Suites about models of tokens: what is asked of heads, edges and MLPs over sequences, and the baselines there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from specs.encode import encode_scope
from specs.errors import InputError
from verify.bench.answer import answer
from verify.bench.claim import Asked, asked
from verify.bench.runs import Run, digest, runs
from verify.bench.suite import Suite, read_suite

ROOT = Path(__file__).resolve().parents[4]
MODEL = ROOT / "benchmarks" / "models" / "induction.onnx"


def suite(folder: Path, *, network: dict[str, Any] | None = None, **experiment: Any) -> Suite:
    """Eight sequences of the bundled induction model, heads."""
    tokens = [{"positions": [[0], [1, 2], [1, 2], [1, 2], [3], [0]]}]
    said: dict[str, Any] = {
        "format": "certify.suite/1",
        "title": "t",
        "networks": {
            "n": {
                "model": {"path": str(MODEL)},
                "tokens": tokens,
                "agreement": {"metric": "logits", "tolerance": 1.0},
                **(network or {}),
            }
        },
        "methods": {"ours": {"kind": "discover", "level": "local"}}
        | {kind: {"kind": kind, "samples": 8} for kind in ("sampling", "thresholding", "attribution")},
        "experiments": {
            "e": {
                "title": "x",
                "networks": {"n": {"count": 1}},
                "patching": "zero",
                "methods": ["ours", "sampling", "thresholding", "attribution"],
                **experiment,
            }
        },
    }
    if "scope" not in said["networks"]["n"]:
        said["networks"]["n"].setdefault("granularity", "head")
    path = folder / "s.json"
    path.write_text(json.dumps(said))
    return read_suite(path)


def first(made: Suite) -> Asked:
    return asked(made, next(iter(runs(made))), None)


def test_heads_are_those_of_the_attention_layers(tmp_path: Path) -> None:
    question = first(suite(tmp_path))
    problem = encode_scope(question.scope, question.read(), question.model, file="suite")
    assert set(question.scope.values()) == {"head"} and len(problem.components) == 8
    by_hand = dict.fromkeys(("blocks.0.attn.hook_z", "blocks.1.attn.hook_z"), "head")
    assert first(suite(tmp_path, network={"scope": by_hand})).scope == by_hand


def test_edges_are_what_reads_the_stream(tmp_path: Path) -> None:
    question = first(suite(tmp_path, network={"granularity": "edge"}))
    readers = {f"blocks.{layer}.attn.{port}" for layer in (0, 1) for port in "qkv"} | {"logits"}
    assert question.scope == dict.fromkeys(readers, "edge")


def test_a_model_without_attention_has_no_heads(tmp_path: Path) -> None:
    made = suite(tmp_path, network={"model": {"path": str(MODEL.parent / "digits_mlp.onnx")}})
    row = answer(made, next(iter(runs(made))), None)
    assert row.error is not None and "$.networks.n.granularity: head; attention layers" in row.error and "\n" not in row.error


def test_radius_and_tolerance_are_the_networks_times_the_factors(tmp_path: Path) -> None:
    tokens = [{"positions": "all"}, {"positions": [[0]] * 6, "epsilon": 0.1}]
    network = {"tokens": tokens, "agreement": {"metric": "logits", "tolerance": 2.0}}
    made = suite(
        tmp_path, network=network, networks={"n": {"start": 1, "count": 1}}, epsilon_factors=[2], tolerance_factors=[0.5]
    )
    question = first(made)
    assert (question.epsilon, question.tolerance) == (0.2, 1.0)
    assert question.spec["input"].epsilon == 0.2 and question.spec["agreement"].tolerance == 1.0
    reached = first(
        suite(tmp_path, network=network, networks={"n": {"start": 1, "count": 1}}, patching="reachable", patch_factor=3)
    )
    assert reached.read().patching.reachable.epsilon == pytest.approx(0.3)  # pyright: ignore[reportAttributeAccessIssue]
    at = first(suite(tmp_path, network=network, networks={"n": {"start": 1, "count": 1}}, input="point"))
    assert at.spec["input"].epsilon == 0.0
    with pytest.raises(InputError, match="input 2; one of the 2"):
        asked(made, Run("e", "n", 2, "ours", 0, 1.0, 1.0), None)


def test_means_are_over_the_claims_sequences(tmp_path: Path) -> None:
    question = first(suite(tmp_path, patching="mean"))
    ids = torch.tensor([[0, a, b, c, 3, 0] for a in (1, 2) for b in (1, 2) for c in (1, 2)])
    x = torch.nn.functional.one_hot(ids, 8).double().unsqueeze(1)
    site = next(iter(question.scope))
    expected = question.model.graph.evaluate(x, keep=frozenset([site]))[site].mean(0)
    assert torch.allclose(torch.tensor(question.means()["mean"][site], dtype=torch.float64), expected)


@pytest.mark.parametrize("method", ["sampling", "thresholding", "attribution"])
def test_baselines_end_with_a_circuit_of_heads_that_gets_a_verdict(tmp_path: Path, method: str) -> None:
    made = suite(tmp_path, methods=[method])
    row = answer(made, next(iter(runs(made))), None)
    assert row.error is None and row.verdict in ("certified", "falsified") and 0 < (row.size or 0) <= (row.scope_size or 0)


def test_a_search_over_heads_is_proven(tmp_path: Path) -> None:
    made = suite(tmp_path, budget={"time_s": 300.0})
    row = answer(made, next(iter(runs(made))), None)
    assert row.error is None and row.proven and row.reached in ("local", "subset", "cardinal") and row.tolerance == 1.0


def test_a_digest_is_of_the_tokens_too(tmp_path: Path) -> None:
    plain, other = suite(tmp_path), suite(tmp_path, network={"tokens": [{"positions": "all"}]})
    one = next(iter(runs(plain)))
    assert digest(plain, one) == digest(suite(tmp_path), one) != digest(other, one)
