"""JSON and YAML files read as untrusted text: small documents of plain values, and errors that name the place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias, cast

from specs.errors import InputError

__all__ = ["MAX_BYTES", "MAX_DEPTH", "Value", "jsonpath", "read_bytes", "read_document"]

MAX_BYTES = 64 * 2**20
MAX_DEPTH = 100
MAX_VALUES = 1 << 20
_MAX_INTEGER = 2**63

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")


def jsonpath(parts: Iterable[str | int]) -> str:
    """`$.kept.relu_1[3]`; a key that is no plain word is quoted: `$.kept['/fc/Relu']`."""
    steps: list[str] = []
    for part in parts:
        if isinstance(part, int):
            steps.append(f"[{part}]")
        else:
            steps.append(f".{part}" if _PLAIN_KEY.fullmatch(part) else f"[{part!r}]")
    return "$" + "".join(steps)


def read_bytes(file: str) -> bytes:
    """The content of a file of at most `MAX_BYTES`. Raises: InputError: it cannot be read, or is larger."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(file, "", "no such file", "a file that can be read", "check the path") from None
    except IsADirectoryError:
        raise InputError(file, "", "it is a directory", "a file", "name a file in it") from None
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(file, "", f"it cannot be read ({said})", "a file", "check path and permissions") from None
    if len(content) > MAX_BYTES:
        said = f"at most {MAX_BYTES // 2**20} MiB"
        raise InputError(file, "", "the file is too large", said, "put large arrays into an .npz, named by {file, array}")
    return content


def read_document(file: str, *, nan: bool = False) -> Value:
    """The value that a JSON or YAML file states: JSON where the name ends in `.json`, YAML 1.2 otherwise (JSON is part of it).

    Guarantees: keys are strings, each once; numbers are finite and integers fit 64 bits; at most `MAX_DEPTH` levels
    and `MAX_VALUES` values (a quarter of that in YAML, which is slow to read); no aliases, no tags. With `nan`, for other
    tools' files, JSON may hold NaN and infinities, which Python's own writer writes, and twice as much. Raises:
    InputError: any of it fails, the text is malformed (`line L column C`), or there is no such file.
    """
    content = read_bytes(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        where = f"line {line} column {column}"
        raise InputError(file, where, "bytes that are not UTF-8", "UTF-8 text", "save the file as UTF-8") from None
    if not text.strip():
        raise InputError(file, "", "the file is empty", "a JSON or YAML document")
    suffix = Path(file).suffix.lower()
    # A long JSON document is read as such whatever its name: the YAML reader takes a thousand times as long.
    is_json = suffix == ".json" or (suffix not in (".yaml", ".yml") and text.lstrip().startswith("{"))
    limit = MAX_VALUES // 4 if not is_json else 2 * MAX_VALUES if nan else MAX_VALUES
    if (count := text.count(",") + (0 if is_json else text.count("\n"))) > limit:
        raise InputError(
            file, "", f"{count} values", f"at most {limit}", "put large arrays into an .npz, named by {file, array}"
        )
    try:
        value = _json(file, text, nan) if is_json else _yaml(file, text)
        if not _sound(value, nan):
            _check(file, value, nan)
    except RecursionError:
        raise _too_deep(file) from None
    return cast("Value", value)


def _too_deep(file: str, where: str = "") -> InputError:
    return InputError(file, where, f"nested more than {MAX_DEPTH} levels deep", "a flat document", "")


_PARSER_DEPTH = 500
"""What the JSON parser is given at most. It recurses in C, and Python's own limit, which any library may have raised by now, is
all that keeps it from overflowing the stack."""

_STEP = bytes.maketrans(b"[{]}", b"\1\1\0\0")
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))


def _deeper_than(text: str, limit: int) -> bool:
    """Whether brackets outside of strings are ever nested deeper. In steps that run in C: there may be millions."""
    # Of the text only quotes and brackets are kept; what an even number of quotes is before is outside of strings.
    unescaped = text.encode(errors="replace").replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(unescaped.translate(_STEP, _OTHERS).replace(b'""', b"").split(b'"')[::2])
    return max(accumulate(2 * step - 1 for step in outside), default=0) > limit


@dataclass(frozen=True, slots=True)
class _Refused:
    """Stands in a parsed JSON document where something was that the parser lets pass; the tree then tells the place."""

    found: str
    needed: str
    key: str | None = None


def _json(file: str, text: str, nan: bool) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> object:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    return _Refused(f"key {key!r} stands there twice", "each key once; delete one", key)
                seen.add(key)
        return entries

    def constant(name: str) -> object:
        return float(name) if nan else _Refused(name, "a finite number")

    def integer(digits: str) -> object:
        return int(digits) if len(digits) < 32 else _Refused(f"{digits[:16]}...", "an integer that fits 64 bits")

    if _deeper_than(text, _PARSER_DEPTH):
        raise _too_deep(file)
    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=constant, parse_int=integer)
    except json.JSONDecodeError as error:
        said = error.msg[:1].lower() + error.msg[1:]
        where = f"line {error.lineno} column {error.colno}"
        raise InputError(file, where, f"malformed JSON ({said})", "a JSON document") from None


def _sound(value: object, nan: bool) -> bool:
    """Whether `_check` would find nothing. It keeps no places, and takes a tenth of the time."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for entry in level:
            kind = type(entry)
            if kind is dict:
                inner.extend(cast("dict[str, object]", entry).values())
            elif kind is list:
                inner.extend(cast("list[object]", entry))
            elif kind is float:
                if not nan and not math.isfinite(cast("float", entry)):
                    return False
            elif (kind is int and abs(cast("int", entry)) >= _MAX_INTEGER) or kind is _Refused:
                return False
        if not inner:
            return True
        level = inner
    return False


def _check(file: str, value: object, nan: bool) -> None:
    """Refuse what the parsers let pass, naming the place."""
    todo: list[tuple[object, tuple[str | int, ...]]] = [(value, ())]
    while todo:
        entry, place = todo.pop()
        if len(place) > MAX_DEPTH:
            raise _too_deep(file, jsonpath(place[:3]))
        if isinstance(entry, _Refused):
            where = jsonpath(place if entry.key is None else (*place, entry.key))
            raise InputError(file, where, entry.found, entry.needed)
        if isinstance(entry, dict):
            todo.extend((part, (*place, key)) for key, part in reversed(cast("dict[str, object]", entry).items()))
        elif isinstance(entry, list):
            parts = cast("list[object]", entry)
            todo.extend((parts[i], (*place, i)) for i in range(len(parts) - 1, -1, -1))
        elif isinstance(entry, float) and not math.isfinite(entry) and not nan:
            raise InputError(file, jsonpath(place), str(entry), "a finite number")
        elif isinstance(entry, int) and abs(entry) >= _MAX_INTEGER:
            raise InputError(file, jsonpath(place), f"{str(entry)[:16]}...", "an integer that fits 64 bits")


def _yaml(file: str, text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    # Events, and a tree of our own: YAML's own composer follows aliases, builds tagged objects, and forgets the lines of keys.
    try:
        return _Tree(file).read(cast("Any", YAML(typ="safe", pure=True)).parse(text))
    except MarkedYAMLError as raised:
        error = cast("Any", raised)
        mark = error.problem_mark or error.context_mark
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        where = _place(mark) if mark else ""
        raise InputError(file, where, f"malformed YAML ({said})", "YAML", "check indentation, colons and quotes") from None
    except YAMLError as error:
        raise InputError(file, "", f"malformed YAML ({error})", "a YAML document") from None


def _place(mark: Any) -> str:
    return f"line {mark.line + 1} column {mark.column + 1}"


class _Tree:
    """Plain values from a stream of YAML events."""

    def __init__(self, file: str) -> None:
        self.file = file

    def read(self, events: Iterator[Any]) -> object:
        result: object = None
        documents = 0
        for event in events:
            name = type(event).__name__
            if name == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self.error(event, "a second document", "one document in a file", "delete what follows `---`")
                result = self.value(next(events), events, 0)
        if not documents:
            raise InputError(self.file, "", "the file is empty", "a JSON or YAML document")
        return result

    def error(self, event: Any, found: str, needed: str, remedy: str = "") -> InputError:
        return InputError(self.file, _place(event.start_mark), found, needed, remedy)

    def value(self, event: Any, events: Iterator[Any], depth: int) -> object:
        name = type(event).__name__
        if name == "AliasEvent" or event.anchor is not None:
            raise self.error(event, "an anchor or alias (& or *)", "a document without them", "write the value out")
        tag = event.tag
        if tag is not None and str(tag) != "!":
            raise self.error(event, f"a tag ({tag})", "plain values", "delete the tag")
        if depth > MAX_DEPTH:
            raise _too_deep(self.file, _place(event.start_mark))
        if name == "SequenceStartEvent":
            entries: list[object] = []
            while type(event := next(events)).__name__ != "SequenceEndEvent":
                entries.append(self.value(event, events, depth + 1))
            return entries
        if name == "MappingStartEvent":
            return self.mapping(events, depth)
        return event.value if event.style or not event.implicit[0] else self.scalar(event)

    def mapping(self, events: Iterator[Any], depth: int) -> dict[str, object]:
        entries: dict[str, object] = {}
        while type(event := next(events)).__name__ != "MappingEndEvent":
            key = self.value(event, events, depth + 1)
            if not isinstance(key, str):
                said = f"write '{event.value}'" if type(event).__name__ == "ScalarEvent" else ""
                raise self.error(event, "a key that is not a string", "strings as keys", said)
            if key in entries:
                raise self.error(event, f"key {key!r} stands there twice", "each key once", "delete one")
            entries[key] = self.value(next(events), events, depth + 1)
        return entries

    def scalar(self, event: Any) -> object:
        """A plain scalar by the core schema of YAML 1.2.2, section 10.3."""
        text = cast("str", event.value)
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text[0] in "tT"
        if integer := _INTEGER.fullmatch(text) or _OTHER_BASE.fullmatch(text):
            if len(text) > 32:
                raise self.error(event, f"{text[:16]}...", "an integer that fits 64 bits")
            return int(text, 10 if integer.re is _INTEGER else 0)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _SPECIAL.fullmatch(text):
            return float(text.lstrip("+-").strip(".")) * (-1 if text[0] == "-" else 1)
        return text


_INTEGER = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?\.(inf|Inf|INF))|\.(nan|NaN|NAN)")
