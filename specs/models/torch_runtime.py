"""PyTorch modules and exported programs, run by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.fx.node import Argument, Target

from specs.models.onnx_tokens import numbered
from specs.models.runtime import NOTHING, Array, Intervention, Runtime

__all__ = ["TorchRuntime"]


class TorchRuntime(Runtime):
    """`forward` is the user's own model; interventions, and outputs before a dropped softmax, run its exported graph."""

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor] | None,
        program: fx.GraphModule,
        output: str,
        dtype: torch.dtype,
        tokens: bool = False,
    ) -> None:
        """`program` is functional, and its nodes have the graph's names; `output` is the node that counts as the output. With
        `forward` None, the program gives the outputs. With `tokens` both take the numbers of one-hot rows."""
        self._forward, self._program, self._output, self._dtype = forward, program, output, dtype
        self._tokens = tokens

    def outputs(self, x: Array) -> Array:
        if self._forward is None:
            return self.intervened(x, NOTHING)
        with torch.no_grad():
            return self._forward(self._input(x)).numpy()

    def intervened(self, x: Array, under: Intervention) -> Array:
        return self._run(x, under)[self._output].numpy()

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        values = self._run(x, under)
        return {site: values[site].numpy() for site in sites}

    def values(self, x: Array) -> dict[str, Tensor]:
        """Every tensor that the program computes for one input."""
        return self._run(x, NOTHING)

    def _run(self, x: Array, under: Intervention) -> dict[str, Tensor]:
        masks = {name: torch.as_tensor(value) for name, value in under.kept.items()}
        values = {name: self._tensor(under.patch[name]) for name in under.kept}
        with torch.no_grad():
            run = _Interpreter(self._program, masks, values)
            run.run(self._input(x))
        return run.seen

    def _input(self, x: Array) -> Tensor:
        return torch.as_tensor(numbered(x, np.int64)) if self._tokens else self._tensor(x)

    def _tensor(self, value: Array) -> Tensor:
        return torch.as_tensor(value).to(self._dtype)


class _Interpreter(fx.Interpreter):
    def __init__(self, program: fx.GraphModule, masks: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
        super().__init__(program)
        self._masks, self._values = masks, values
        self.seen: dict[str, Tensor] = {}

    def call_function(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> Any:
        # Attention's kernels and patched values lay numbers out otherwise than the exporter saw, so that a view may not fit.
        viewed = target is torch.ops.aten.view.default
        return super().call_function(torch.ops.aten.reshape.default if viewed else target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and isinstance(result, Tensor):
            self.seen[n.name] = result
        if n.name in self._masks:
            return torch.where(self._masks[n.name], result, self._values[n.name].to(result.dtype))
        return result
