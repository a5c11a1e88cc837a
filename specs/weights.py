"""Named arrays of `.npz` and `.safetensors` files, and of PyTorch state dicts. Nothing is ever unpickled but tensors."""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from specs.errors import InputError

__all__ = ["read_weights"]

_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "BOOL": torch.bool, "U8": torch.uint8}  # fmt: skip
_LONGEST = 100_000_000


def read_weights(path: str, *, file: str, where: str) -> dict[str, Tensor]:
    """All arrays of a file by name, in their own type.

    `.npz`; `.safetensors`; `.pt`, `.pth` and `.bin` as state dicts of tensors (`torch.load(weights_only=True)`). `file` and
    `where` say where the path stands. Cost: the file is held in memory. Raises: InputError: it cannot be read, is of another
    kind, or holds more than tensors.
    """
    suffix = Path(path).suffix.lower()
    try:
        if suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: torch.from_numpy(np.asarray(archive[name])) for name in archive.files}
        if suffix == ".safetensors":
            return _safetensors(Path(path).read_bytes())
        if suffix in (".pt", ".pth", ".bin"):
            return _state(torch.load(path, map_location="cpu", weights_only=True))
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise InputError(file, where, f"{path} cannot be read ({said})", "a file of weights", "check the path") from None
    except pickle.UnpicklingError:
        remedy = "save `module.state_dict()`, or as .safetensors"
        raise InputError(file, where, f"{path} holds more than tensors", "a state dict of tensors", remedy) from None
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error, struct.error) as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(file, where, f"{path} is damaged ({said})", "a file of weights") from None
    raise InputError(file, where, f"{path} is of no kind that is known here", "an .npz, .safetensors or .pt file")


def _safetensors(content: bytes) -> dict[str, Tensor]:
    """Source: the format's own description, https://github.com/huggingface/safetensors (README, "Format")."""
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_LONGEST, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    body, found = memoryview(content)[8 + length :], dict[str, Tensor]()
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        kind, shape, (begin, end) = entry["dtype"], [int(n) for n in entry["shape"]], entry["data_offsets"]
        if kind not in _TYPES:
            raise ValueError(f"{name} has type {kind}")
        size = math.prod(shape) * _TYPES[kind].itemsize
        if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(body) or end - begin != size:
            raise ValueError(f"{name} has {end - begin} bytes, its shape takes {size}")
        flat = torch.frombuffer(bytearray(body[begin:end]), dtype=_TYPES[kind]) if size else torch.empty(0, dtype=_TYPES[kind])
        found[name] = flat.reshape(shape)
    return found


def _state(value: object) -> dict[str, Tensor]:
    """A state dict, or one under the key that trainers put it under."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(value, Mapping) and isinstance(inner := cast("Mapping[str, object]", value).get(key), Mapping):
            value = cast("object", inner)
    if not isinstance(value, Mapping):
        raise ValueError(f"a {type(value).__name__}, no state dict")
    entries = cast("Mapping[object, object]", value)
    return {str(name): entry for name, entry in entries.items() if isinstance(entry, Tensor)}
