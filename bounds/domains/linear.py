"""Backward linear bounds: pull linear forms of a tensor back to the input, one operator at a time.

Sign convention, stated once: a form is bounded from *below*. `form >= a.x + constant` on the whole region, for every patch
value. An upper bound of `y` is the negative of a lower bound of `-y`.

Rounding. The coefficients `a` computed at each step are floats; whatever they are, treat them as exact and charge the step for
the difference it makes: an adjoint of `n` products is off by at most `gamma(n) |L|^T |a|`, which moves the form by at most
`gamma(n) |a| . (|L| |x|)`, where `|x|` is bounded by the intervals. So each step costs one more product of `|a|` with a vector
that does not depend on the rows (`Trace.rounding`), and the sum of these charges is subtracted from the constant.

Source: Zhang et al. 2018 (CROWN), arXiv:1811.00866; Xu et al. 2020, arXiv:2002.12920; the rounding argument is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains.relax import below, dot, select
from bounds.domains.trace import Trace
from bounds.graph import Graph, Node
from bounds.ops.base import Affine, Nonlinear, Planes
from bounds.region import Box
from bounds.rounding import down, gamma

__all__ = ["Form", "added", "concretize", "elements", "patched", "pull_back", "start"]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """Rows of linear forms over named tensors: `sum_t a_t . t + constant`, less the rounding charged so far.

    Shapes: each of `pending` `(circuits, rows, *shape)`; `constant`, `error` `(circuits, rows)`. Tensors are meant as their
    readers see them, after their gate; those in `ungated` as computed, before it.
    """

    pending: Mapping[str, Tensor]
    constant: Tensor
    error: Tensor
    ungated: frozenset[str] = frozenset()

    def pick(self, rows: Tensor, sign: Tensor) -> Form:
        """Rows by number, negated where `sign` is -1, from a form that all circuits share. Shapes: `(circuits, rows)` both.
        Only before any relaxation: a lower bound negated is none, while the charge for rounding affine steps is symmetric."""
        pending: dict[str, Tensor] = {}
        for name, a in self.pending.items():
            taken = a[0].index_select(0, rows.flatten()).reshape(*rows.shape, *a.shape[2:])
            pending[name] = taken * sign.reshape(*rows.shape, *[1] * (a.dim() - 2))
        return Form(pending, self.constant[0][rows] * sign, self.error[0][rows], self.ungated)

    def rows(self, which: Tensor) -> Form:
        """Some rows, of every circuit. Shape: `(count,)`."""
        pending = {name: a[:, which] for name, a in self.pending.items()}
        return Form(pending, self.constant[:, which], self.error[:, which], self.ungated)


def start(name: str, coefficients: Tensor) -> Form:
    """Forms of one tensor. Shape: `(circuits, rows, *shape)`."""
    zero = coefficients.new_zeros(coefficients.shape[:2])
    return Form({name: coefficients}, zero, zero, frozenset({name}))


def elements(graph: Graph, name: str, at: Tensor) -> Form:
    """A form for each of some elements of a tensor's computed values, shared by all circuits. Shape: `at` `(rows,)`."""
    shape = graph.shape(name)
    units = torch.zeros((len(at), math.prod(shape)), dtype=graph.dtype, device=graph.device)
    units[torch.arange(len(at)), at] = 1
    return start(name, units.reshape(1, len(at), *shape))


def pull_back(trace: Trace, form: Form, which: Tensor | None = None, stop: Callable[[Node], bool] | None = None) -> Form:
    """Rewrite a form over earlier tensors until only the input, and tensors of nodes at which `stop` says so, are left.

    `which` names the circuits of the trace that the form's leading axis stands for (default: all, in order). Guarantees: the
    result is a lower bound of the form. Cost: one adjoint of each operator upstream, for `circuits * rows` rows.
    """
    graph = trace.graph
    pending = dict(form.pending)
    fresh = form.ungated
    constant, error = form.constant.clone(), form.error.clone()
    for node in reversed(graph.nodes):
        name = node.name
        if name not in pending:
            continue
        if stop is not None and (name not in fresh or isinstance(node.op, Nonlinear)) and stop(node):
            continue
        a = pending.pop(name)
        rows = a.shape[:2]
        kept: Tensor | None = None
        if name in trace.kept and name not in fresh:
            kept = select(trace.kept[name], which)
            if name in trace.sources:
                added(trace, pending, trace.sources[name], a * ~kept.unsqueeze(1), error)
            else:
                patched(trace.patch[name], ~kept, a, constant, error)
        op = node.op
        if isinstance(op, Nonlinear):
            parts = (_relax(trace, node, a, kept, which, constant, error),)
        else:
            assert isinstance(op, Affine)
            a = a if kept is None else a * kept.unsqueeze(1)
            offset = op.offset()
            if offset is not None:
                constant += dot(a.flatten(2), offset.expand(node.shape).reshape(1, -1))
            if offset is not None or op.terms:
                error += dot(a.flatten(2).abs(), trace.rounding(node)[None])
            parts = tuple(part.reshape(*rows, *part.shape[1:]) for part in op.adjoint(a.flatten(0, 1)))
        for source, part in zip(node.inputs, parts, strict=False):
            added(trace, pending, source, part, error)
        error += gamma(1, a.dtype) * constant.abs()
    return Form(pending, constant, error + trace.floor, fresh & set(pending))


def concretize(trace: Trace, form: Form) -> Tensor:
    """The least value of forms over the region. Shape: `(circuits, rows)`. Not finite where no bound exists: minus infinity."""
    constant = down(down(form.constant) - form.error * (1 + 1e-3))
    if trace.graph.input in form.pending:
        a = form.pending[trace.graph.input]
        constant = down(constant + trace.minimum(a))
    return torch.where(constant.isnan() | (constant == torch.inf), torch.full_like(constant, -torch.inf), constant)


def added(trace: Trace, pending: dict[str, Tensor], name: str, part: Tensor, error: Tensor) -> None:
    """Add coefficients to those of a tensor as its readers see it; what the sum rounds is charged to `error`, in place."""
    if name not in pending:
        pending[name] = part
        return
    total = pending[name] + part
    size = trace.read[name].magnitude.amax(0, keepdim=True).flatten(1)
    error += dot(total.detach().flatten(2).abs(), gamma(1, total.dtype) * size)
    pending[name] = total


def patched(patch: Box, cut: Tensor, a: Tensor, constant: Tensor, error: Tensor) -> None:
    """Ablated elements of a gated tensor take the worst of their patch values here and now. Kept ones are left to the
    caller."""
    center, radius = patch.center.flatten(), patch.radius.flatten()
    cut, flat = cut.flatten(1), a.flatten(2)
    if bool((center != 0).any()):
        constant += dot(flat, cut * center)
    charge = radius + gamma(2 * len(center), a.dtype) * (center.abs() + radius)
    if bool((charge != 0).any()):
        spread = dot(flat.abs(), cut * charge)
        constant -= spread
        error += gamma(len(center), a.dtype) * spread


def _relax(
    trace: Trace, node: Node, a: Tensor, kept: Tensor | None, which: Tensor | None, constant: Tensor, error: Tensor
) -> Tensor:
    """Replace a non-linear function by its lower line under positive coefficients and its upper line under negative ones."""
    lines = trace.lines(node)
    if isinstance(lines, Planes):
        a = a if kept is None else a * kept.unsqueeze(1)
        error += dot(a.flatten(2).abs(), trace.rounding(node)[None])
        return below(a, lines, constant, which)
    # As `below`, with `kept` in the lines and fewer passes over the rows.
    al, bl, au, bu = (select(x, which) for x in (lines.al, lines.bl, lines.au, lines.bu))
    if kept is not None:
        al, bl, au, bu = al * kept, bl * kept, au * kept, bu * kept
    # With the negative part n, the form is a*al + n*(au - al), its constant a.bl + n.(bu - bl), and |a| = a - 2 n: one pass
    # each.
    negative = a.clamp_max(0)
    flat, least = a.flatten(2), negative.flatten(2)
    if bool((bl != 0).any()):
        constant += dot(flat - least, bl.flatten(1))
    if bool((bu != 0).any()):
        constant += dot(least, bu.flatten(1))
    rounding = trace.rounding(node)[None]
    error += dot(flat, rounding) - 2 * dot(least, rounding)
    return torch.addcmul(a * al.unsqueeze(1), negative, (au - al).unsqueeze(1))
