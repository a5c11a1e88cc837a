"""What every record shares: strict keys, numbers that are numbers, paths as the working directory reaches them, arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    PrivateAttr,
    Strict,
    StringConstraints,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from specs.errors import nearest

__all__ = [
    "Array",
    "ArrayFile",
    "FilePath",
    "FileRecord",
    "Index",
    "Inline",
    "Nested",
    "Number",
    "Origin",
    "Positive",
    "Record",
    "Site",
    "Tolerance",
    "branch",
    "chosen_by",
    "close",
    "joined",
    "known",
    "numbered",
    "paired",
    "problem",
    "shown",
]

# Far beyond any tensor's rank, far below Python's recursion limit.
_MAX_AXES = 16


@dataclass(frozen=True, slots=True)
class Origin:
    """The file a record is read from (as the user named it), and the directory its paths are relative to."""

    file: str
    base: Path


def problem(found: str, needed: str = "", remedy: str = "", *below: str | int) -> PydanticCustomError:
    """An error a validator raises. `below` leads from the validated value to the place that is wrong."""
    parts: dict[str, Any] = {"found": found, "needed": needed, "remedy": remedy, "below": below}
    return PydanticCustomError("problem", "{found}", parts)


def shown(value: object) -> str:
    """A value as an error message shows it: short, and a container by its kind only."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple | set | frozenset | range):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 48 else f"{text[:40]}...{text[-1]}"


class Record(BaseModel):
    """Base of all records: frozen, and an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: object) -> object:
        if isinstance(value, Mapping):
            names = [field.alias or name for name, field in cls.model_fields.items()]
            for key in cast("Mapping[Any, Any]", value):
                if key not in names:
                    raise problem(f"unknown key {shown(key)}", "", nearest(str(key), names), key)
        return cast("object", value)


class FileRecord(Record):
    """A record that is a file of its own."""

    _file: str | None = PrivateAttr(default=None)

    @property
    def file(self) -> str:
        """The file it was read from, as the user named it; without one, what kind of record it is. Error messages start so."""
        return self._file or type(self).__name__.lower()

    def model_post_init(self, context: Any, /) -> None:
        if isinstance(context, Origin):
            self._file = context.file


Number: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False, gt=0)]
Tolerance: TypeAlias = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=0)]
Index: TypeAlias = Annotated[int, Strict(), Field(ge=0)]
Site: TypeAlias = Annotated[str, StringConstraints(min_length=1)]


def numbered(value: object, *, what: str = "index", repeats: bool = True) -> tuple[int, ...]:
    """A list of indices as a tuple. Raises: `problem`, at the entry that is no index or, without `repeats`, is a repeat."""
    if not isinstance(value, list | tuple | range):
        raise problem(shown(value), f"a list of indices ({what})")
    seen: dict[int, int] = {}
    for place, entry in enumerate(cast("Iterable[object]", value)):
        if isinstance(entry, bool) or not isinstance(entry, int):
            raise problem(f"{what} {shown(entry)}", "an integer, 0 or more", "", place)
        if entry < 0:
            raise problem(f"{what} {entry}", "an integer, 0 or more", "count from 0", place)
        if not repeats and entry in seen:
            raise problem(f"{what} {entry} again", "each at most once", f"as at [{seen[entry]}]; delete one", place)
        seen[entry] = place
    return tuple(cast("Iterable[int]", value))


def _index(value: object) -> int | tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple | range):
        found = numbered(cast("object", value))
        if not found:
            raise problem("an empty list", "an index or a list of indices", "leave `index` out to take all")
        return found
    if isinstance(value, bool) or not isinstance(value, int):
        raise problem(shown(value), "an integer, 0 or more, or a list of them")
    if value < 0:
        raise problem(str(value), "an integer, 0 or more", "count from 0")
    return value


def paired(needed: str) -> BeforeValidator:
    """A list of two, or `problem` that says what is needed."""

    def check(value: object) -> object:
        if not isinstance(value, list | tuple) or len(cast("Sequence[object]", value)) != 2:
            raise problem(shown(cast("object", value)), needed)
        return cast("object", value)

    return BeforeValidator(check)


def joined(path: str, info: ValidationInfo) -> str:
    """A path from the working directory; the one that is given counts from the directory of the file that names it."""
    if "\0" in path:
        raise problem("a path with a NUL character", "the path of a file")
    if isinstance(info.context, Origin):
        return os.path.join(info.context.base, path)
    return path


FilePath: TypeAlias = Annotated[str, StringConstraints(min_length=1), AfterValidator(joined)]

Nested: TypeAlias = "float | tuple[Any, ...]"


def _nested(value: object) -> Nested:
    """Numbers, or lists of equally shaped lists of them, as nested tuples. Arrays and tensors stand for their `tolist()`."""
    tolist: object = getattr(value, "tolist", None)
    found, _ = _frozen(tolist() if callable(tolist) else value, ())
    return found


def _frozen(value: object, place: tuple[int, ...]) -> tuple[Nested, tuple[int, ...]]:
    if isinstance(value, list | tuple):
        if len(place) == _MAX_AXES:
            raise problem(f"lists nested more than {_MAX_AXES} deep", "an array of the model's shape")
        entries = cast("list[object]", value)
        if not entries:
            raise problem("an empty list", "numbers", "", *place)
        parts: list[Nested] = []
        first: tuple[int, ...] = ()
        for i, entry in enumerate(entries):
            part, shape = _frozen(entry, (*place, i))
            first = shape if i == 0 else first
            if shape != first:
                raise problem(f"an entry of shape {shape}", f"the shape of its neighbours, {first}", "", *place, i)
            parts.append(part)
        return tuple(parts), (len(parts), *first)
    if isinstance(value, bool) or not isinstance(value, int | float):
        needed = "a number" if place else "a number, a nested list of numbers, or {file: ..., array: ...}"
        raise problem(shown(value), needed, "", *place)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise problem(shown(value), "a finite number", "", *place)
    return number, ()


class ArrayFile(Record):
    """Numbers that stand in a file: an array of an `.npz`, or an `.npy`.

    `array` may be left out where the file holds one array only. `index` picks along the first axis: one entry, several, or
    (left out) the whole array.
    """

    file: FilePath
    array: str | None = None
    index: Annotated[
        int | tuple[int, ...] | None,
        PlainValidator(_index),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    {"type": "null"},
                ]
            }
        ),
    ] = None


Inline: TypeAlias = Annotated[
    Nested,
    PlainValidator(_nested),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "array", "minItems": 1}]}),
]


def close(value: object, names: Sequence[str]) -> str:
    """`use 'x'` for a name close to what was written, else nothing: for messages that list all names anyway."""
    said = nearest(str(value), names)
    return "" if said.startswith("use one of") else said


def branch(name: str) -> Tag:
    """Names a branch of a union in pydantic's error locations, in a way that no key of a document looks like."""
    return Tag(f"<{name}>")


def chosen_by(key: str) -> Discriminator:
    """The branch of a union that a mapping's (or record's) `key` names."""

    def name(value: object) -> str:
        chosen = cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        return f"<{chosen}>"

    return Discriminator(name)


def known(what: str, key: str, names: tuple[str, ...], later: tuple[str, ...] = ()) -> BeforeValidator:
    """Before a union: `key` must name one of its branches. Names in `later` are recognised, and answered with what there is."""
    listed = ", ".join(names)

    def check(value: object) -> object:
        if isinstance(value, Record):
            return value
        if not isinstance(value, Mapping):
            raise problem(shown(value), f"a mapping with `{key}`: {listed}")
        entries = cast("Mapping[str, object]", value)
        if key not in entries:
            raise problem(f"no `{key}`", f"one of: {listed}", f"add `{key}:`")
        chosen = entries[key]
        if chosen in later:
            raise problem(f"{what} {chosen!r} is not supported yet", f"one of: {listed}", "", key)
        if not isinstance(chosen, str) or chosen not in names:
            raise problem(f"unknown {what} {shown(chosen)}", f"one of: {listed}", close(chosen, names), key)
        return entries

    return BeforeValidator(check)


def _inline_or_file(value: object) -> str:
    return "<file>" if isinstance(value, Mapping | ArrayFile) else "<inline>"


_pick: Callable[[Any], str] = _inline_or_file
Array: TypeAlias = Annotated[
    Annotated[Inline, branch("inline")] | Annotated[ArrayFile, branch("file")],
    Discriminator(_pick),
]
