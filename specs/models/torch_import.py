"""PyTorch modules and exported programs to graphs, through PyTorch's own ONNX exporter and our ONNX reader."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.export import ExportedProgram

from bounds.graph import Graph, Node
from specs.errors import InputError
from specs.model import Model
from specs.models.onnx_file import parse
from specs.models.onnx_import import read_graph
from specs.models.torch_runtime import TorchRuntime

__all__ = ["quiet", "read_module", "read_program"]


def read_module(module: torch.nn.Module, example: Tensor, shown: str) -> Model:
    """Export a module on one example input. A module in training mode is copied and put in evaluation mode.

    Raises: InputError: it cannot be exported, or holds what is not supported.
    """
    if any(part.training for part in module.modules()):
        module = copy.deepcopy(module).eval()
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(name.encode() + b"\0")
        if isinstance(value, Tensor):
            flat = value.detach().cpu().contiguous().flatten()
            digest.update(f"{value.dtype} {list(value.shape)}\0".encode() + bytes(flat.view(torch.uint8).numpy()))
    with quiet():
        try:
            program = torch.export.export(module, (example,))
        except Exception as error:  # the exporter's errors have no common class
            raise InputError(
                shown,
                "",
                f"torch.export fails at an input of shape {list(example.shape)} ({_short(error)})",
                "a module that torch.export takes is needed",
            ) from error
    return read_program(program, cast("Callable[[Tensor], Tensor]", module), shown, digest.hexdigest())


def read_program(program: ExportedProgram, forward: Callable[[Tensor], Tensor] | None, shown: str, sha256: str) -> Model:
    """Read an exported program with one input. Sites are named as its nodes are, after in-place operations are written as
    functions (`relu_` becomes `relu`). Outputs are computed by `forward`, or by the program itself.

    Raises: InputError: it holds what is not supported.
    """
    with quiet():
        try:
            functional = _at_one(program, shown).run_decompositions({})
            written = torch.onnx.export(functional, dynamo=True, optimize=False, verbose=False)
        except InputError:
            raise
        except Exception as error:
            said = f"the ONNX exporter fails ({_short(error)})"
            raise InputError(shown, "", said, "a module of supported operators is needed") from error
        runnable = functional.module(check_guards=False)
    assert written is not None
    file = parse(written.model_proto.SerializeToString(), shown)
    reading = read_graph(file, shown)
    own = None if reading.dropped_softmax else forward
    runtime = TorchRuntime(own, runnable, reading.output, file.dtype, file.tokens)
    graph = _known(reading.graph, runtime, shown, file.tokens)
    return Model(graph, runtime, shown, sha256, file.dtype, reading.dropped_softmax, reading.operators, tokens=file.tokens)


def _at_one(program: ExportedProgram, shown: str) -> ExportedProgram:
    """The program at batch size one: an open first dimension is the batch."""
    names = set(program.graph_signature.user_inputs)
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        raise InputError(shown, "", f"{len(inputs)} inputs", "a model with one input tensor is needed")
    sizes: list[object] = list(inputs[0].shape)
    stated = [size if isinstance(size, int) else None for size in sizes]
    if None not in stated:
        return program
    if None in stated[1:]:
        said = "only its first dimension, the batch, may be open"
        raise InputError(shown, "", f"input shape {sizes}", said, "export it again")
    example = torch.zeros([1 if size is None else size for size in stated], dtype=inputs[0].dtype)
    return torch.export.export(program.module(check_guards=False), (example,))


def _known(graph: Graph, runtime: TorchRuntime, shown: str, tokens: bool) -> Graph:
    """The graph with those tensors as sites that the program has under the same name.

    The exporter rewrites the program once more and may number nodes anew, so names alone prove nothing: values are compared.
    """
    random = torch.Generator().manual_seed(0)
    x = torch.rand((1, *graph.input_shape), generator=random, dtype=torch.float64)
    x = torch.nn.functional.one_hot(x.argmax(-1), x.shape[-1]).double() if tokens else x
    values = runtime.values(x[0].numpy())
    if graph.output not in values:
        raise InputError(shown, "", f"the exporter calls the output {graph.output!r}", "a program with one output is needed")
    found = graph.evaluate(x, keep=frozenset(node.name for node in graph.nodes))

    def same(node: Node) -> bool:
        own = values.get(node.name)
        if own is None or tuple(own.shape) != node.shape:
            return False
        slack = 1e-5 * float(own.abs().max())
        return bool(torch.allclose(own.double(), found[node.name][0], rtol=1e-3, atol=slack))

    return replace(graph, nodes=tuple(replace(node, site=node.site and same(node)) for node in graph.nodes))


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160] if lines else ''}"


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Without the warnings of torch's exporter and reader; what fails is an exception all the same."""
    logger = logging.getLogger("torch")
    before: Any = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
