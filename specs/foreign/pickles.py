"""Pickles and torch archives from strangers: read without running anything that they hold, in memory bounded by their size."""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

from specs.document import read_bytes
from specs.errors import InputError

__all__ = ["MAX_ELEMENTS", "read_archive", "read_pickle", "rows"]

MAX_ELEMENTS = 1 << 24
"""Elements of one tensor: more than any table of edges has, and a tensor of few bytes may claim any number of them."""

_REFUSED = {"INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8", "PERSID"}
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}

_TENSORS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"}


def read_pickle(file: str, known: Mapping[tuple[str, str], Callable[..., object]]) -> Any:
    """The value of a pickle file. `known` gives what stands for each name that may occur; nothing else is looked up.

    Guarantees: calls only what is in `known`; memory in proportion to the file's size.
    Raises: InputError: it names anything else, or is no pickle.
    """
    content = read_bytes(file)
    _scan(content, file)

    class Restricted(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in known:
                raise _named(file, f"{module}.{name}")
            return known[module, name]

        def persistent_load(self, pid: Any) -> Any:
            raise _named(file, "an object outside of it")

    try:
        return Restricted(io.BytesIO(content)).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises any kind
        raise InputError(file, "", f"a damaged pickle ({type(error).__name__}: {error})", "a complete file") from None


def read_archive(file: str) -> Any:
    """The value of a file of `torch.save`: tensors, numbers, text, lists and dictionaries.

    Guarantees: runs nothing of the file (names are checked before, and torch reads it with `weights_only`); parts of the
    archive are stored as they are and take no more than the file. Raises: InputError: anything else is in it.
    """
    content = read_bytes(file)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise InputError(
                    file, "", "an archive with compressed parts", "a file of torch.save, which stores them plainly"
                )
            if sum(part.file_size for part in parts) > len(content):
                raise InputError(file, "", "an archive whose parts overlap", "a file of torch.save")
            for part in parts:
                if part.filename.endswith(".pkl"):
                    _scan(archive.read(part), file, _TENSORS)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError, ValueError, EOFError, KeyError) as error:
        said = f"not an archive of torch.save ({error})"
        raise InputError(file, "", said, "torch 1.6 or later writes one", "load and save it again") from None
    import torch

    try:
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception as error:  # torch's reader raises many kinds
        said = " ".join(str(error).split())[:160]
        raise InputError(file, "", f"torch.load fails ({type(error).__name__}: {said})", "a file of torch.save") from None


def rows(value: Any, file: str, where: str, axes: int | None = None) -> Any:
    """A tensor as nested lists. Raises: InputError: no tensor, too large a one, or not of so many axes."""
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        raise InputError(file, where, f"a {type(value).__name__}", "a tensor")
    if value.numel() > MAX_ELEMENTS:
        raise InputError(file, where, f"a tensor of {value.numel()} elements", f"at most {MAX_ELEMENTS}")
    if axes is not None and value.dim() != axes:
        raise InputError(file, where, f"a tensor of shape {list(value.shape)}", f"one of {axes} axes")
    return value.detach().tolist()


def _scan(content: bytes, file: str, names: set[str] | None = None) -> None:
    """Refuse a pickle that would make the reader allocate more than it holds, or, given `names`, that names anything else."""
    seen = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            seen += 1
            if opcode.name in _REFUSED:
                raise _named(file, f"opcode {opcode.name}")
            # The reader makes room for as many entries as the largest number says.
            if opcode.name in _MEMO and int(argument or 0) > len(content):
                raise InputError(file, "", f"a pickle with memo entry {argument}", "a pickle that Python wrote")
            if names is None:
                continue
            if opcode.name == "STACK_GLOBAL":
                raise _named(file, "a name that it makes up")
            if opcode.name == "GLOBAL":
                said = str(argument)
                if said not in names and not (said.startswith("torch ") and said.endswith("Storage")):
                    raise _named(file, said.replace(" ", "."))
    except ValueError as error:
        raise InputError(file, "", f"not a pickle ({error})", "a complete pickle file") from None


def _named(file: str, name: str) -> InputError:
    return InputError(
        file, "", f"a pickle that holds {name}, which may run code", "plain values of this format", "nothing was loaded"
    )
