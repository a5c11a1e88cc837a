"""auto_LiRPA as it can be had: found, mended where today's torch and numpy have moved on, and kept from leaking its settings.

The release on the package index (0.3, 2022) needs five mends; the repository's 0.7 needs none. Nothing here runs when `bounds`
is imported. Two mends stand in for names that are gone and exist only while the library is being imported; the other three
change the library's own classes, never torch's.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from bounds.backends.base import BackendUnavailable

__all__ = ["INSTALL", "Library", "library"]

INSTALL = "pip install --no-deps auto_LiRPA==0.3 && pip install appdirs tqdm"

_found: list[Library] = []


@dataclass(frozen=True, eq=False)
class Library:
    """auto_LiRPA, imported. `take` is our bounded operator for `certify::Take`."""

    version: str
    module: Any
    take: type
    bounds_keyword: str
    """What `compute_bounds` calls bounds of intermediate tensors that are known already."""

    @contextlib.contextmanager
    def working(self, dtype: torch.dtype) -> Generator[None]:
        """Default dtype and exporter settings under which the library is called, put back after; no warnings, no prints."""
        state: Any = _exporter()
        before = torch.get_default_dtype(), state.export_onnx_opset_version, state.autograd_inlining
        torch.set_default_dtype(dtype)
        state.autograd_inlining = False
        try:
            with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            torch.set_default_dtype(before[0])
            state.export_onnx_opset_version, state.autograd_inlining = before[1:]


def library() -> Library:
    """The library, imported once. Raises: BackendUnavailable: it is not installed, or does not import."""
    if not _found:
        with _contained():
            try:
                module = importlib.import_module("auto_LiRPA")
            except ImportError as error:
                for name in [n for n in sys.modules if n.partition(".")[0] == "auto_LiRPA"]:
                    del sys.modules[name]
                raise BackendUnavailable(f"the backend 'lirpa' needs auto_LiRPA ({error}); install it: {INSTALL}") from error
            _mend(module)
            take = _bounded_take(importlib.import_module("auto_LiRPA.bound_ops").Bound)
        accepted = inspect.signature(module.BoundedModule.compute_bounds).parameters
        keyword = next(k for k in ("interm_bounds", "intermediate_layer_bounds") if k in accepted)
        _found.append(Library(str(module.__version__), module, take, keyword))
    return _found[0]


def _exporter() -> Any:
    """Settings of torch's TorchScript exporter, which the library's parser uses."""
    for name in ("torch.onnx._internal.torchscript_exporter._globals", "torch.onnx._globals"):
        with contextlib.suppress(ImportError):
            return importlib.import_module(name).GLOBALS
    raise BackendUnavailable(f"torch {torch.__version__} has no TorchScript exporter, which auto_LiRPA needs")


def _set_opset_version(version: int) -> None:
    _exporter().export_onnx_opset_version = version


def _no_home(*_: Any, **__: Any) -> str:
    return tempfile.gettempdir()


@contextlib.contextmanager
def _contained() -> Generator[None]:
    """Stand-ins for what the import misses; what it changes is put back: warning filters, root log handlers, the JIT's executor
    and mode; its data folder is not made in the user's home."""
    helper: Any = importlib.import_module("torch.onnx.symbolic_helper")
    jit: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    executor, mode = jit._jit_set_profiling_executor(True), jit._jit_set_profiling_mode(True)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stand_ins: dict[str, ModuleType] = {}
    appdirs: Any = importlib.import_module("appdirs") if importlib.util.find_spec("appdirs") else None
    user_data_dir = getattr(appdirs, "user_data_dir", None)
    with warnings.catch_warnings(record=True):
        if importlib.util.find_spec("numpy.lib.arraysetops") is None:
            gone: Any = ModuleType("numpy.lib.arraysetops")
            gone.isin = importlib.import_module("numpy").isin
            stand_ins["numpy.lib.arraysetops"] = gone
        if importlib.util.find_spec("graphviz") is None:
            drawing: Any = ModuleType("graphviz")  # 0.7 draws graphs with it, and needs it for nothing else
            drawing.Digraph = None
            stand_ins["graphviz"] = drawing
        lacking = not hasattr(helper, "_set_opset_version")
        try:
            sys.modules.update(stand_ins)
            if lacking:
                helper._set_opset_version = _set_opset_version
            if appdirs is not None:
                appdirs.user_data_dir = _no_home
            yield
        finally:
            for name in stand_ins:
                sys.modules.pop(name, None)
            if lacking:
                del helper._set_opset_version
            if appdirs is not None:
                appdirs.user_data_dir = user_data_dir
            root.handlers[:], root.level = handlers, level
            jit._jit_set_profiling_executor(executor)
            jit._jit_set_profiling_mode(mode)


class _Subscriptable:
    """A `torch._C.Node` or graph with `node[attribute]`, which torch no longer has."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __getitem__(self, name: str) -> Any:
        return getattr(self.inner, self.inner.kindOf(name))(name)

    def nodes(self) -> list[_Subscriptable]:
        return [_Subscriptable(node) for node in self.inner.nodes()]


def _mend(module: Any) -> None:
    """The three mends of 0.3's own code. Newer versions lack what they look for."""
    bounded = module.BoundedModule
    if "torch._six" in inspect.getsource(bounded):
        del bounded.register_parameter
        original = bounded._named_members

        def named_members(self: Any, get: Any, prefix: str = "", recurse: bool = True, **_: Any) -> Any:
            return original(self, get, prefix, recurse)

        bounded._named_members = named_members
    parser: Any = importlib.import_module("auto_LiRPA.parse_graph")
    if not hasattr(torch._C.Node, "__getitem__") and "n[k]" in inspect.getsource(parser.parse_graph):  # pyright: ignore
        parse = parser.parse_graph

        def parse_graph(graph: Any, inputs: Any, params: Any) -> Any:
            return parse(_Subscriptable(graph), inputs, params)

        parser.parse_graph = parse_graph


def _bounded_take(base: Any) -> type:
    """A bounded operator for `bounds.ops.Take` on rows. The library's own Gather is unsound where an index repeats (0.3)."""

    class BoundTake(base):  # pyright: ignore[reportUntypedBaseClass]
        def forward(self, x: Tensor, index: Tensor) -> Tensor:
            return taken(x, index)

        def interval_propagate(self, *v: Any) -> tuple[Tensor, Tensor]:
            lower, upper = v[0][0], v[0][1]
            if lower is upper:
                raise NotImplementedError("Take has no interval rule for L2 balls")
            return taken(lower, v[1][0]), taken(upper, v[1][0])

        def bound_backward(self, last_lA: Any, last_uA: Any, *x: Any, **_: Any) -> Any:
            index, width = x[1].forward_value, x[0].output_shape[1]
            present = index >= 0

            def back(a: Tensor | None) -> Tensor | None:
                if a is None:
                    return None
                return a.new_zeros(*a.shape[:2], width).index_add(2, index[present], a[:, :, present])

            return [(back(last_lA), back(last_uA)), (None, None)], 0, 0

    return BoundTake


def taken(x: Tensor, index: Tensor) -> Tensor:
    """`x[:, index]`, zero where the index is -1."""
    return torch.where(index >= 0, x.index_select(1, index.clamp_min(0)), 0.0)
