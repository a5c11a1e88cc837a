"""Where exported files go: made sure of first, written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path

from specs.errors import InputError

__all__ = ["require_room", "write_all"]


def require_room(folder: Path, paths: Collection[Path], force: bool, inputs: Collection[str | os.PathLike[str]]) -> None:
    """Raises: InputError: files of these paths cannot be made in `folder`, or would replace others without `force`, or one of
    `inputs`."""
    if folder.exists() and not folder.is_dir():
        raise InputError("certify", "--out", f"{folder} is no directory", "a directory", "choose another name")
    if not folder.parent.is_dir():
        raise InputError("certify", "--out", f"{folder.parent} is no directory", "an existing directory", "create it first")
    for path in paths:
        if not os.path.lexists(path):
            continue
        if not force:
            raise InputError("certify", "--out", f"{path} exists", "a new file", "say --force to replace it")
        if path.is_dir():
            raise InputError("certify", "--out", f"{path} is a directory", "a file to replace", "choose another directory")
        if any(os.path.exists(given) and os.path.samefile(given, path) for given in inputs if path.exists()):
            raise InputError("certify", "--out", f"{path} is read by this run", "another file", "choose another directory")


def write_all(folder: Path, files: Mapping[Path, bytes]) -> None:
    """Write files into `folder`, made if need be: to new files beside them, then renamed, so that there is never half a file.
    Raises: InputError: they cannot be written."""
    beside = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.part") for path in files}
    try:
        folder.mkdir(exist_ok=True)
        for path, content in files.items():
            with open(beside[path], "xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for path, part in beside.items():
            os.replace(part, path)
    except BaseException as error:
        for part in beside.values():
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            said = f"{folder} cannot be written ({error.strerror})"
            raise InputError("certify", "--out", said, "a directory to write") from None
        raise
