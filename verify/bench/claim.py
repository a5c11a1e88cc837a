"""From a run of a suite to the question that is asked: a model, a scope and a spec."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specs.arrays import inputs, to_input
from specs.errors import InputError
from specs.patching import Inputs
from specs.record import ArrayFile
from specs.region import Scale
from specs.spec import Spec
from verify.bench.calibrate import tolerance_of
from verify.bench.runs import Run
from verify.bench.suite import Network, Suite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from specs.model import Model

__all__ = ["Asked", "asked"]


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A network with its data as float64, `(count, ...)` as the file holds them, divided but not standardized."""

    network: Network
    model: Model
    raw: NDArray[np.float64]
    outputs: NDArray[np.float64]
    scope: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The question of a run. `ours(patching)` is the spec with the claim's regions and another patching."""

    model: Model
    scope: dict[str, str]
    epsilon: float
    tolerance: float
    spec: dict[str, Any]
    means: dict[str, Any]
    data_sha256: str | None

    def read(self, level: str = "none", patching: str | None = None) -> Spec:
        """The spec at a level of minimality; `patching` (zero, mean) in place of the claim's own."""
        said = {**self.spec, "minimality": level}
        if patching is not None:
            said["patching"] = self.means if patching == "mean" else {"kind": patching}
        return Spec.model_validate(said)


def asked(suite: Suite, run: Run, bench: Path | None) -> Asked:
    """The question. The region is the box around the input that the data hold, cut to the network's `clip` before channels are
    standardized. Raises: InputError: a file is missing or does not hold what the suite says."""
    loaded = _loaded(suite.file, run.network, bench, suite.model_dump_json())
    network, experiment = loaded.network, suite.experiments[run.experiment]
    if run.index >= len(loaded.raw):
        where = f"$.experiments.{run.experiment}.networks.{run.network}"
        raise InputError(suite.file, where, f"input {run.index}", f"one of the {len(loaded.raw)} that the data hold")
    epsilon = network.epsilon * run.epsilon_factor
    calibration = suite.calibration
    tolerance = tolerance_of(loaded.outputs, network.outputs, calibration.share) * run.tolerance_factor
    ball = _box(loaded, run.index, epsilon, suite.file)
    region = ball if experiment.input == "ball" else _box(loaded, run.index, 0.0, suite.file)
    means = {"kind": "mean", "mean": _background(network, bench, suite.file)}
    patching: dict[str, Any] = means if experiment.patching == "mean" else {"kind": experiment.patching}
    if experiment.patching in ("reachable", "resample", "closed"):
        patching[experiment.patching] = _box(loaded, run.index, epsilon * experiment.patch_factor, suite.file)
    named = {} if network.outputs is None else {"outputs": list(network.outputs)}
    spec = {
        "format": "certify.spec/1",
        "scope": loaded.scope,
        "input": region,
        "patching": patching,
        "agreement": {"metric": "logits", "norm": "linf", "tolerance": tolerance, **named},
        "budget": {"time_s": experiment.budget.time_s},
    }
    return Asked(loaded.model, loaded.scope, epsilon, tolerance, spec, means, network.data.sha256)


def _plain(network: Network, divide: bool) -> Scale | None:
    """The network's scale; without `divide`, of numbers that are divided already."""
    scale = network.scale
    return scale if scale is None or divide else scale.model_copy(update={"divide": 1.0})


def _box(loaded: _Loaded, index: int, epsilon: float, file: str) -> dict[str, Any]:
    network, low, high = loaded.network, *loaded.network.clip
    shape = loaded.model.graph.input_shape
    ends = (np.clip(loaded.raw[index] + step, low, high) for step in (-epsilon, epsilon))
    lower, upper = (
        to_input(end, shape, scale=_plain(network, False), layout=network.layout, file=file, where="$.networks") for end in ends
    )
    return {"kind": "box", "lower": lower.tolist(), "upper": upper.tolist()}


def _background(network: Network, bench: Path | None, file: str) -> dict[str, Any]:
    data = network.background or network.data
    found: dict[str, Any] = {"file": str(data.found(bench, file).absolute()), "scale": network.scale, "layout": network.layout}
    return found if data.array is None else {**found, "array": data.array}


@lru_cache(maxsize=4)
def _loaded(file: str, name: str, bench: Path | None, text: str) -> _Loaded:
    """Read once a process. `text` is the suite, which is its own key: two of one name may differ."""
    import torch

    from specs.arrays import resolve
    from specs.model import load_model

    suite = Suite.model_validate_json(text)
    network = suite.networks[name]
    where = f"$.networks.{name}"
    path, data = network.model.found(bench, file), network.data.found(bench, file)
    model = load_model(str(path.absolute()), shown=str(path), where="", base=Path())
    reference = ArrayFile(file=str(data), array=network.data.array)
    raw = resolve(reference, file=file, where=f"{where}.data")
    raw = raw / (1.0 if network.scale is None else network.scale.divide)
    sites = [site for site in model.sites() if site.after_activation and network.granularity in site.granularities]
    if not sites:
        needed = "sites after an activation function that have such components"
        raise InputError(file, f"{where}.granularity", network.granularity, needed, "`certify show MODEL` lists them")
    scope = {site.name: network.granularity for site in sites}
    rows = tuple(range(min(len(raw), suite.calibration.inputs)))
    given = Inputs(
        file=str(data), array=network.data.array, indices=rows, scale=network.scale, layout=network.layout
    )  # fmt: skip
    points = inputs(given, model.graph.input_shape, file=file, where=f"{where}.data")
    with torch.no_grad():
        outputs = model.graph(torch.from_numpy(points)).flatten(1).numpy()
    return _Loaded(network, model, raw, outputs, scope)
