"""Where commands write: made sure of before any work is done; and how a report is delivered."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.codes import INTERRUPTED, NOT_WRITTEN, code_of

if TYPE_CHECKING:
    from verify.report import Report

__all__ = ["check_folder", "check_writable", "deliver", "not_written"]


def not_written(path: str | os.PathLike[str], error: OSError) -> int:
    """Say that a file could not be written. Returns the exit code."""
    print(f"certify: {os.fspath(path)} could not be written ({error.strerror})", file=sys.stderr)
    return NOT_WRITTEN


def deliver(report: Report, out: str | None, as_json: bool, interrupted: bool) -> int:
    """Write the report to `out`, where that is given, and its summary (or all of it) on standard output. Returns the exit
    code."""
    from verify.report import write_report

    code = INTERRUPTED if interrupted else code_of(report)
    if out is not None:
        try:
            write_report(report, out)
        except OSError as error:
            code = not_written(out, error)
    sys.stdout.write(report.text() if as_json else report.summary + "\n")
    sys.stdout.flush()
    return code


def check_folder(path: str, made: tuple[str, ...]) -> Path:
    """A folder to write files named `made` into: none of them is there. Raises: InputError."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise InputError("certify", "--out", f"{folder} is no directory", "a directory")
    if there := [name for name in made if (folder / name).exists()]:
        raise InputError("certify", "--out", f"{folder} holds {there[0]}", "a new directory")
    return folder


_STARTS = {
    "report": (b"{",),
    "figure": (b"\x89PNG", b"%PDF", b"<?xml", b"<svg"),
    "counterexample": (b"sat\n", b"unsat\n", b"unknown\n"),
    "page": (b"<!doctype html>",),
    "model": (),
}
"""How a file of each kind starts; circuits start as reports do. A model is never replaced."""


def check_writable(path: str, where: str, inputs: tuple[str, ...] = (), kind: str = "report") -> None:
    """Make sure that a file can be written there, before any work is done: a report or circuit, or another `kind`, which may
    replace one of the same kind only. Leaves nothing behind.

    Raises: InputError: no such directory, it is a directory or no regular file, one of `inputs`, or no permission.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not path or path.endswith(os.sep) or os.path.isdir(target):
        found = f"{path} is a directory" if path else "an empty path"
        raise InputError("certify", where, found, "a file to write", "name a file in a directory")
    if not os.path.isdir(folder):
        found = "is not a directory" if os.path.exists(folder) else "does not exist"
        raise InputError("certify", where, f"{os.path.dirname(path)} {found}", "an existing directory", "create it first")
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise InputError(
                "certify", where, f"{path} is no regular file", "a file to write", "use --json for standard output"
            )
        if any(os.path.exists(given) and os.path.samefile(given, target) for given in inputs):
            raise InputError("certify", where, f"{path} is read by this run", "another file", "")
        if not _replaceable(target, _STARTS[kind]):
            needed = f"a new file, or an earlier {kind}"
            raise InputError("certify", where, f"{path} exists and is no {kind}", needed, "choose another name")
        if not os.access(target, os.W_OK):
            raise InputError("certify", where, f"{path} is not writable", "a file to write", "change its permissions")
    probe = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(4)}.part")
    try:
        with open(probe, "x"):
            pass
        os.unlink(probe)
    except OSError as error:
        raise InputError("certify", where, f"{path} cannot be written ({error.strerror})", "a file to write", "") from None


def _replaceable(target: str, starts: tuple[bytes, ...]) -> bool:
    """Whether a file is empty, or starts as one of its kind does: models, data and specs are not overwritten by a slip of the
    hand."""
    try:
        with open(target, "rb") as stream:
            start = stream.read(64).lstrip()
    except OSError:
        return False
    return not start or start.startswith(starts)
