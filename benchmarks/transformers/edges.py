"""Circuits of edges: what reads what in a compiled program, in a recogniser of brackets, and in a vision transformer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from benchmarks.transformers.ask import Asked, found, kept_of, model_at, spec_of, table
from specs.foreign.roles import edges_by_role
from specs.model import Model
from specs.spec import Spec

__all__ = ["section"]

_FOUND_S = 240
_BRACKETS = "(()())()()"
_IMAGE = 92


def section(data: Path) -> str:
    """The section on edges. Raises: InputError: a model is missing."""
    rows, named = list[list[str]](), list[str]()
    for make in (_reverse, _brackets, _vision):
        made, said = make(data)
        rows += made
        named.append(said)
    heads = ["model", "inputs", "edges patched by", "circuit", "verdict", "figure", "by", "s"]
    return f"{_TEXT}\n\n{table(heads, rows)}\n\n" + "\n\n".join(named) + "\n"


def _reverse(data: Path) -> tuple[list[list[str]], str]:
    model = model_at(data / "models" / "tracr_reverse.onnx")
    answer = [p * 35 + at for p in range(1, 5) for at in (27, 28, 29)]
    spec = spec_of(
        input={"kind": "tokens", "positions": [[0], *[[1, 2, 3]] * 4]},
        agreement={"metric": "output", "outputs": answer, "tolerance": 0.25},
    )
    return _told(model, spec, ("tracr_reverse", "all 81 sequences", "zero"), {})


def _brackets(data: Path) -> tuple[list[list[str]], str]:
    model = model_at(data / "models" / "dyck10_transformer.onnx")
    center = np.eye(2)[["()".index(c) for c in _BRACKETS]]
    every = torch.eye(2, dtype=torch.float64)[(torch.arange(1024)[:, None] >> torch.arange(10)) & 1].unsqueeze(1)
    sites = _sites(model).values()
    read = model.read_by_edges(sites).graph.evaluate(every, keep=frozenset(sites))
    means = {site: read[site].mean(0).tolist() for site in sites}
    spec = spec_of(
        input={"kind": "linf", "center": center.tolist(), "epsilon": 0.01},
        patching={"kind": "mean", "mean": means},
        agreement={"metric": "top1"},
    )
    blind = {site: "none" for name, site in _sites(model).items() if name in ("a1<q>", "a1<k>")}
    return _told(model, spec, ("dyck10_transformer", f"{_BRACKETS} ± 0.01", "mean"), {"layer 1 attends blindly": blind})


def _vision(data: Path) -> tuple[list[list[str]], str]:
    model = model_at(data / "models" / "cifar10_vit_pgd_2_3_16.onnx")
    images = {"file": str(data.resolve() / "data" / "cifar10_test_592.npz"), "array": "X"}
    scale = {"divide": 255, "mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.201]}
    radius = (np.ones((3, 1, 1)) / 255 / np.array(scale["std"]).reshape(3, 1, 1) * np.ones((3, 32, 32))).tolist()
    spec = spec_of(
        input={"kind": "linf", "center": {**images, "index": _IMAGE}, "epsilon": radius, "scale": scale, "layout": "hwc"},
        patching={"kind": "mean", **images, "indices": list(range(100)), "scale": scale, "layout": "hwc"},
        agreement={"metric": "top1", "tolerance": 0.1},
    )
    blind = {site: "none" for name, site in _sites(model).items() if name in ("a1<q>", "a1<k>")}
    what = ("cifar10_vit_pgd_2_3_16", f"image {_IMAGE} ± 1/255", "mean of 100 images")
    return _told(model, spec, what, {"layer 1 attends blindly": blind})


def _told(
    model: Model, spec: Spec, what: tuple[str, str, str], circuits: Mapping[str, Mapping[str, str]]
) -> tuple[list[list[str]], str]:
    """Rows, and in words what was found."""
    scope = dict.fromkeys(_sites(model).values(), "edge")
    asked = Asked(model, scope, spec)
    rows = [[*what, *asked.row(f"all {asked.problem.gates.size} edges", {})]]
    rows += [[*what, *asked.row(name, kept)] for name, kept in circuits.items()]
    best, took_s = found(model, scope, spec, "local", _FOUND_S)
    kept, told = kept_of(best, asked), best.report.minimality
    size = sum(map(len, kept.values()))
    level = "" if told is None else f"{told.level}, {'proven' if told.proven else f'{len(told.unresolved)} open'}"
    rows.append([*what, *asked.row(f"found: {size} edges", kept)])
    rows[-1][-1] = f"{took_s:.0f}"
    rows[-1][-2] = level
    alone = dict.fromkeys(scope, "none")
    rows.append([*what, *asked.row("no edge", alone)])
    names = {(spot.site, i): name for name, spot in edges_by_role(model).items() for i in spot.indices}
    reads = ", ".join(f"`{names[site, i]}`" for site, indices in kept.items() for i in indices)
    dropped = [name for (site, i), name in names.items() if i not in kept[site]]
    if len(dropped) < size:
        return (
            rows,
            f"Of the edges of `{what[0]}` these are not needed: {', '.join(f'`{name}`' for name in dropped) or 'none'}.",
        )
    return rows, f"The edges found in `{what[0]}`: {reads}."


def _sites(model: Model) -> dict[str, str]:
    """The consumers by what they are: `a1<q>`, `m0`, `logits`."""
    return {re.sub(r".*->|\.h\d+", "", name): spot.site for name, spot in edges_by_role(model).items()}


_TEXT = """Components are edges: one producer (the embedding, a head, an MLP) as read by one consumer (a head's queries, keys or
values, an MLP, the output), patched as that consumer alone reads it. Every refutation was replayed in onnxruntime on the
original file, run once for each consumer as path patching is. *Found* is what discovery ends with; the column *by* then tells
how minimal that is. *All* edges kept is the model itself, so the bound tells what the proof loses."""
