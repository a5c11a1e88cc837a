"""A query as a few lines of text: what a failing example was."""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor

from bounds.graph import Graph
from bounds.ops.base import Op
from bounds.query import Query

__all__ = ["describe"]


def describe(query: Query | Graph, masks: Tensor | None = None) -> str:
    """The program line by line with its numbers, then gates, region, margins and circuits. For `hypothesis.note`."""
    if isinstance(query, Graph):
        return _program(query)
    gates = [f"  {g.tensor}: {g.size} components {_numbers(g.group)}; patch {_record(g.patch)}" for g in query.gates.gates]
    lines = [_program(query.graph), "gates", *gates, f"region {_record(query.region)}", f"margins {_record(query.margins)}"]
    if masks is not None:
        lines.append("circuits " + " ".join("".join("01"[int(keep)] for keep in row) for row in masks.tolist()))
    return "\n".join(lines)


def _program(graph: Graph) -> str:
    lines = [f"{graph.input} {list(graph.input_shape)}"]
    for node in graph.nodes:
        mark = "" if node.site else "  (no site)"
        lines.append(f"{node.name} {list(node.shape)} = {_op(node.op)}({', '.join(node.inputs)}){mark}")
    return "\n".join([*lines, f"output {graph.output}"])


def _op(op: Op) -> str:
    return _record(op)


def _record(value: object) -> str:
    """Type and fields of a dataclass, tensors as nested lists."""
    parts: list[str] = []
    for field in fields(value):  # pyright: ignore[reportArgumentType]
        part = getattr(value, field.name)
        shown = _record(part) if hasattr(part, "__dataclass_fields__") else repr(part)
        shown = _numbers(part) if isinstance(part, Tensor) else shown
        parts.append(f"{field.name}={shown}")
    return f"{type(value).__name__}({', '.join(parts)})"


def _numbers(value: Tensor) -> str:
    return str(value.tolist()).replace(" ", "")
