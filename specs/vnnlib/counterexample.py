"""A counterexample as text, in the form that VNN-COMP asks for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from specs.models.runtime import Array
from specs.vnnlib.networks import Network
from specs.vnnlib.question import Question

__all__ = ["counterexample"]


def counterexample(question: Question, inputs: Array) -> str:
    """`((X_0 0.5) ... (Y_0 1.25) ...)`, a pair a line, inputs before outputs; tensors of version 2.0 as `X[0,1]`.

    Numbers are decimals that read back as those that the networks took and gave. Shapes: `inputs` `(coordinates,)`.
    """
    rows: list[str] = []
    networks = question.networks
    for network, columns in zip(networks.networks, networks.columns, strict=True):
        x = inputs[columns.numpy()]
        y = network.model.runtime.outputs(x)
        for name, array in ((network.input, x), (network.output, y)):
            rows.extend(_rows(question, network, name, array))
    return "(" + "\n ".join(rows) + ")\n"


def _rows(question: Question, network: Network, name: str, array: Array) -> Iterator[str]:
    graph = network.model.graph
    shape = graph.input_shape if name == network.input else graph.shape(graph.output)
    for i, value in enumerate(array.reshape(-1)):
        at = f"{name}_{i}" if question.flat else f"{name}[{','.join(map(str, np.unravel_index(i, shape)))}]" if shape else name
        yield f"({at} {np.format_float_positional(value, unique=True, trim='0')})"
