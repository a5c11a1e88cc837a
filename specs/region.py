"""The records of input regions: what `input:` of a spec says. No number is touched here; `specs.encode` builds the sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self, TypeAlias, cast

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from specs.record import (
    Array,
    Number,
    Positive,
    Record,
    Tolerance,
    branch,
    chosen_by,
    known,
    numbered,
    paired,
    problem,
    shown,
)

__all__ = ["L2", "REGION_KINDS", "Box", "Clip", "Hull", "Layout", "Linf", "Region", "Scale", "Tokens"]

REGION_KINDS = ("linf", "l2", "box", "hull", "tokens")

Layout: TypeAlias = Literal["chw", "hwc"]


def _number_or_list(value: object) -> object:
    # A union's own errors would name its branches; a number becomes a list of one, and says so nowhere.
    return (value,) if isinstance(value, int | float) else value


PerChannel: TypeAlias = Annotated[
    tuple[Number, ...], BeforeValidator(_number_or_list, json_schema_input_type=Number | list[Number])
]
PerChannelPositive: TypeAlias = Annotated[
    tuple[Positive, ...], BeforeValidator(_number_or_list, json_schema_input_type=Positive | list[Positive])
]


class Scale(Record):
    """From what the file (or the inline list) holds to what the model takes: `(value / divide - mean) / std`.

    `mean` and `std` are a number (kept as a tuple of one) or one number a channel.
    """

    divide: Positive = 1.0
    mean: PerChannel = (0.0,)
    std: PerChannelPositive = (1.0,)

    @model_validator(mode="after")
    def _some(self) -> Self:
        for key, values in (("mean", self.mean), ("std", self.std)):
            if not values:
                raise problem("an empty list", "a number, or one a channel", "", key)
        if len(self.mean) != len(self.std) and 1 not in (len(self.mean), len(self.std)):
            raise problem(f"{len(self.std)} values, and mean has {len(self.mean)}", "one a channel in both", "", "std")
        return self


def _leaves(value: object, *place: int) -> Iterator[tuple[float, tuple[int, ...]]]:
    if isinstance(value, tuple):
        for i, entry in enumerate(cast("tuple[object, ...]", value)):
            yield from _leaves(entry, *place, i)
    elif isinstance(value, float):
        yield value, place


def _nonnegative(value: Any) -> Any:
    for number, place in _leaves(value):
        if number < 0:
            raise problem(shown(number), "a radius of 0 or more", "", *place)
    return value


def _ordered(ends: Any) -> Any:
    low, high = ends
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise problem(f"[{low}, {high}]", "the lower end first", "swap them")
    return ends


Clip: TypeAlias = Annotated[
    tuple[Array | None, Array | None],
    AfterValidator(_ordered),
    paired("[lowest, highest], either may be null"),
]


class _Input(Record):
    """`scale` and `layout` say how `center`, `points`, `lower` and `upper` become inputs of the model. `epsilon` and `clip` are
    in the model's own units, always.

    `layout` says how a three-axis array is arranged; it is turned where the model's input is arranged the other way.
    """

    clip: Clip | None = None
    scale: Scale | None = None
    layout: Layout | None = None


class Linf(_Input):
    """All inputs within `epsilon` of `center` in every coordinate. A list of `index` in `center` is one claim each."""

    kind: Literal["linf"] = "linf"
    center: Array
    epsilon: Annotated[Array, AfterValidator(_nonnegative)]


class L2(_Input):
    """All inputs within Euclidean distance `epsilon` of `center`. A list of `index` in `center` is one claim each."""

    kind: Literal["l2"] = "l2"
    center: Array
    epsilon: Tolerance


class Box(_Input):
    """All inputs between `lower` and `upper`."""

    kind: Literal["box"] = "box"
    lower: Array
    upper: Array


class Hull(_Input):
    """The convex hull of `points`: the first axis counts them."""

    kind: Literal["hull"] = "hull"
    points: Array


Alternatives: TypeAlias = Literal["all"] | tuple[int, ...]

_NUMBERS: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}
_ALTERNATIVES: dict[str, Any] = {"anyOf": [{"const": "all"}, _NUMBERS]}


def _alternatives(value: object) -> Alternatives:
    if value == "all":
        return "all"
    if not isinstance(value, list | tuple):
        raise problem(shown(value), "a list of token numbers, or all")
    found = numbered(cast("object", value), what="token", repeats=False)
    if not found:
        raise problem("an empty list", "at least one token", "or `all` for every token of the vocabulary")
    return found


def _positions(value: object) -> object:
    if value == "all":
        return value
    if not isinstance(value, list | tuple) or not value:
        raise problem(shown(cast("object", value)), "a list of alternatives for each position, or all")
    found: list[Alternatives] = []
    for place, entry in enumerate(cast("Sequence[object]", value)):
        try:
            found.append(_alternatives(entry))
        except PydanticCustomError as error:
            context = error.context or {}
            raise problem(context["found"], context["needed"], context["remedy"], place, *context["below"]) from None
    return tuple(found)


Positions: TypeAlias = Annotated[
    Literal["all"] | tuple[Alternatives, ...],
    PlainValidator(_positions),
    WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "array", "items": _ALTERNATIVES, "minItems": 1}]}),
]


class Tokens(Record):
    """Sequences of tokens as one-hot rows: every combination of the `positions`' alternatives (`all`: every token everywhere),
    or the rows of `sequences`.

    With `sum` the input is one row, the sum of its positions' rows. `epsilon` is how far each coordinate may lie off.
    """

    kind: Literal["tokens"] = "tokens"
    positions: Positions | None = None
    sequences: Array | None = None
    sum: bool = False
    epsilon: Tolerance = 0.0

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.positions is None) == (self.sequences is None):
            raise problem("neither of `positions` and `sequences`" if self.positions is None else "both", "one of them")
        return self


Region: TypeAlias = Annotated[
    Annotated[Linf, branch("linf")]
    | Annotated[L2, branch("l2")]
    | Annotated[Box, branch("box")]
    | Annotated[Hull, branch("hull")]
    | Annotated[Tokens, branch("tokens")],
    chosen_by("kind"),
    known("input region", "kind", REGION_KINDS),
]
