"""The record of a circuit: which components of which sites of which model are kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeAlias, cast

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from specs.errors import nearest
from specs.record import FileRecord, Record, Site, joined, numbered, problem, shown
from specs.splice import Splice

__all__ = ["CIRCUIT_FORMAT", "Circuit", "Granularity", "Kept", "ModelFile", "Scope"]

CIRCUIT_FORMAT = "certify.circuit/1"

Granularity: TypeAlias = Literal["neuron", "channel", "unit", "head", "feature", "edge", "position", "head_position", "layer"]
Scope: TypeAlias = dict[Site, Granularity]

_CODE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def _path(value: str, info: ValidationInfo) -> str:
    return value if _CODE.fullmatch(value) else joined(value, info)


class ModelFile(Record):
    """Where the model is: a file, or code as `package.module:callable`; and autoencoders that stand at its sites.

    A relative path counts from the directory of the file that names it; once read, it counts from the working directory.
    """

    path: Annotated[str, Field(min_length=1), AfterValidator(_path)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None
    splice: dict[Site, Splice] | None = None

    @property
    def is_code(self) -> bool:
        """Whether `path` names a Python callable, which only runs with `--allow-code`."""
        return _CODE.fullmatch(self.path) is not None


def _kept(value: object) -> tuple[int, ...] | Literal["all", "none"]:
    if value == "all" or value == "none":
        return cast("Literal['all', 'none']", value)
    if not isinstance(value, list | tuple | range):
        raise problem(shown(value), 'a list of component indices, "all" or "none"')
    return numbered(cast("object", value), what="component", repeats=False)


def _written(value: tuple[int, ...] | str) -> list[int] | str:
    return value if isinstance(value, str) else list(value)


Kept: TypeAlias = Annotated[
    tuple[int, ...] | Literal["all", "none"],
    PlainValidator(_kept),
    PlainSerializer(_written),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["all", "none"]},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True},
            ]
        }
    ),
]


class Circuit(FileRecord):
    """`circuit.json`: the components in scope that are kept; all others in scope are ablated, everything out of scope is kept.

    Guarantees: `scope` and `kept` name the same sites; indices are integers, 0 or more, each once. Whether the model has such
    sites and components is checked where both are known.
    """

    format: Literal["certify.circuit/1"]
    model: ModelFile
    scope: Scope
    kept: dict[Site, Kept]
    provenance: dict[str, JsonValue] | None = None

    @model_validator(mode="after")
    def _same_sites(self) -> Self:
        for site in self.scope:
            if site not in self.kept:
                said = f'add "{site}": "all", "none" or a list of indices'
                raise problem(f"site {site!r} is in scope but not in kept", "an entry for every site in scope", said, "kept")
        for site in self.kept:
            if site not in self.scope:
                near = nearest(site, self.scope) if self.scope else "add it to scope"
                raise problem(f"site {site!r} is kept but not in scope", "only sites in scope", near, "kept", site)
        return self
