"""The record of a suite: networks, data, claims, methods, budgets and seeds, as a YAML file states them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from specs.errors import InputError, nearest
from specs.load import read_record
from specs.record import (
    FilePath,
    FileRecord,
    Index,
    Positive,
    Record,
    branch,
    chosen_by,
    known,
    problem,
    shown,
)
from specs.spec import Budget, Minimality
from verify.bench.network import Network

__all__ = ["SUITE_FORMAT", "Experiment", "Method", "Suite", "bundled", "read_suite"]

SUITE_FORMAT = "certify.suite/1"
_BUNDLED = Path(__file__).parent / "suites"

Factors: TypeAlias = Annotated[tuple[Positive, ...], Field(min_length=1)]


class Rows(Record):
    """Which inputs: `count` of them from `start` on."""

    start: Index = 0
    count: Annotated[int, Field(ge=1)]


class Discover(Record):
    """Search for a circuit, as `certify discover` does."""

    kind: Literal["discover"]
    algorithm: Literal["auto", "deletion", "iterated", "binary", "progression", "quickxplain", "hitting"] = "auto"
    order: Literal["removal", "witness", "activation-gradient", "integrated-gradients", "index"] = "removal"
    level: Minimality = "none"


class _Sampled(Record):
    """What all baselines share: how many points they look at, and how they patch; left out: as the claim does."""

    patching: Literal["zero", "mean"] | None = None
    samples: Annotated[int, Field(ge=1, le=4096)] = 64


class Sampling(_Sampled):
    """Drop components one by one while the deviation at samples stays within the tolerance."""

    kind: Literal["sampling"]


class Thresholding(_Sampled):
    """As ACDC (Conmy et al. 2023, arXiv:2304.14997): from the output backwards, drop a component where that adds less than
    `threshold` (a share of the tolerance) to the mean deviation at samples."""

    kind: Literal["thresholding"]
    threshold: Positive = 0.1


class Attribution(_Sampled):
    """Keep the components with the largest attribution: as few as keep the deviation at samples within the tolerance."""

    kind: Literal["attribution"]
    order: Literal["activation-gradient", "integrated-gradients"] = "activation-gradient"


class Given(Record):
    """Certify a circuit that is there."""

    kind: Literal["circuit"]
    file: FilePath


_METHODS = ("discover", "sampling", "thresholding", "attribution", "circuit")
Method: TypeAlias = Annotated[
    Annotated[Discover, branch("discover")]
    | Annotated[Sampling, branch("sampling")]
    | Annotated[Thresholding, branch("thresholding")]
    | Annotated[Attribution, branch("attribution")]
    | Annotated[Given, branch("circuit")],
    chosen_by("kind"),
    known("method", "kind", _METHODS),
]


class Experiment(Record):
    """Methods on inputs of networks, all for the same kind of claim.

    `input`: the claim is over the ball around each input, or at the input alone (`point`); of tokens an input is a set of
    sequences. `patching`: what ablated components take; `reachable`, `resample` and `closed` are over the ball, or one of
    `patch_factor` times its radius. Radius and tolerance are the network's, times each of the factors. The first of
    `methods` is what the others are compared with. `note` is printed under the tables. With `certificates` each certified
    circuit, and what is said of its minimality, gets a certificate, within the budget once more, which the independent
    checker confirms right away; what has none is unknown.
    """

    title: str
    note: str = ""
    networks: Annotated[dict[str, Rows], Field(min_length=1)]
    input: Literal["ball", "point"] = "ball"
    patching: Literal["zero", "mean", "reachable", "resample", "closed"]
    patch_factor: Positive = 1.0
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    budget: Budget = Budget(time_s=60.0)
    seeds: Annotated[tuple[Index, ...], Field(min_length=1)] = (0,)
    epsilon_factors: Factors = (1.0,)
    tolerance_factors: Factors = (1.0,)
    certificates: bool = False


class Calibration(Record):
    """The rule for tolerances: `share` of the median gap between the two largest outputs over the data's first `inputs`; of a
    regression's named outputs, of their standard deviation there. To three digits."""

    share: Positive = 0.5
    inputs: Annotated[int, Field(ge=2)] = 100


class Suite(FileRecord):
    """A suite: `experiments` on `networks` by `methods`, all three named by the keys."""

    format: Literal["certify.suite/1"]
    title: str
    calibration: Calibration = Calibration()
    networks: Annotated[dict[str, Network], Field(min_length=1)]
    methods: Annotated[dict[str, Method], Field(min_length=1)]
    experiments: Annotated[dict[str, Experiment], Field(min_length=1)]

    @model_validator(mode="after")
    def _named(self) -> Self:
        for name, experiment in self.experiments.items():
            for network in experiment.networks:
                if network not in self.networks:
                    there = nearest(network, self.networks)
                    raise problem(f"network {shown(network)}", "one under networks", there, "experiments", name, "networks")
            for i, method in enumerate(experiment.methods):
                if method not in self.methods:
                    there = nearest(method, self.methods)
                    raise problem(f"method {shown(method)}", "one under methods", there, "experiments", name, "methods", i)
        return self


def bundled() -> list[str]:
    """The names of the suites that come with the program."""
    return sorted(path.stem for path in _BUNDLED.glob("*.yaml"))


def read_suite(name: str | os.PathLike[str]) -> Suite:
    """The suite in a file, or the bundled one of that name. Raises: InputError: no such suite, or what is wrong with it."""
    file = os.fspath(name)
    if not os.path.isfile(file):
        # A folder of that name may be where an earlier run's results lie.
        if file not in bundled():
            listed = ", ".join(bundled())
            raise InputError(file, "", "no such file, and no bundled suite", f"a suite's YAML file, or one of: {listed}")
        file = str(_BUNDLED / f"{file}.yaml")
    return read_record(Suite, file)
