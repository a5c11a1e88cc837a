"""Parts of a document of another tool's, each of the kind that its schema promises."""

from __future__ import annotations

from typing import cast

from specs.document import Value, jsonpath
from specs.errors import InputError
from specs.record import shown

__all__ = ["Place", "flag", "integer", "listing", "mapping", "number", "text"]


class Place:
    """A place in a file: for messages."""

    __slots__ = ("file", "steps")

    def __init__(self, file: str, *steps: str | int) -> None:
        self.file, self.steps = file, steps

    def at(self, *steps: str | int) -> Place:
        """A place further down."""
        return Place(self.file, *self.steps, *steps)

    def error(self, found: str, needed: str, remedy: str = "") -> InputError:
        """What is wrong here."""
        return InputError(self.file, jsonpath(self.steps), found, needed, remedy)


def mapping(value: Value, place: Place, *keys: str) -> dict[str, Value]:
    """A mapping that has `keys`. Raises: InputError."""
    if not isinstance(value, dict):
        raise place.error(shown(value), "a mapping")
    for key in keys:
        if key not in value:
            raise place.error(f"no key {key!r}", f"a mapping with {', '.join(keys)}", "is it this tool's file?")
    return value


def listing(value: Value, place: Place) -> list[Value]:
    """A list. Raises: InputError."""
    if not isinstance(value, list):
        raise place.error(shown(value), "a list")
    return value


def flag(value: Value, place: Place, *steps: str | int) -> bool:
    """True or false; 0 and 1 are taken too. It stands `steps` further down than `place`. Raises: InputError."""
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise place.at(*steps).error(shown(value), "true or false")


def number(value: Value, place: Place, *steps: str | int) -> float:
    """A number, `steps` further down than `place`. Raises: InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise place.at(*steps).error(shown(value), "a number")
    return float(value)


def integer(value: Value, place: Place) -> int:
    """An integer, 0 or more. Raises: InputError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise place.error(shown(value), "an integer, 0 or more")
    return value


def text(value: Value, place: Place) -> str:
    """Text that is not empty. Raises: InputError."""
    if not isinstance(value, str) or not value:
        raise place.error(shown(cast("object", value)), "text")
    return value
