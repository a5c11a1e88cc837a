"""The records of a suite's networks: a model, the inputs that claims are about, and what is up for ablation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Discriminator, Field, model_validator

from specs.agreement import Agreement
from specs.circuit import Scope
from specs.errors import InputError
from specs.record import FilePath, Index, Number, Record, Tolerance, branch, problem
from specs.region import Layout, Scale, Tokens

__all__ = ["Data", "Network", "Points", "Published", "Sequences"]


class Published(Record):
    """A file: `path` counts from the suite's directory, `bench` from the folder that `--data` names. `source` says where it
    was published, for whoever has not got it; `sha256` is checked."""

    path: FilePath | None = None
    bench: Annotated[str, Field(min_length=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    source: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.bench is None):
            raise problem("`path` and `bench`" if self.path else "neither `path` nor `bench`", "one of them")
        return self

    def found(self, bench: Path | None, suite: str) -> Path:
        """Where the file lies, its hash checked. Raises: InputError: it is not there, or another file."""
        name = self.path if self.path is not None else self.bench
        assert name is not None
        if self.path is None and bench is None:
            raise InputError(suite, "", f"{name} is needed", self._origin(), "say where the bench folder is: --data DIR")
        path = Path(name) if self.path is not None else Path(bench or "") / name
        if not path.is_file():
            raise InputError(str(path), "", "no such file", self._origin(), "get it, or say where it is: --data DIR")
        if self.sha256 is not None:
            seen = hashlib.sha256(path.read_bytes()).hexdigest()
            if seen != self.sha256:
                raise InputError(str(path), "", f"sha256 {seen}", self._origin(), "get that file")
        return path

    def _origin(self) -> str:
        said = f"published as {self.source}" if self.source else "a file that the suite names"
        return f"{said}, sha256 {self.sha256}" if self.sha256 else said


class Data(Published):
    """Inputs in an `.npz`, first axis first."""

    array: str | None = None


class _Network(Record):
    """What is up for ablation: the sites in `scope`, as in a spec, or, by `granularity`, those after an activation function
    (`neuron`, `channel`), each attention layer's heads (`head`), or whatever reads the stream (`edge`)."""

    model: Published
    granularity: Literal["neuron", "channel", "head", "edge"] | None = None
    scope: Annotated[Scope, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _scoped(self) -> Self:
        if (self.granularity is None) == (self.scope is None):
            found = "neither `granularity` nor `scope`" if self.scope is None else "`granularity` and `scope`"
            raise problem(found, "one of them")
        return self


class Points(_Network):
    """A model of continuous inputs, inputs for it and the radius that fits them.

    Data become inputs by `scale` and `layout`, as in a spec. `epsilon` and `clip` are in units of the data after `divide`,
    before `mean` and `std`. The mean activations of `background` (left out: of `data`) are what is patched in as means.
    `outputs`: those of a regression that the claim is about. `agreement`, as in a spec, is in place of the suite's rule.
    """

    data: Data
    background: Data | None = None
    epsilon: Tolerance
    clip: tuple[Number, Number] = (0.0, 1.0)
    scale: Scale | None = None
    layout: Layout | None = None
    outputs: Annotated[tuple[Index, ...], Field(min_length=1)] | None = None
    agreement: Agreement | None = None

    @property
    def files(self) -> tuple[Published, ...]:
        """Model and data."""
        return tuple(part for part in (self.model, self.data, self.background) if part is not None)


class Sequences(_Network):
    """A model of tokens. Each of `tokens`, as in a spec's `input`, is one input: the claim is about all its sequences, within
    its radius. The mean activations over these sequences are what is patched in as means."""

    tokens: Annotated[tuple[Tokens, ...], Field(min_length=1)]
    agreement: Agreement

    @property
    def files(self) -> tuple[Published, ...]:
        """The model."""
        return (self.model,)


def _kind(value: object) -> str:
    tokens = "tokens" in value if isinstance(value, Mapping) else isinstance(value, Sequences)
    return "<sequences>" if tokens else "<points>"


Network: TypeAlias = Annotated[
    Annotated[Points, branch("points")] | Annotated[Sequences, branch("sequences")], Discriminator(_kind)
]
