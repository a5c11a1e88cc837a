"""Where a model comes from: a file found, hashed and handed to its reader; or code, where that was allowed."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from bounds.ops.base import Shape
from specs.errors import InputError, nearest
from specs.model import Model
from specs.models.onnx_file import parse
from specs.models.onnx_import import read_graph
from specs.models.onnx_runtime import OnnxRuntime

__all__ = ["from_module", "load"]

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin"}


def load(
    path: str, shown: str, where: str, base: Path, sha256: str | None, allow_code: bool, input_shape: Shape | None
) -> Model:
    """As `specs.model.load_model`, without the check of the reading."""
    if _CALLABLE.fullmatch(path):
        return _called(path, shown, where, base, sha256, allow_code, input_shape)
    content = _content(path, shown, where, base)
    digest = hashlib.sha256(content).hexdigest()
    _same_hash(digest, sha256, shown, where, path)
    folder = (base / path).parent
    if Path(path).suffix.lower() == ".onnx":
        return _from_onnx(content, path, digest, folder, input_shape)
    from specs.models import torch_archive, torch_import

    program = torch_archive.load(content, path, allow_code)
    return torch_import.read_program(program, None, path, digest)


def from_module(module: torch.nn.Module, example: Tensor, source: str) -> Model:
    """As `specs.model.model_from_module`, without the check of the reading."""
    from specs.models import torch_import

    return torch_import.read_module(module, example, source)


def _from_onnx(content: bytes, shown: str, digest: str, folder: Path, input_shape: Shape | None) -> Model:
    file = parse(content, shown, folder, input_shape)
    reading = read_graph(file, shown)
    runtime = OnnxRuntime(file.original, file.run, file.input, reading.output)
    return Model(
        reading.graph, runtime, shown, digest, file.dtype, reading.dropped_softmax, reading.operators, tokens=file.tokens
    )


def _content(path: str, shown: str, where: str, base: Path) -> bytes:
    file = base / path
    suffix = file.suffix.lower()
    if suffix in _PICKLES:
        raise InputError(
            shown,
            where,
            f"{path} is a pickle, which can run code when read",
            ".onnx or .pt2 is needed",
            "convert it: torch.export.save(torch.export.export(module.eval(), (example,)), 'model.pt2')",
        )
    if suffix not in (".onnx", ".pt2"):
        raise InputError(shown, where, f"model {path!r}", ".onnx, .pt2 or package.module:callable is needed")
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        known = [p.name for p in file.parent.glob("*") if p.suffix.lower() in (".onnx", ".pt2")] if file.parent.is_dir() else []
        remedy = nearest(file.name, known) if known else "paths are relative to the file that names them"
        raise InputError(shown, where, f"no file {path!r}", "a model is needed", remedy) from error
    except OSError as error:
        raise InputError(
            shown, where, f"model {path!r} cannot be read ({error.strerror})", "a readable file is needed"
        ) from error


def _same_hash(digest: str, stated: str | None, shown: str, where: str, path: str) -> None:
    if stated is not None and digest != stated.strip().lower():
        raise InputError(
            shown,
            where,
            f"{path} has sha256 {digest[:12]}..., {stated[:12]}... is stated",
            "the model that the circuit was found in is needed",
            "restore that file, or correct sha256",
        )


def _called(
    path: str, shown: str, where: str, base: Path, sha256: str | None, allow_code: bool, input_shape: Shape | None
) -> Model:
    if not allow_code:
        raise InputError(
            shown, where, f"{path} is Python code, which would be run", "--allow-code is needed", "give it if you trust it"
        )
    if input_shape is None:
        raise InputError(shown, where, f"{path} states no input shape", "the shape of its input is needed")
    package, _, name = path.partition(":")
    sys.path.insert(0, str(base))
    try:
        made: object = importlib.import_module(package)
        for part in name.split("."):
            made = getattr(made, part)
        module = made if isinstance(made, torch.nn.Module) else made()  # type: ignore[operator]
    except Exception as error:  # whatever that code raises
        raise InputError(
            shown, where, f"{path} fails ({type(error).__name__}: {error})", "it must return an nn.Module"
        ) from error
    finally:
        sys.path.remove(str(base))
    if not isinstance(module, torch.nn.Module):
        raise InputError(shown, where, f"{path} returns {type(module).__name__}", "it must return an nn.Module")
    kind = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    model = from_module(module, torch.zeros(input_shape, dtype=kind), path)
    _same_hash(model.sha256, sha256, shown, where, path)
    return model
