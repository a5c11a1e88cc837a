"""Where a circuit and its model agree, nothing says which way they part: what to go after there.

They agree around a point where no ablated component shows, as a dead ReLU patched with zero. The margin is then flat; but the
component's pre-activation is not, and driving that across zero is what makes a difference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.ops.base import Elementwise
from bounds.query import Query
from verify.witness.pool import row_limit

__all__ = ["Probes"]


class Probes:
    """The arguments of the activation functions that a query's gates stand behind, as things to drive across zero.

    Elements of all such gates are numbered one after the other. Cost of making it: one forward pass for each of `x`.
    """

    def __init__(self, query: Query, x: Tensor) -> None:
        """Shapes: `x` `(count, *input_shape)`, points of the region, its centre first."""
        graph = query.graph
        self._query = query
        self._gates = [g for g in query.gates.gates if isinstance(graph.node[g.tensor].op, Elementwise)]
        self._read = [graph.node[gate.tensor].inputs[0] for gate in self._gates]
        if not self._gates:
            return
        with torch.no_grad():
            values = torch.cat([self._values(part) for part in x.split(row_limit(graph))])
        self._side = torch.where(values[0] < 0, -1.0, 1.0).to(values)
        spread = values.std(0, correction=0)
        self._far = (values.abs().amin(0) / spread).nan_to_num(torch.inf, torch.inf)

    def __bool__(self) -> bool:
        return bool(self._gates)

    def choose(self, masks: Tensor, count: int, skip: int) -> Tensor:
        """For each circuit `count` ablated elements, those first that random points bring nearest to zero, past the first
        `skip`; again from the start where there are no more. Shapes: `(circuits, components)` to `(circuits, count)`."""
        kept = self._query.gates.expand(masks)
        far = self._far.masked_fill(torch.cat([kept[gate.tensor].flatten(1) for gate in self._gates], dim=1), torch.inf)
        known = far.isfinite().sum(1, keepdim=True).clamp_min(1)
        turn = (skip + torch.arange(count, device=masks.device)) % known
        return far.argsort(dim=1).gather(1, turn)

    def goal(self, x: Tensor, elements: Tensor) -> Tensor:
        """What to minimise so that an element of each row crosses zero. Shapes: `elements` `(rows,)`, the result too."""
        return self._values(x).gather(1, elements.unsqueeze(1)).squeeze(1) * self._side[elements]

    def _values(self, x: Tensor) -> Tensor:
        found = self._query.graph.evaluate(x, keep=frozenset(self._read))
        return torch.cat([found[name].flatten(1) for name in self._read], dim=1)
