"""Files written whole or not at all, and circuits as files."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

from specs.circuit import Circuit

__all__ = ["circuit_text", "write_circuit", "write_whole"]


def write_whole(text: str | bytes, path: str | os.PathLike[str]) -> None:
    """Write a file: to a new one beside it, then renamed, so that there is never half of it. Raises: OSError."""
    target = os.path.realpath(path)
    folder, name = os.path.split(target)
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.part")
    try:
        with open(beside, "xb") as stream:
            stream.write(text if isinstance(text, bytes) else text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, target)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise


def circuit_text(circuit: Circuit, folder: str | os.PathLike[str]) -> str:
    """`circuit.json`, a line a key and site. Paths count from `folder`, where the file is to be."""
    entries = circuit.model_dump(mode="json", exclude_none=True)
    if not circuit.model.is_code:
        entries["model"]["path"] = _beside(circuit.model.path, folder)
    for splice in entries["model"].get("splice", {}).values():
        splice["file"] = _beside(splice["file"], folder)
    lines: list[str] = []
    for key, value in entries.items():
        said = json.dumps(value, allow_nan=False)
        if key in ("scope", "kept") and value:
            rows = (f"    {json.dumps(site)}: {json.dumps(entry)}" for site, entry in value.items())
            said = "{\n" + ",\n".join(rows) + "\n  }"
        lines.append(f"  {json.dumps(key)}: {said}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _beside(path: str, folder: str | os.PathLike[str]) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()


def write_circuit(circuit: Circuit, path: str | os.PathLike[str]) -> None:
    """Write a `circuit.json` that reads back as the same circuit of the same model. Raises: OSError."""
    write_whole(circuit_text(circuit, os.path.dirname(os.path.realpath(path))), path)
