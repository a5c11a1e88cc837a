"""The records of agreement: what `agreement:` of a spec demands of the circuit's output beside the model's."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import PlainValidator, WithJsonSchema, model_validator

from specs.record import Index, Record, Tolerance, branch, chosen_by, known, numbered, problem

__all__ = ["METRICS", "Agreement", "LogitDifference", "Logits", "Norm", "Output", "Top1"]

METRICS = ("logits", "logit_difference", "top1", "output")

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


Agreement: TypeAlias = Annotated[
    Annotated[Logits, branch("logits")]
    | Annotated[LogitDifference, branch("logit_difference")]
    | Annotated[Top1, branch("top1")]
    | Annotated[Output, branch("output")],
    chosen_by("metric"),
    known("metric", "metric", METRICS),
]
