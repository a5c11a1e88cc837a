"""The records of agreement: what `agreement:` of a spec demands of the circuit's output beside the model's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import PlainValidator, WithJsonSchema, model_validator

from specs.record import Array, Index, Number, Record, Site, Tolerance, branch, chosen_by, known, numbered, problem

__all__ = ["METRICS", "Agreement", "Feature", "LogitDifference", "Logits", "Norm", "Output", "Top1"]

METRICS = ("logits", "logit_difference", "top1", "output", "feature")

Norm: TypeAlias = Literal["linf", "l1", "l2"]


def _outputs(value: object) -> tuple[int, ...]:
    found = numbered(value, what="output", repeats=False)
    if not found:
        raise problem("an empty list", "at least one output")
    return found


Outputs: TypeAlias = Annotated[
    tuple[int, ...],
    PlainValidator(_outputs),
    WithJsonSchema({"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "uniqueItems": True}),
]


class Logits(Record):
    """The norm of the difference, over all outputs or those named, is at most `tolerance`."""

    metric: Literal["logits"] = "logits"
    norm: Norm = "linf"
    tolerance: Tolerance
    outputs: Outputs | None = None


class LogitDifference(Record):
    """Output `target` minus output `against` changes by at most `tolerance`."""

    metric: Literal["logit_difference"] = "logit_difference"
    target: Index
    against: Index
    tolerance: Tolerance

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.target == self.against:
            raise problem(f"output {self.against}, the target itself", "another output than target", "", "against")
        return self


class Top1(Record):
    """The circuit ranks the model's first output first, or at most `tolerance` below its own first."""

    metric: Literal["top1"] = "top1"
    tolerance: Tolerance = 0.0


class Output(Record):
    """Each of the named outputs changes by at most `tolerance`."""

    metric: Literal["output"] = "output"
    outputs: Outputs
    tolerance: Tolerance


def _position(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    return numbered(value if isinstance(value, list | tuple) else [value], what="position")


class Feature(Record):
    """A feature of the circuit's own run, `direction . a` at `site`, is at most `below` and at least `above`, each within
    `tolerance`.

    It lies along the channel axis of a convolution, of other sites along the last axis; `element` is short for a direction of
    one 1. `at` is the position, one index for each other axis but the batch; without it the claim is made of every position.
    A circuit that keeps everything asks about the model itself.
    """

    metric: Literal["feature"]
    site: Site
    direction: Array | None = None
    element: Index | None = None
    at: Annotated[
        tuple[int, ...] | None,
        PlainValidator(_position),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "array", "items": {"type": "integer", "minimum": 0}},
                    {"type": "null"},
                ]
            }
        ),
    ] = None
    below: Number | None = None
    above: Number | None = None
    tolerance: Tolerance = 0.0

    @model_validator(mode="after")
    def _stated(self) -> Self:
        if (self.direction is None) == (self.element is None):
            said = "neither `direction` nor `element`" if self.element is None else "both `direction` and `element`"
            raise problem(said, "one of them")
        if self.below is None and self.above is None:
            raise problem("neither `below` nor `above`", "a threshold", "add `below:` or `above:`")
        if self.below is not None and self.above is not None and self.above > self.below:
            raise problem(f"above {self.above:g} and below {self.below:g}", "a threshold `above` that is not over `below`")
        return self


Agreement: TypeAlias = Annotated[
    Annotated[Logits, branch("logits")]
    | Annotated[LogitDifference, branch("logit_difference")]
    | Annotated[Top1, branch("top1")]
    | Annotated[Output, branch("output")]
    | Annotated[Feature, branch("feature")],
    chosen_by("metric"),
    known("metric", "metric", METRICS),
]
