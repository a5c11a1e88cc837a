"""The question a backend is asked: is every margin non-negative on the region?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.graph import Graph
from bounds.region import Region

__all__ = ["Bound", "Clauses", "Margins", "Norm", "Query"]


@dataclass(frozen=True, eq=False)
class Margins(ABC):
    """Linear forms of the two outputs, and how their lower bounds combine into one margin.

    Form `m` is `circuit[m].f_C + model[m].f_G + offset[m]`. Shapes: `circuit`, `model` `(forms, *output_shape)`; `offset`
    `(forms,)`. The claim holds at a point where `combine` of the forms is non-negative; `combine` is monotone in each form, so
    lower bounds of the forms give a lower bound of the margin.
    """

    circuit: Tensor
    model: Tensor
    offset: Tensor

    @property
    def common(self) -> Tensor:
        """`circuit + model`: what a form is in `f_G` once `f_C` is written as `f_G + (f_C - f_G)`. Exact.

        Raises: ValueError: the sum of two coefficients is not a float.
        """
        a, b = self.circuit, self.model
        total = a + b
        back = total - a
        if bool((((a - (total - back)) + (b - back)) != 0).any()):
            raise ValueError("coefficients of the circuit's and the model's output add up to no float: scale the forms")
        return total

    @abstractmethod
    def combine(self, forms: Tensor) -> Tensor:
        """Margin from forms, rounded down. Shapes: `(..., forms)` to `(...)`. Monotone, differentiable almost everywhere."""

    def forms(self, circuit_output: Tensor, model_output: Tensor) -> Tensor:
        """The forms at points. Shapes: `(batch, *output_shape)` each to `(batch, forms)`."""
        c = circuit_output.flatten(1) @ self.circuit.flatten(1).T
        return c + model_output.flatten(1) @ self.model.flatten(1).T + self.offset

    def at(self, circuit_output: Tensor, model_output: Tensor) -> Tensor:
        """The margin at points: negative where the claim is violated. Shape: `(batch,)`."""
        return self.combine(self.forms(circuit_output, model_output))

    def to(self, dtype: torch.dtype, device: torch.device) -> Margins:
        """The same forms in another precision. `offset` holds tolerances; it is rounded down, towards the stricter claim."""
        from dataclasses import replace

        from bounds.rounding import down

        offset = self.offset.to(device, dtype)
        offset = torch.where(offset.double() > self.offset.to(device).double(), down(offset), offset)
        return replace(self, circuit=self.circuit.to(device, dtype), model=self.model.to(device, dtype), offset=offset)


@dataclass(frozen=True, eq=False)
class Clauses(Margins):
    """Every clause has a non-negative form: the margin is the least, over clauses, of the greatest form in the clause.

    Shape: `clauses` `(clauses, literals)`, form indices, a short clause padded by repeating its last literal.
    """

    clauses: Tensor

    def combine(self, forms: Tensor) -> Tensor:
        return forms[..., self.clauses].amax(-1).amin(-1)

    def to(self, dtype: torch.dtype, device: torch.device) -> Margins:
        from dataclasses import replace

        return replace(Margins.to(self, dtype, device), clauses=self.clauses.to(device))


@dataclass(frozen=True, eq=False)
class Norm(Margins):
    """`tolerance - |d|_p` for `p` = 1 or 2. Forms come in pairs: the first half are `d`, the second half `-d`, all offsets
    0."""

    tolerance: float
    order: int

    def combine(self, forms: Tensor) -> Tensor:
        d, negated = forms.chunk(2, dim=-1)
        size = torch.maximum(-d, -negated).clamp_min(0)
        total = size.sum(-1) if self.order == 1 else size.square().sum(-1).sqrt()
        from bounds.rounding import gamma

        # The difference of two floats rounds by half an ulp, and never across zero.
        return self.tolerance - total * (1 + gamma(size.shape[-1], total.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """`margins >= 0` for every input of `region`, every patch value of `gates`, and the circuit a mask states.

    `graph` computes `f_G`; with a mask and `gates` it computes `f_C`.
    """

    graph: Graph
    gates: Gates
    region: Region
    margins: Margins

    def __post_init__(self) -> None:
        if self.graph.output in self.gates.by_tensor:
            raise ValueError(f"a gate at {self.graph.output!r}: the output is what is compared, and is not replaced")

    def to(self, dtype: torch.dtype, device: torch.device) -> Query:
        return Query(
            self.graph.to(dtype, device),
            self.gates.to(dtype, device),
            self.region.to(dtype, device),
            self.margins.to(dtype, device),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """What a backend proved of a batch of circuits. Shapes: `forms` `(batch, forms)`, `margin` `(batch,)`.

    Guarantees: each form is at least `forms`, and the claim's margin at least `margin`, on the whole region and for every patch
    value, in real arithmetic. A bound that is not finite proves nothing and is reported as minus infinity.
    """

    forms: Tensor
    margin: Tensor

    @staticmethod
    def of(margins: Margins, forms: Tensor) -> Bound:
        """The bound that lower bounds of the forms give; what is not finite from below becomes minus infinity."""
        forms = torch.where(forms.isnan() | (forms == torch.inf), torch.full_like(forms, -torch.inf), forms)
        margin = margins.combine(forms)
        return Bound(forms, torch.where(margin.isnan() | (margin == torch.inf), torch.full_like(margin, -torch.inf), margin))
