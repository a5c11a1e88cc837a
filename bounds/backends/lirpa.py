"""The second backend: auto_LiRPA, guarded. An independent opinion; `native` is the default, and the sound one.

The library does not round outward, and some of its operators are unsound; so only operators that hold up to sampling are let
through (`bounds.backends.siamese`), every call is checked against the graph's own evaluation, and the result is widened by an
allowance for rounding. The allowance is an estimate, no proof: a certificate should not rest on this backend alone.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.lirpa_compat import Library, library
from bounds.backends.siamese import Siamese, held
from bounds.ops.base import Affine, Elementwise
from bounds.query import Bound, Query
from bounds.region import Ball, Box
from bounds.rounding import gamma

__all__ = ["Lirpa", "LirpaBounder", "Method"]

Method = Literal["ibp", "crown-ibp", "crown", "alpha-crown"]

_OPTIONS = {"conv_mode": "matrix", "sparse_features_alpha": False, "sparse_spec_alpha": False}
"""Patches mode and sparse slopes crash or misindex."""

Known = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Lirpa(Backend):
    """Bounds of the siamese network by auto_LiRPA 0.3 or 0.7, one circuit at a time.

    `iterations` are steps of slope optimisation (`alpha-crown`); `samples` points guard each circuit's bounds. A ball is
    bounded as a ball and by its box, a hull by its box. Cost: one pass a circuit; the model's own bounds are kept in between.
    """

    name: ClassVar[str] = "lirpa"
    method: Method = "crown"
    dtype: torch.dtype = torch.float64
    iterations: int = 20
    samples: int = 32

    def open(self, query: Query) -> LirpaBounder:
        """Raises: BackendUnavailable: auto_LiRPA is not installed. BackendRefusal: an operator it is not trusted with."""
        if (name := query.graph.inexact_in(self.dtype)) is not None:
            raise BackendRefusal(f"lirpa: a constant of tensor {name!r} is no {self.dtype} number; use float64")
        return LirpaBounder(query.to(self.dtype, torch.device("cpu")), self, library())


@dataclass(frozen=True, eq=False)
class LirpaBounder(Bounder):
    """One query, traced once; masks are written into the traced module's buffers."""

    query: Query
    options: Lirpa
    library: Library
    _known: dict[str, Known] = field(default_factory=dict[str, Known])

    def __post_init__(self) -> None:
        _ = self._traced

    def bound(self, masks: Tensor) -> Bound:
        """As in `Bounder`. Raises: BackendRefusal: the library computes another function, or a bound that a sample breaks."""
        masks = masks.cpu()
        with self.library.working(self.options.dtype):
            forms = torch.stack([self._bound(mask) for mask in masks])
        return Bound.of(self.query.margins.to(torch.float64, torch.device("cpu")), forms.double())

    # tracing -----------------------------------------------------------------------------------------------------------------

    @cached_property
    def _siamese(self) -> Siamese:
        return Siamese(self.query).eval()

    @cached_property
    def _traced(self) -> Any:
        """The library's module, its buffers by the names that `Siamese` gives them."""
        options: dict[str, Any] = dict(_OPTIONS)
        # Intervals of an L2 ball go wrong behind anything but a first linear layer.
        options["sparse_intermediate_bounds"] = not isinstance(self.query.region, Ball)
        options["optimize_bound_args"] = {"iteration": self.options.iterations}
        with self.library.working(self.options.dtype), torch.no_grad(), self._refusing("tracing"):
            module = self.library.module.BoundedModule(
                self._siamese,
                tuple(part[:1] for part in self._points[0]),
                bound_opts=options,
                device="cpu",
                custom_ops={"certify::Take": self.library.take},
            )
        for node in module._modules.values():
            if hasattr(node, "buffer"):
                node.value = node.buffer  # 0.3 multiplies by `value`, which it leaves empty
        return module

    @cached_property
    def _depends(self) -> frozenset[str]:
        """The library's tensors that depend on the circuit, its output among them."""
        module, siamese = self._traced, self._siamese
        masks = {f"{kind}{i}" for i in siamese.gated.values() for kind in ("keep", "fixed", "free")}
        todo = [n.name for n in module._modules.values() if getattr(n, "ori_name", None) in masks]
        found = {module.final_name}
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += module[name].output_name
        return frozenset(found)

    # points ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _points(self) -> tuple[tuple[Tensor, ...], Tensor, dict[str, Tensor]]:
        """Guard points, the region's centre first: the module's inputs, and the input and patch values of `Graph.evaluate`."""
        query, generator = self.query, torch.Generator().manual_seed(0)
        count = max(1, self.options.samples)
        x = query.region.sample(count, generator)
        patches = {gate.tensor: gate.patch.sample(count, generator) for gate in query.gates.gates}
        inputs = [x.reshape(count, *held(query.graph.input_shape))]
        inputs += [patches[name].reshape(count, *held(query.graph.shape(name))) for name in self._siamese.patched]
        return tuple(inputs), x, patches

    @cached_property
    def _patches(self) -> tuple[Any, ...]:
        """Patch values as perturbed inputs."""
        gates = self.query.gates.by_tensor
        return tuple(self._in_box(gates[name].patch) for name in self._siamese.patched)

    def _in_box(self, box: Box) -> Any:
        return self._bounded(box.center, norm=torch.inf, x_L=self._row(box.lower), x_U=self._row(box.upper))

    def _row(self, value: Tensor) -> Tensor:
        return value.reshape(1, *held(tuple(value.shape)))

    def _bounded(self, center: Tensor, **norm: Any) -> Any:
        return self.library.module.BoundedTensor(self._row(center), self.library.module.PerturbationLpNorm(**norm))

    # one circuit -------------------------------------------------------------------------------------------------------------

    def _bound(self, mask: Tensor) -> Tensor:
        """Lower bounds of the forms. Shape: `(forms,)`."""
        self._write(mask)
        true = self._checked_forms(mask)
        lower = self._by_box()
        if isinstance(self.query.region, Ball) and self.options.method != "ibp":
            lower = torch.fmax(lower, self._by_ball())
        least = true.amin(0)
        if bool((lower > least + self._tolerance(true)).any()):
            excess = float((lower - least).max())
            raise BackendRefusal(f"lirpa: a bound of {self._about} lies {excess:.3g} above what a sample of the region reaches")
        return lower - self._allowance(true)

    def _by_box(self) -> Tensor:
        return self._shared(self._in_box(self.query.region.box()), "box")

    def _by_ball(self) -> Tensor:
        """With L2 norms. Intermediate bounds of `crown-ibp` are the box's: the library has no sound intervals of balls."""
        ball = self.query.region
        assert isinstance(ball, Ball)
        x = self._bounded(ball.center, norm=2, eps=ball.radius)
        if self.options.method == "crown-ibp":
            return self._ask(x, "crown", self._harvest(frozenset({self._traced.final_name})))
        return self._shared(x, "ball")

    def _shared(self, x: Any, kind: str) -> Tensor:
        """With the model's own bounds, which do not depend on the circuit, kept from the first call on."""
        method = self.options.method
        if method == "ibp":
            return self._ask(x, method, {})
        if method == "alpha-crown":
            if not any(isinstance(node.op, Elementwise) for node in self.query.graph.nodes):
                method = "crown"
            elif kind not in self._known:
                self._ask(x, "crown", {})  # slopes depend on the circuit, and so would bounds that the first one leaves
                self._known[kind] = self._harvest(self._depends)
        lower = self._ask(x, method, self._known.get(kind, {}))
        if kind not in self._known:
            self._known[kind] = self._harvest(self._depends)
        return lower

    def _ask(self, x: Any, method: Method, known: Known) -> Tensor:
        """Lower bounds of the forms from the library, given bounds of intermediate tensors. Shape: `(forms,)`."""
        optimised = method == "alpha-crown"
        given = {self.library.bounds_keyword: known} if known else {}
        name = "CROWN-Optimized" if optimised else method.upper()
        with torch.set_grad_enabled(optimised), self._refusing(name):
            inputs = (x, *self._patches)
            lower, upper = self._traced.compute_bounds(x=inputs, method=name, bound_upper=not optimised, **given)[:2]
        if upper is not None and bool((lower > upper + self._tolerance(lower)).any()):
            raise BackendRefusal(f"lirpa: a lower bound of {self._about} lies above its upper bound")
        return lower.detach()[0].clone()

    def _harvest(self, but: frozenset[str]) -> Known:
        """Bounds that the last call left at intermediate tensors."""
        found: Known = {}
        for name, node in self._traced._modules.items():
            lower, upper = getattr(node, "lower", None), getattr(node, "upper", None)
            if name not in but and node.inputs and node.perturbed and isinstance(lower, Tensor) and isinstance(upper, Tensor):
                found[name] = lower.detach().clone(), upper.detach().clone()
        return found

    def _write(self, mask: Tensor) -> None:
        values = self._siamese.set_mask(mask)
        for node in self._traced._modules.values():
            if getattr(node, "ori_name", None) in values:
                node.buffer.copy_(values[node.ori_name])

    # guards ------------------------------------------------------------------------------------------------------------------

    @contextmanager
    def _refusing(self, what: str) -> Generator[None]:
        """What the library raises, as a refusal: it meets shapes now and then that it was not written for."""
        try:
            yield
        except (BackendRefusal, MemoryError):
            raise
        except Exception as error:
            found = f"{type(error).__name__}: {error}".splitlines()[0]
            raise BackendRefusal(f"lirpa: {what} fails for {self._about} ({found})") from error

    @property
    def _about(self) -> str:
        return f"tensor {self.query.graph.output!r} by auto_LiRPA {self.library.version}"

    def _checked_forms(self, mask: Tensor) -> Tensor:
        """The forms at the guard points, where the library must compute what the graph does. Shape: `(samples, forms)`."""
        inputs, x, patches = self._points
        query, masks = self.query, mask.expand(len(x), -1)
        ours = query.graph.evaluate(x, query.gates, masks, patches)[query.graph.output]
        true = query.margins.forms(ours, self._model_output)
        with torch.no_grad(), self._refusing("the forward pass"):
            found = self._traced(*inputs)
        if not bool(((found - true).abs() <= self._tolerance(true)).all()):
            apart = float((found - true).abs().max())
            raise BackendRefusal(f"lirpa: the forward pass of {self._about} is {apart:.3g} away from the graph's own")
        return true

    def _tolerance(self, forms: Tensor) -> Tensor:
        """What the guards grant to rounding. Shape: `(1, forms)`."""
        return torch.finfo(forms.dtype).eps ** 0.5 * (1 + forms.abs().amax(0, keepdim=True) + self._size)

    def _allowance(self, forms: Tensor) -> Tensor:
        """How far the library's rounding may have raised a bound: an estimate. Shape: `(forms,)`.

        What is added up to a bound is at most `S`, the absolute forms of a pass with absolute weights over the region's largest
        absolute values (slopes of the relaxations are at most 1), so `gamma(all terms) S` is the error of the sums, to first
        order. `S` grows with depth much faster than the error does: so this is capped by the square root of the unit roundoff,
        relative to the size of the outputs as sampled.
        """
        prior = gamma(self._terms, forms.dtype) * self._magnitude
        return torch.minimum(prior, self._tolerance(forms)[0])

    @cached_property
    def _model_output(self) -> Tensor:
        return self.query.graph(self._points[1])

    @cached_property
    def _size(self) -> Tensor:
        """Size of the model's half of each form, term by term, at the guard points. Shape: `(1, forms)`."""
        margins, output = self.query.margins, self._model_output.flatten(1).abs().amax(0, keepdim=True)
        return output @ (margins.model.flatten(1).abs() + margins.circuit.flatten(1).abs()).T

    @cached_property
    def _terms(self) -> int:
        """Products and sums on the longest way from the input to a form, twice over."""
        ops = [node.op for node in self.query.graph.nodes]
        return 4 * sum(op.terms + 4 if isinstance(op, Affine) else 4 for op in ops) + 4 * self.query.margins.circuit[0].numel()

    @cached_property
    def _magnitude(self) -> Tensor:
        """`S` of `_allowance`. Shape: `(forms,)`."""
        query = self.query
        gates = query.gates.by_tensor
        found = {query.graph.input: query.region.box().magnitude.unsqueeze(0)}
        for node in query.graph.nodes:
            inputs = [found[name] for name in node.inputs]
            if isinstance(node.op, Affine):
                y, b = node.op.magnitude(*inputs), node.op.offset()
                y = y if b is None else y + b.abs()
            else:
                assert isinstance(node.op, Elementwise)
                low, high = node.op.image(-inputs[0], inputs[0])
                y = torch.maximum(low.abs(), high.abs())
            found[node.name] = torch.maximum(y, gates[node.name].patch.magnitude) if node.name in gates else y
        margins, output = query.margins, found[query.graph.output].flatten(1)[0]
        weights = margins.circuit.flatten(1).abs() + margins.model.flatten(1).abs()
        return weights @ output + margins.offset.abs()
