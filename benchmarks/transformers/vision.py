"""Heads of two image classifiers with attention, on balls around images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.transformers.ask import Asked, Kept, found, kept_of, model_at, said, spec_of, table
from specs.model import Model
from specs.spec import Spec

__all__ = ["section"]

_BACKGROUND = list(range(100))
_QUESTION_S = 20


@dataclass(frozen=True, slots=True)
class _Network:
    """A model, its images, the sites of which parts may be left out with a name for each, and radii in parts of the pixel
    range. `count`: of the data's first images; `search_s`: for the search for a smallest circuit at each. `std`: what the model
    divides pixels by, one a channel."""

    name: str
    images: str
    sites: Mapping[str, tuple[str, str]]
    radii: tuple[str, ...]
    count: int
    search_s: float
    layout: Mapping[str, Any]
    std: tuple[float, ...] = (1.0,)

    @property
    def scope(self) -> dict[str, str]:
        return {site: granularity for site, (granularity, _) in self.sites.items()}

    def spec(self, data: Path, index: int, radius: str, shape: tuple[int, ...]) -> Spec:
        """Within the radius of one image, the circuit's class is the model's; ablated parts take their means."""
        images = {"file": str(data.resolve() / "data" / self.images), "array": "X", **self.layout}
        epsilon = np.broadcast_to(float(Fraction(radius)) / np.reshape(self.std, (-1, *[1] * (len(shape) - 1))), shape)
        center = {"file": images["file"], "array": "X", "index": index}
        return spec_of(
            budget_s=_QUESTION_S,
            input={"kind": "linf", "center": center, "epsilon": epsilon.tolist(), **self.layout},
            patching={"kind": "mean", **images, "indices": _BACKGROUND},
            agreement={"metric": "top1", "tolerance": 0.01},
        )


_NETWORKS = (
    _Network(
        name="cifar10_vit_pgd_2_3_16",
        images="cifar10_test_592.npz",
        sites={
            "/1/1.0/1.0.0/fn/fn.1/MatMul_1_output_0": ("head", "a0.h{}"),
            "/1/1.0/1.0.1/fn/fn.1/fn.1.3/Add_output_0": ("layer", "m0"),
            "/1/1.1/1.1.0/fn/fn.1/MatMul_1_output_0": ("head", "a1.h{}"),
            "/1/1.1/1.1.1/fn/fn.1/fn.1.3/Add_output_0": ("layer", "m1"),
        },
        radii=("1/255",),
        count=3,
        search_s=240,
        layout={"scale": {"divide": 255, "mean": [0.4914, 0.4822, 0.4465], "std": [0.2023, 0.1994, 0.201]}, "layout": "hwc"},
        std=(0.2023, 0.1994, 0.201),
    ),
    _Network(
        name="mnist_marabou_self_attention",
        images="mnist_test_first1000.npz",
        sites={"MatMul__148:0": ("head_position", "{}")},
        radii=("0.004", "0.01"),
        count=10,
        search_s=60,
        layout={"scale": {"divide": 255}},
    ),
)


def section(data: Path) -> str:
    """The section on heads of image classifiers. Raises: InputError: a model is missing."""
    rows = list[list[str]]()
    for network in _NETWORKS:
        model = model_at(data / "models" / f"{network.name}.onnx")
        for radius in network.radii:
            rows += _rows(data, network, model, radius)
    heads = ["model", "radius", "circuit", "certified", "falsified", "unknown", "cardinal, proven", "mean size", "in all", "s"]
    return f"{_TEXT}\n\n{table(heads, rows)}\n"


@dataclass(slots=True)
class _Count:
    """What came of one kind of circuit over the images."""

    verdicts: Counter[str] = field(default_factory=Counter[str])
    took_s: float = 0.0
    circuits: list[Kept] = field(default_factory=list[Kept])
    proven: int = 0


def _rows(data: Path, network: _Network, model: Model, radius: str) -> list[list[str]]:
    fixed: dict[str, Kept] = {"everything kept": {}, "nothing kept": dict.fromkeys(network.sites, "none")}
    counts = {name: _Count() for name in (*fixed, "found")}
    size = 0
    for index in range(network.count):
        asked = Asked(model, network.scope, network.spec(data, index, radius, model.graph.input_shape[1:]))
        size = asked.problem.gates.size
        for name, kept in fixed.items():
            counts[name].verdicts[said(asked.decide(kept))[0]] += 1
            counts[name].took_s += asked.took_s
        best, took_s = found(model, network.scope, asked.spec, "cardinal", network.search_s, hard=True)
        count, told = counts["found"], best.report.minimality
        count.verdicts[best.report.verdict] += 1
        count.took_s += took_s
        if best.report.verdict == "certified" and told is not None:
            count.circuits.append(kept_of(best, asked))
            count.proven += told.proven
    return [[network.name, radius, name, *_told(network, count, size)] for name, count in counts.items()]


def _told(network: _Network, count: _Count, size: int) -> list[str]:
    row = [str(count.verdicts[verdict]) for verdict in ("certified", "falsified", "unknown")]
    if not count.circuits:
        return [*row, "–", "–", "–", f"{count.took_s:.0f}"]
    named = [{network.sites[site][1].format(i) for site, rows in kept.items() for i in rows} for kept in count.circuits]
    mean = sum(map(len, named)) / len(named)
    shared = ", ".join(sorted(set[str].intersection(*named))) or "none"
    return [*row, str(count.proven), f"{mean:.1f} of {size}", shared, f"{count.took_s:.0f}"]


_TEXT = f"""Two classifiers of images that have attention. Parts of `cifar10_vit_pgd_2_3_16` (two layers of three heads and an
MLP) are heads and MLPs, its radius that of VNN-COMP 2023; parts of `mnist_marabou_self_attention` (three heads, four positions)
are heads at positions, numbered head by head, and VNN-COMP has no radius for it. The claim: everywhere within the radius of an
image, the circuit's class is the model's; ablated parts take their means over a hundred images. The data's first
images, as many as the rows count; {_QUESTION_S} s for a circuit, {_NETWORKS[0].search_s} s and {_NETWORKS[1].search_s} s
for a search for a smallest one. *In all*: what every circuit that was found keeps."""
