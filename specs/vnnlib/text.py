"""VNN-LIB files: text to the `vnnlib` package's syntax tree, after what that parser cannot bear is refused.

The package reads version 2.0. Version 1.0 is rewritten into it, symbol by symbol, lines kept: `X_3` becomes `X[3]`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import vnnlib

from specs.document import read_bytes
from specs.errors import InputError

__all__ = ["MAX_DEPTH", "Text", "read_text"]

MAX_DEPTH = 200
"""The package's parser recurses in C++, and crashes at some tens of thousands of levels."""

_LONGEST = 400
"""Characters of a number, and the size of its exponent."""

_TOKEN = re.compile(r';[^\n]*|"[^"]*"?|[()]|[^\s();"]+')
_DECLARED = re.compile(r"\(\s*(?:declare-const\s+([^\s()]+)\s+Real|declare-fun\s+([^\s()]+)\s*\(\s*\)\s*Real)\s*\)")
_SYMBOL = re.compile(r"([XY])_(\d{1,9})")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,6})?")


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A parsed query. `flat` says that it is of version 1.0: one network `N` whose input `X` and output `Y` are numbered in
    row-major order, whatever their shape."""

    file: str
    query: Any
    flat: bool


def read_text(file: str) -> Text:
    """Parse a file. Raises: InputError: not VNN-LIB 1.0 or 2.0, nested too deep, numbers too long."""
    try:
        text = read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(file, "", "bytes that are not UTF-8", "a VNN-LIB file", "save it as UTF-8 text") from None
    _check(file, text)
    version = re.search(r"\(\s*vnnlib-version\s*<([^>\n]*)>", re.sub(r";[^\n]*", "", text))
    if version is not None and version.group(1).strip() != "2.0":
        said = f"VNN-LIB version {version.group(1)[:20]!r}"
        raise InputError(file, "", said, "version 2.0, or 1.0, which states none", "")
    flat = version is None
    source = _rewritten(file, text) if flat else text
    try:
        return Text(file, vnnlib.parse_query_string(source), flat)
    except vnnlib.VNNLibException as error:
        raise _refused(file, str(error)) from None
    except (RuntimeError, ValueError, IndexError, OverflowError, TypeError) as error:
        raise InputError(file, "", f"the vnnlib parser fails on it ({error})", "VNN-LIB 1.0 or 2.0") from None


def _check(file: str, text: str) -> None:
    """Raises: InputError: no parser should be given this text."""
    if "\0" in text:
        raise InputError(file, "", "a zero byte", "VNN-LIB text")
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "(":
            depth += 1
            if depth > MAX_DEPTH:
                said = f"nested more than {MAX_DEPTH} levels deep"
                raise InputError(file, _line(text, match.start()), said, "a flat formula", "")
        elif token == ")":
            depth -= 1
        elif token[0] not in ';"' and len(token) > _LONGEST:
            said = f"a word of {len(token)} characters"
            raise InputError(file, _line(text, match.start()), said, f"at most {_LONGEST}")
        if depth < 0:
            raise InputError(file, _line(text, match.start()), "a `)` too many", "balanced brackets")
    if depth:
        raise InputError(file, "", f"{depth} brackets left open", "balanced brackets", "the file may be cut short")


def _line(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}"


def _rewritten(file: str, text: str) -> str:
    """Version 1.0 as version 2.0, on the same lines."""
    declared: dict[str, set[int]] = {"X": set(), "Y": set()}

    def declare(match: re.Match[str]) -> str:
        name = match.group(1) or match.group(2)
        known = _SYMBOL.fullmatch(name)
        if known is None:
            raise InputError(
                file, _line(text, match.start()), f"variable {name}", "X_0, X_1, ... for inputs and Y_0, Y_1, ... for outputs"
            )
        declared[known.group(1)].add(int(known.group(2)))
        return "\n" * match.group().count("\n")

    def rewrite(match: re.Match[str]) -> str:
        token = match.group()
        if known := _SYMBOL.fullmatch(token):
            return f"{known.group(1)}[{int(known.group(2))}]"
        return _plain(token) if _NUMBER.fullmatch(token) else token

    # Comments first, lengths kept: what they say must not be taken for declarations.
    bare = re.sub(r";[^\n]*", lambda match: " " * len(match.group()), text)
    body = _TOKEN.sub(rewrite, _DECLARED.sub(declare, bare))
    sizes: list[int] = []
    for letter, numbers in declared.items():
        if not numbers or max(numbers) != len(numbers) - 1:
            found = f"{len(numbers)} variables {letter}_i" + (f", up to {letter}_{max(numbers)}" if numbers else "")
            raise InputError(file, "", found, f"declarations of {letter}_0, {letter}_1, ... without gaps", "VNN-LIB 1.0 or 2.0")
        sizes.append(len(numbers))
    head = "(vnnlib-version <2.0>) (declare-network N (declare-input X float32 [{}]) (declare-output Y float32 [{}])) "
    return head.format(*sizes) + body


def _plain(token: str) -> str:
    """A number as the package wants it: with a point, without exponent. The same value, unless that is absurdly large or small;
    then a word that is no number, which the parser names."""
    value = Decimal(token)
    exponent = int(value.as_tuple().exponent)
    if abs(exponent) > _LONGEST or abs(value.adjusted()) > _LONGEST:
        return token
    said = format(value, "f")
    return said if "." in said else f"{said}.0"


def _refused(file: str, said: str) -> InputError:
    """The package's complaint in one line."""
    try:
        first = json.loads(said)["errors"][0]
        where, found = f"line {first['line']}", f"{first['message']}: {first['offendingSymbol']}"
        return InputError(file, where, found[:300], str(first.get("hint", ""))[:300])
    except (ValueError, KeyError, IndexError, TypeError):
        return InputError(file, "", " ".join(said.split())[:300], "VNN-LIB 1.0 or 2.0")
