"""`.pt2` files, read without running anything that they hold.

`torch.export.load` (2.13) unpickles weights and constants marked `use_pickle`, custom objects, and example inputs that are more
than tensors; it runs `guards_code` and shape expressions as Python, loads compiled libraries, and names go into generated code.
So without `--allow-code` a file is taken apart here, every part is held against what a plain program needs, and only what
passed is written into a new archive for torch to read.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from typing import Any, NoReturn, cast

import torch
from torch.export import ExportedProgram

from specs.errors import InputError

__all__ = ["load"]

_WORD = re.compile(r"[\w.+]*")
_TARGET = re.compile(r"torch\.ops\.aten\.\w+\.\w+|_operator\.(getitem|add|sub|mul|floordiv)")
_SIZE = re.compile(r"[su]?\d+|Symbol\('[su]\d+'(, (positive|nonnegative|integer)=True)*\)")
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_CARRIED = re.compile(r"\.data/(version|serialization_id)|byteorder|archive_format|archive_version")
_TREE_TYPES = {None, "builtins.tuple", "builtins.list", "builtins.dict"}
_FORBIDDEN = {"as_operator", "as_custom_obj", "as_graph", "as_opaque_obj"}


def load(content: bytes, shown: str, allow_code: bool) -> ExportedProgram:
    """Read an exported program.

    Raises: InputError: not such a file; or it holds more than tensors and ATen operators and `allow_code` is False.
    """
    plain = content if allow_code else _plain(content, shown)
    from specs.models.torch_import import quiet

    try:
        with quiet():
            return torch.export.load(io.BytesIO(plain))
    except Exception as error:  # torch's reader raises many kinds
        said = " ".join(str(error).split())[:160]
        raise InputError(
            shown,
            "",
            f"torch.export.load fails ({type(error).__name__}: {said})",
            "a file of torch.export.save is needed",
            f"write it with torch {torch.__version__}",
        ) from error


def _plain(content: bytes, shown: str) -> bytes:
    """An archive of only those parts that are known to be data."""
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise InputError(shown, "", f"not a .pt2 file ({error})", "a file of torch.export.save is needed") from error
    if parts.get("archive_format") != b"pt2" or "models/model.json" not in parts:
        raise InputError(
            shown, "", "not a .pt2 file of torch 2.9 or later", "a file of torch.export.save is needed", "export it again"
        )
    buffer = io.BytesIO()
    with PT2ArchiveWriter(cast("Any", buffer)) as writer:
        for name, part in parts.items():
            if _CARRIED.fullmatch(name) and not name.startswith(".data/") and name != "byteorder":
                writer.write_bytes(name, part)
        writer.write_bytes("models/model.json", json.dumps(_program(_json(parts, "models/model.json", shown), shown)).encode())
        for kind in ("weights", "constants"):
            config_name = f"data/{kind}/model_{kind}_config.json"
            config = _json(parts, config_name, shown)
            for path in _payload(config, shown):
                if (place := f"data/{kind}/{path}") not in parts:
                    raise InputError(shown, "", f"part {place} is missing", "a complete file is needed", "export it again")
                writer.write_bytes(place, parts[place])
            writer.write_bytes(config_name, json.dumps(config).encode())
        writer.write_bytes("data/sample_inputs/model.pt", _examples(parts.get("data/sample_inputs/model.pt", b""), shown))
    return buffer.getvalue()


def _json(parts: dict[str, bytes], name: str, shown: str) -> Any:
    try:
        return json.loads(parts[name])
    except (KeyError, ValueError, RecursionError) as error:
        raise InputError(
            shown, "", f"part {name} is missing or broken", "a file of torch.export.save is needed", "export it again"
        ) from error


def _refuse(shown: str, what: str) -> NoReturn:
    raise InputError(
        shown,
        "",
        f"{what}, which torch may run as code when it reads the file",
        "--allow-code is needed",
        "give it if you trust the file, or export a plain model to .onnx",
    )


def _examples(part: bytes, shown: str) -> bytes:
    if part:
        try:
            torch.load(io.BytesIO(part), weights_only=True)
        except Exception:  # pickle's own errors included
            _refuse(shown, "its example inputs hold more than tensors")
    return part


def _payload(config: Any, shown: str) -> list[str]:
    """The parts that hold tensors, none of them a pickle."""
    found: dict[str, None] = {}
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        _refuse(shown, "it holds a list of weights of another form")
    _words(config, shown, "weights")
    for name, entry in cast("dict[str, Any]", entries).items():
        if not isinstance(entry, dict):
            _refuse(shown, f"weight {name!r} has another form")
        entry = cast("dict[str, Any]", entry)
        if entry.get("use_pickle") is not False or not _PAYLOAD.fullmatch(str(entry.get("path_name"))):
            _refuse(shown, f"{name!r} is a pickle")
        found[str(entry["path_name"])] = None
    return list(found)


def _program(program: Any, shown: str) -> Any:
    """The program without guards and metadata. Raises: InputError: anything but ATen operators on tensors and numbers."""
    if not isinstance(program, dict) or not isinstance(program.get("graph_module"), dict):
        _refuse(shown, "its program has another form")
    program = cast("dict[str, Any]", program)
    module = cast("dict[str, Any]", program["graph_module"])
    program["guards_code"] = []
    module["metadata"], module["treespec_namedtuple_fields"] = {}, {}
    module["module_call_graph"] = [call for call in module.get("module_call_graph", []) if call.get("fqn") == ""]
    for call in module["module_call_graph"]:
        signature = call.get("signature") or {}
        for key in ("in_spec", "out_spec"):
            _tree(signature.get(key), shown)
    for node in module.get("graph", {}).get("nodes", []):
        node["metadata"] = {}
        if not _TARGET.fullmatch(str(node.get("target"))):
            _refuse(shown, f"it calls {str(node.get('target'))[:60]!r}")
    _words(program, shown, "program")
    return program


def _tree(spec: Any, shown: str) -> None:
    """A pytree of tuples, lists and dicts."""
    try:
        _, tree = json.loads(spec)
        stack = [tree]
        while stack:
            part = stack.pop()
            context = part["context"]
            keys = json.loads(context) if isinstance(context, str) else context
            if part["type"] not in _TREE_TYPES or not (keys is None or all(isinstance(key, str) for key in list(keys))):
                _refuse(shown, f"its inputs or outputs are of type {part['type']!r}")
            if isinstance(keys, dict):
                _refuse(shown, "its inputs or outputs are of a type of their own")
            stack += part["children_spec"]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            shown, "", "its inputs and outputs are not described", "a file of torch.export.save is needed"
        ) from error


def _words(value: Any, shown: str, where: str, key: str = "") -> None:
    """Every string is a plain word; nothing is an object, an operator or an expression."""
    stack: list[tuple[str, Any]] = [(key, value)]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            for name, inner in cast("dict[str, Any]", value).items():
                if name in _FORBIDDEN and inner is not None:
                    _refuse(shown, f"its {where} holds {name!r}")
                stack += [("", name), (name, inner)]
        elif isinstance(value, list):
            stack += [(key, inner) for inner in cast("list[Any]", value)]
        elif isinstance(value, str) and key not in ("in_spec", "out_spec"):
            pattern = _SIZE if key == "expr_str" else _WORD
            if not pattern.fullmatch(value):
                _refuse(shown, f"its {where} holds {value[:40]!r}")
