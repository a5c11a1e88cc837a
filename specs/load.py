"""`circuit.json` and `spec.yaml` into records; whatever is wrong with them becomes one line that names the place."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from specs.circuit import Circuit
from specs.document import jsonpath, read_document
from specs.errors import InputError
from specs.record import Origin, close, shown
from specs.spec import Spec

__all__ = ["explained", "read_circuit", "read_record", "read_spec"]

R = TypeVar("R", bound=BaseModel)
Place = tuple[str | int, ...]


def read_circuit(path: str | os.PathLike[str]) -> Circuit:
    """The circuit in a `circuit.json`. Paths in it come out as the working directory reaches them.

    Raises: InputError: the file cannot be read, is malformed, or says what no circuit can say.
    """
    return read_record(Circuit, path)


def read_spec(path: str | os.PathLike[str]) -> Spec:
    """The spec in a `spec.yaml` (or JSON). Paths in it come out as the working directory reaches them.

    Raises: InputError: the file cannot be read, is malformed, or says what no spec can say.
    """
    return read_record(Spec, path)


def read_record(record: type[R], path: str | os.PathLike[str]) -> R:
    """The record in a JSON or YAML file. Raises: InputError: the file cannot be read, or is no such record."""
    file = os.fspath(path)
    value = read_document(file)
    if not isinstance(value, dict):
        keys = [name for name, field in record.model_fields.items() if field.is_required()]
        raise InputError(file, "$", shown(value), f"a mapping with {', '.join(keys)}")
    try:
        return record.model_validate(value, context=Origin(file, Path(file).parent))
    except ValidationError as error:
        raise explained(error, file, value) from None


def explained(error: ValidationError, file: str, document: object = ...) -> InputError:
    """The one line for what pydantic found: an unknown key before other faults, a missing key last, else the first.

    `document` is what was validated, if it is known: it tells keys that were written from steps that only our records have.
    """

    def rank(details: ErrorDetails) -> int:
        if details["msg"].startswith("unknown key"):
            return 0
        return 2 if details["type"] == "missing" else 1

    details = min(error.errors(include_url=False), key=rank)
    context = cast("Mapping[str, Any]", details.get("ctx") or {})
    below = cast("Place", tuple(context.get("below", ()))) if details["type"] == "problem" else ()
    if details["type"] == "missing":
        *parents, key = details["loc"]
        where = jsonpath(_written(tuple(parents), document))
        return InputError(file, where, f"no key {str(key)!r}", "", f"add {str(key)!r}")
    where = jsonpath(_written((*details["loc"], *below), document))
    if details["type"] == "problem":
        return InputError(file, where, context["found"], context["needed"], context["remedy"])
    if details["type"] == "literal_error":
        names = [name for name in str(context["expected"]).replace(" or ", ", ").replace("'", "").split(", ") if name]
        value = details["input"]
        return InputError(file, where, shown(value), f"one of: {', '.join(names)}", close(value, names))
    say = _NEEDED.get(details["type"])
    needed = say(context) if say else details["msg"][:1].lower() + details["msg"][1:]
    return InputError(file, where, shown(details["input"]), needed)


def _written(place: Sequence[str | int], document: object) -> Place:
    """Steps of a location that stand in the document; a branch's name, and a key that was only implied, are left out."""
    steps: list[str | int] = []
    for i, step in enumerate(place):
        if isinstance(document, Mapping):
            entries = cast("Mapping[Any, object]", document)
            if step not in entries and (str(step).startswith("<") or i < len(place) - 1):
                continue
            document = entries.get(step, ...)
        elif isinstance(document, list) and isinstance(step, int):
            parts = cast("list[object]", document)
            document = parts[step] if step < len(parts) else ...
        elif document is not ... or str(step).startswith("<"):
            continue
        steps.append(step)
    return tuple(steps)


def _at_least(bound: str, words: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda context: f"a number {words} {context[bound]:g}"


_NEEDED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "float_type": lambda _: "a number",
    "int_type": lambda _: "an integer",
    "int_from_float": lambda _: "an integer",
    "finite_number": lambda _: "a finite number",
    "greater_than": _at_least("gt", "greater than"),
    "greater_than_equal": _at_least("ge", "of at least"),
    "string_type": lambda _: "text in quotes",
    "string_too_short": lambda _: "text that is not empty",
    "string_pattern_mismatch": lambda _: "64 hexadecimal digits (the SHA-256 of the file)",
    "too_short": lambda context: f"a list of at least {context['min_length']}",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "a mapping",
    "model_type": lambda _: "a mapping",
}
