"""A suite unfolded into runs: one network, input, claim, method and seed each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

from verify.bench.suite import Suite

__all__ = ["Run", "digest", "runs"]


@dataclass(frozen=True, slots=True)
class Run:
    """What names a run within its suite."""

    experiment: str
    network: str
    index: int
    method: str
    seed: int
    epsilon_factor: float
    tolerance_factor: float

    @property
    def said(self) -> str:
        """For progress and messages."""
        factors = (
            "" if self.epsilon_factor == self.tolerance_factor == 1 else f" {self.epsilon_factor:g}ε {self.tolerance_factor:g}δ"
        )
        return f"{self.experiment}: {self.network}[{self.index}]{factors}: {self.method}"


def runs(suite: Suite) -> Iterator[Run]:
    """All runs, those on the same input next to each other."""
    for name, experiment in suite.experiments.items():
        for network, rows in experiment.networks.items():
            for index in range(rows.start, rows.start + rows.count):
                for epsilon in experiment.epsilon_factors:
                    for tolerance in experiment.tolerance_factors:
                        for method in experiment.methods:
                            for seed in experiment.seeds:
                                yield Run(name, network, index, method, seed, epsilon, tolerance)


def digest(suite: Suite, run: Run) -> str:
    """Of all that defines a run and changes its result: a row with another digest is no answer to it."""
    experiment = suite.experiments[run.experiment]
    claim = experiment.model_dump(mode="json", include={"input", "patching", "budget"})
    if experiment.patch_factor != 1:
        claim["patch_factor"] = experiment.patch_factor
    if experiment.certificates:
        claim["certificates"] = True
    network = suite.networks[run.network].model_dump(mode="json", warnings=False)
    for later in ("scope", "agreement"):
        if network[later] is None:
            del network[later]  # so that rows from before there was such a key are still known
    for part in ("model", "data", "background"):
        if network.get(part) is not None and network[part]["sha256"] is not None:
            # A file with a hash is the same wherever it lies.
            network[part] = network[part]["sha256"]
    parts = [
        claim, network, suite.methods[run.method].model_dump(mode="json"), suite.calibration.model_dump(mode="json"),
        run.index, run.seed, run.epsilon_factor, run.tolerance_factor,
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
