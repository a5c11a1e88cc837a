"""From a run of a suite to the question that is asked: a model, a scope and a spec."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from specs.arrays import inputs, resolve, to_input
from specs.errors import InputError
from specs.patching import Inputs
from specs.record import ArrayFile
from specs.region import Scale
from specs.spec import Spec
from verify.bench.calibrate import tolerance_of
from verify.bench.network import Network, Points, Sequences
from verify.bench.runs import Run
from verify.bench.scope import scope_of
from verify.bench.suite import Suite

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from specs.model import Model

__all__ = ["Asked", "asked"]


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A network; with its data as float64, `(count, ...)` as the file holds them, divided but not standardized, and what it
    computes on the first of them, where it has any."""

    network: Network
    model: Model
    scope: dict[str, str]
    raw: NDArray[np.float64] | None = None
    outputs: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """The question of a run. `means()` is the patching by mean activations."""

    model: Model
    scope: dict[str, str]
    epsilon: float
    tolerance: float
    spec: dict[str, Any]
    means: Callable[[], dict[str, Any]]
    data_sha256: str | None

    def read(self, level: str = "none", patching: str | None = None) -> Spec:
        """The spec at a level of minimality; `patching` (zero, mean) in place of the claim's own."""
        said = {**self.spec, "minimality": level}
        if patching is not None:
            said["patching"] = self.means() if patching == "mean" else {"kind": patching}
        return Spec.model_validate(said)


def asked(suite: Suite, run: Run, bench: Path | None) -> Asked:
    """The question. The region is the box around the input that the data hold, cut to the network's `clip` before channels are
    standardized; or the tokens that the suite states. Raises: InputError: a file is missing or does not hold what the suite
    says."""
    loaded = _loaded(suite.file, run.network, bench, suite.model_dump_json(warnings=False))
    network, experiment = loaded.network, suite.experiments[run.experiment]
    count = len(network.tokens) if isinstance(network, Sequences) else len(_there(loaded.raw))
    if run.index >= count:
        where = f"$.experiments.{run.experiment}.networks.{run.network}"
        raise InputError(suite.file, where, f"input {run.index}", f"one of the {count} that there are")
    own = network.tokens[run.index].epsilon if isinstance(network, Sequences) else network.epsilon
    epsilon = own * run.epsilon_factor

    def region(radius: float) -> Any:
        if isinstance(network, Sequences):
            return network.tokens[run.index].model_copy(update={"epsilon": radius})
        return _box(loaded, network, run.index, radius, suite.file)

    agreement = _agreement(loaded, suite.calibration.share, run.tolerance_factor)
    spec: dict[str, Any] = {
        "format": "certify.spec/1",
        "scope": loaded.scope,
        "input": region(epsilon if experiment.input == "ball" else 0.0),
        "patching": {"kind": experiment.patching},
        "agreement": agreement,
        "budget": {"time_s": experiment.budget.time_s},
    }

    def means() -> dict[str, Any]:
        background = _told(loaded, spec) if isinstance(network, Sequences) else _background(network, bench, suite.file)
        return {"kind": "mean", "mean": background}

    if experiment.patching == "mean":
        spec["patching"] = means()
    elif experiment.patching != "zero":
        spec["patching"][experiment.patching] = region(epsilon * experiment.patch_factor)
    sha256 = None if isinstance(network, Sequences) else network.data.sha256
    tolerance = agreement["tolerance"] if isinstance(agreement, dict) else agreement.tolerance
    return Asked(loaded.model, loaded.scope, epsilon, tolerance, spec, means, sha256)


def _there(raw: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert raw is not None, "networks of points have data"
    return raw


def _agreement(loaded: _Loaded, share: float, factor: float) -> Any:
    """What is demanded: as the network says it, or logits within the tolerance of the suite's rule."""
    network = loaded.network
    if network.agreement is not None:
        return network.agreement.model_copy(update={"tolerance": network.agreement.tolerance * factor})
    assert isinstance(network, Points) and loaded.outputs is not None
    named = {} if network.outputs is None else {"outputs": list(network.outputs)}
    tolerance = tolerance_of(loaded.outputs, network.outputs, share) * factor
    return {"metric": "logits", "norm": "linf", "tolerance": tolerance, **named}


def _plain(network: Points, divide: bool) -> Scale | None:
    """The network's scale; without `divide`, of numbers that are divided already."""
    scale = network.scale
    return scale if scale is None or divide else scale.model_copy(update={"divide": 1.0})


def _box(loaded: _Loaded, network: Points, index: int, epsilon: float, file: str) -> dict[str, Any]:
    low, high = network.clip
    shape = loaded.model.graph.input_shape
    ends = (np.clip(_there(loaded.raw)[index] + step, low, high) for step in (-epsilon, epsilon))
    lower, upper = (
        to_input(end, shape, scale=_plain(network, False), layout=network.layout, file=file, where="$.networks") for end in ends
    )
    return {"kind": "box", "lower": lower.tolist(), "upper": upper.tolist()}


def _background(network: Points, bench: Path | None, file: str) -> dict[str, Any]:
    data = network.background or network.data
    found: dict[str, Any] = {"file": str(data.found(bench, file).absolute()), "scale": network.scale, "layout": network.layout}
    return found if data.array is None else {**found, "array": data.array}


def _told(loaded: _Loaded, spec: dict[str, Any]) -> dict[str, Any]:
    """The mean activations over a claim's sequences."""
    from verify.bench.scope import means

    zero = Spec.model_validate({**spec, "patching": {"kind": "zero"}})
    return means(loaded.model, loaded.scope, zero)


@lru_cache(maxsize=4)
def _loaded(file: str, name: str, bench: Path | None, text: str) -> _Loaded:
    """Read once a process. `text` is the suite, which is its own key: two of one name may differ."""
    import torch

    from specs.model import load_model

    suite = Suite.model_validate_json(text)
    network = suite.networks[name]
    where = f"$.networks.{name}"
    path = network.model.found(bench, file)
    model = load_model(str(path.absolute()), shown=str(path), where="", base=Path())
    scope = scope_of(network, model, file, where)
    if isinstance(network, Sequences):
        return _Loaded(network, model, scope)
    data = network.data.found(bench, file)
    reference = ArrayFile(file=str(data), array=network.data.array)
    raw = resolve(reference, file=file, where=f"{where}.data")
    raw = raw / (1.0 if network.scale is None else network.scale.divide)
    rows = tuple(range(min(len(raw), suite.calibration.inputs)))
    given = Inputs(
        file=str(data), array=network.data.array, indices=rows, scale=network.scale, layout=network.layout
    )  # fmt: skip
    points = inputs(given, model.graph.input_shape, file=file, where=f"{where}.data")
    with torch.no_grad():
        outputs = model.graph(torch.from_numpy(points)).flatten(1).numpy()
    return _Loaded(network, model, scope, raw, outputs)
