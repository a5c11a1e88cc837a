"""Writes the JSON Schemas of `circuit.json` and `spec.yaml`: `python -m specs.schema`.

A schema says what a file may look like; that sites and indices fit each other and the model is checked when it is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast, get_args

from specs.circuit import Circuit
from specs.patching import Patching
from specs.record import Record
from specs.spec import Spec

__all__ = ["FOLDER", "circuit_schema", "spec_schema"]

FOLDER = Path(__file__).parent / "schemas"

Schema = dict[str, Any]


def circuit_schema() -> Schema:
    """JSON Schema of `circuit.json`."""
    return _schema(Circuit, "circuit.json: the components of a model that a circuit keeps")


def spec_schema() -> Schema:
    """JSON Schema of `spec.yaml`."""
    made = _schema(Spec, "spec.yaml: what is claimed of a circuit")
    made["$defs"] = {name: _beside(part, made["$defs"]) for name, part in made["$defs"].items()}
    return made


def _schema(record: type[Record], title: str) -> Schema:
    made = record.model_json_schema()
    for part in (made, *made["$defs"].values()):
        # What tells the branches of a union apart has a default in Python only, where the class says it already.
        for key in ("kind", "metric"):
            if "const" in (said := part.get("properties", {}).get(key, {})):
                said.pop("default", None)
                part["required"] = sorted({*part.get("required", ()), key})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": title}


def _beside(part: Schema, definitions: Schema) -> Schema:
    """A patching whose payload may also stand beside `kind`: either form."""
    kind = part.get("properties", {}).get("kind", {}).get("const")
    beside = _BESIDE.get(kind, ()) if part.get("description") in _SAID else ()
    if not beside:
        return part
    payload = part["properties"][kind]
    forms = [{key: value for key, value in part.items() if key not in ("title", "description")}]
    for branch in payload.get("oneOf", [payload]):
        record: Schema = definitions[branch["$ref"].rpartition("/")[2]] if "$ref" in branch else {}
        if any(key in record.get("properties", {}) for key in beside):
            keys = {"kind": part["properties"]["kind"], **record["properties"]}
            required = sorted({"kind", *record["required"]})
            forms.append({"type": "object", "properties": keys, "required": required, "additionalProperties": False})
    return {"title": part["title"], "description": part["description"], "oneOf": forms}


def _patchings() -> dict[str, tuple[str, tuple[str, ...]]]:
    union = get_args(Patching)[0]
    records = [get_args(member)[0] for member in get_args(union)]
    return {cast("str", record.model_fields["kind"].default): (record.__doc__ or "", record.beside) for record in records}


_BESIDE = {kind: beside for kind, (_, beside) in _patchings().items()}
_SAID = {said for said, _ in _patchings().values()}


def _text(schema: Schema) -> str:
    return json.dumps(schema, indent=2) + "\n"


def texts() -> dict[str, str]:
    """What each file in `FOLDER` should hold."""
    return {"circuit.schema.json": _text(circuit_schema()), "spec.schema.json": _text(spec_schema())}


if __name__ == "__main__":
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
