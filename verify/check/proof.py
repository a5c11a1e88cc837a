"""The proof calculus: enclosures of a model's tensors `y` and of a circuit's differences `d` from them. Trusted base.

Everything is derived here from the claim; a certificate only states constraints, slopes, weights and multipliers, and whatever
these are, what is derived holds. At a ReLU with `Y = f(y)`, `C = f(y + d)`, `D = C - Y`, a form `p Y + q D` is, for any weight
w,

    (p - w q) Y + w q C + (1 - w) q D,

and each of the three is replaced by the line that bounds it from below: `al t <= f(t) <= au t + bu` with `al` any slope of
`[slope, 1]` and the chord above; for D, which lies between `s0 d` and `s1 d` (the least and greatest slopes between the two
arguments), chords over the interval of `d`. A constraint `side * (v - t) >= 0` with a multiplier `m >= 0` adds `-m side (v -
t)`, which is never positive on the part where it holds.

Rounding: float64 sums of n products in any order are within `gamma(n) = n u / (1 - n u)` of exact, relative to the sum of their
absolute values (Higham 2002, section 3.1). Each step's error, seen as a change of the form, is at most the coefficients'
absolute values times the enclosed tensors' magnitudes times such a factor; these are summed up and subtracted. Intervals are
widened alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from verify.check.claim import Claim
from verify.check.drift import drift
from verify.check.enclosure import FLOOR, minimum, steepness
from verify.check.interval import Array, Box, Rejected, U, gamma, magnitude, meet, minus, plus, sound
from verify.check.operators import Affine, Curve, Relu
from verify.check.part import Add, Bounds, Constraint, Empty, Total, Tuned, lines_of, side
from verify.check.program import Program, Step
from verify.check.tokens import Tokens

__all__ = ["Proof"]


class Proof:
    """Derives bounds for one claim. `root` holds on the whole region. With `float32` the claim is about every float32
    evaluation."""

    def __init__(self, program: Program, claim: Claim, float32: bool = False, rows: int = 4096) -> None:
        if isinstance(claim.region, Tokens) or isinstance(claim.second, Tokens):
            raise Rejected("activations on tokens for inputs that are none are not covered")
        self.program, self.gates, self.rows = program, claim.gates, rows
        self.regions = {program.input: claim.region}
        self.steps = list(program.steps.values())
        if claim.second is not None:  # the second run, as far as the gates, comes first and has no differences
            wanted = set(self.gates)
            for step in reversed(self.steps):
                wanted |= set(step.inputs) if step.name in wanted else set()
            again = [s for s in self.steps if s.name in wanted]
            self.regions[program.input + "'"] = claim.second
            self.steps = [replace(s, name=s.name + "'", inputs=tuple(x + "'" for x in s.inputs)) for s in again] + self.steps
        if strange := next((step for step in self.steps if not _followed(step)), None):
            raise Rejected(f"bounds are not derived through {strange.name!r} ({type(strange.op).__name__})")
        self.feeds = {step.inputs[0] for step in self.steps if not isinstance(step.op, Affine)}
        self.curved = {step.inputs[0] for step in self.steps if isinstance(step.op, Curve)}
        self.relus = [step for step in program.steps.values() if isinstance(step.op, Relu)]
        try:
            self.root = self.sweep((), None)
        except Empty:
            raise Rejected("the region is empty") from None
        root = self.root
        self.drifts = drift(program, self.steps, self.regions, claim.gates, root.y, root.c) if float32 else None

    # intervals ---------------------------------------------------------------------------------------------------------------

    def sweep(self, constraints: Sequence[Constraint], base: Bounds | None) -> Bounds:
        """Enclose every tensor on the part of the region where the constraints hold, inside `base`; without `base`, with
        backward bounds of what ReLUs read. Raises: Empty: there is no such part; Rejected: numbers too large."""
        b = Bounds()
        limits = {(k.circuit, k.tensor) for k in constraints}

        def limited(box: Box, circuit: bool, name: str) -> Box:
            if (circuit, name) in limits:
                box = box[0].copy(), box[1].copy()
                for k in constraints:
                    if (k.circuit, k.tensor) == (circuit, name):
                        end = box[0 if k.side > 0 else 1]
                        end[k.at] = max(end[k.at], k.threshold) if k.side > 0 else min(end[k.at], k.threshold)
            return self._sound(box)

        for name, region in self.regions.items():
            b.y[name] = limited((region.lower, region.upper), False, name)
        for step in self.steps:
            name, op, inputs = step.name, step.op, step.inputs
            boxes = [b.y[x] for x in inputs]
            y = op.image(*boxes)
            y = y if base is None else meet(y, base.y[name])
            if base is None and name in self.feeds:
                y = self._refined(b, step, y, y, 1.0, 0.0, ("siamese",))
            b.y[name] = y = limited(y, False, name)
            touched = any(x in b.d for x in inputs)
            if not touched and name not in self.gates:
                continue
            c, d = (y, (np.zeros(step.size), np.zeros(step.size))) if not touched else self._apart(b, step, y)
            if base is None and touched and name in self.feeds:
                c, d = self._refined_apart(b, step, y, c, d)
            if name in self.gates:
                gate = self.gates[name]
                patch = b.y[name + "'"] if gate.reached else (gate.lower, gate.upper)
                c = np.where(gate.kept, c[0], patch[0]), np.where(gate.kept, c[1], patch[1])
                over = minus(patch, y)
                d = np.where(gate.kept, d[0], over[0]), np.where(gate.kept, d[1], over[1])
            if base is not None:
                c, d = meet(c, base.c[name]), meet(d, base.d[name])
            b.c[name] = c = limited(c, True, name)
            b.d[name] = self._sound(meet(d, minus(c, y)))
        return b

    def _sound(self, box: Box) -> Box:
        if (sound(box)[0] > box[1]).any():
            raise Empty
        return box

    def _apart(self, b: Bounds, step: Step, y: Box) -> tuple[Box, Box]:
        """The circuit's values before any gate, and their differences from the model's."""
        own = [b.c.get(x, b.y[x]) for x in step.inputs]
        zero = [np.zeros(len(b.y[x][0])) for x in step.inputs]
        moved = [b.d.get(x, (z, z)) for x, z in zip(step.inputs, zero, strict=True)]
        if isinstance(step.op, Affine):
            c, d = step.op.image(*own), step.op.image(*moved, offset=False)
        else:
            assert isinstance(step.op, Relu | Curve)
            s0, s1 = steepness(step.op, b.y[step.inputs[0]], own[0])
            l, u = moved[0]
            lower, upper = np.where(l >= 0, s0, s1) * l, np.where(u >= 0, s1, s0) * u
            exact = isinstance(step.op, Relu) and step.op.slope == 0
            c = step.op.image(own[0])
            d = (lower, upper) if exact else (np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf))
        c = meet(c, plus(y, d))
        return c, meet(d, minus(c, y))

    def _refined(
        self, b: Bounds, step: Step, box: Box, y: Box, p: float, q: float, mixes: Sequence[str], d: Box | None = None
    ) -> Box:
        """The box of `p y + q d` of a step before its gate, cut by backward bounds where a ReLU needs it."""
        if step.name in self.curved:
            open_, box = np.True_, box if d is None else d
        elif d is None:
            open_ = (box[0] < 0) & (box[1] > 0)
        else:
            open_ = ~((np.minimum(y[0], box[0]) >= 0) | (np.maximum(y[1], box[1]) <= 0)) & ((d[0] != 0) | (d[1] != 0))
            box = d
        at = np.flatnonzero(open_ & self._needed(step.name, model=q == 0) & (box[0] < box[1]))
        lower, upper = box[0].copy(), box[1].copy()
        for part in np.array_split(at, -(-len(at) // self.rows) or 1):
            unit = np.zeros((2 * len(part), step.size))
            unit[np.arange(len(part)), part], unit[np.arange(len(part), 2 * len(part)), part] = 1.0, -1.0
            for mix in mixes if len(part) else ():
                found = self.bound(b, step.name, p * unit, q * unit if q else None, mix)
                lower[part] = np.maximum(lower[part], found[: len(part)])
                upper[part] = np.minimum(upper[part], -found[len(part) :])
        return lower, upper

    def _needed(self, name: str, model: bool) -> Any:
        """Elements that some ReLU's relaxation depends on: of the circuit only those that are kept."""
        readers = [s for s in self.program.steps.values() if s.inputs[0] == name and not isinstance(s.op, Affine)]
        cuts = [self.gates[s].kept for s in (name, *(r.name for r in readers)) if s in self.gates]
        return np.True_ if model or not cuts else np.logical_and.reduce(cuts)

    def _refined_apart(self, b: Bounds, step: Step, y: Box, c: Box, d: Box) -> tuple[Box, Box]:
        c = self._refined(b, step, c, y, 1.0, 1.0, ("siamese",))
        d = meet(d, minus(c, y))
        d = self._refined(b, step, c, y, 0.0, 1.0, ("greedy",), d)
        c = meet(c, plus(y, d))
        c = self._refined(b, step, c, y, 1.0, 1.0, ("greedy",))
        return c, meet(d, minus(c, y))

    # backward bounds ---------------------------------------------------------------------------------------------------------

    def bound(
        self,
        b: Bounds,
        start: str,
        p: Array,
        q: Array | None,
        mix: str,
        tuned: Tuned | None = None,
        given: Sequence[Constraint] = (),
    ) -> Array:
        """Lower bounds of `p . y + q . d` of a tensor before its gate, on the part where `given` holds. Shapes: `(rows, size)`
        to `(rows,)`.

        `mix`: "siamese" (w = 1), "difference" (w = 0) or "greedy" (whichever loses less, element by element).
        """
        first, second = {start: p}, {} if q is None else {start: q}
        total = Total(np.zeros(len(p)), np.zeros(len(p)))

        def add(to: dict[str, Array], name: str, a: Array) -> None:
            if name in to:
                a = to[name] + a
                box = b.y[name] if to is first else b.d[name]
                total.error[:] += U * (np.abs(a) @ magnitude(box))
            to[name] = a

        for i, k in enumerate(given if tuned is not None else ()):
            step = float(tuned.multipliers[i]) * k.side if tuned is not None else 0.0
            unit = np.zeros((len(p), len(b.y[k.tensor][0])))
            unit[:, k.at] = -step
            add(first, k.tensor, unit)
            if k.circuit and k.tensor in b.d:
                add(second, k.tensor, unit.copy())
            total.add(step * k.threshold, 2 * U * abs(step * k.threshold))
        for step in reversed(self.steps):
            name = step.name
            p_, q_ = first.pop(name, None), second.pop(name, None)
            if q_ is not None and name in self.gates and name != start:
                p_, q_ = self._cut(b, name, p_, q_, add, first, total)
            if not any(x in b.d for x in step.inputs):
                q_ = None  # what is computed from tensors that do not differ does not differ
            if p_ is None and q_ is None:
                continue
            p_ = np.zeros_like(q_) if p_ is None else p_
            affine = step.op if isinstance(step.op, Affine) else None
            if affine is None:
                p_, q_ = self._relaxed(b, step, p_, q_, mix, tuned, total)
            else:
                on_y, on_d = self._sizes(b, step)
                total.add(p_ @ affine.bias, np.abs(p_) @ on_y + (0.0 if q_ is None or on_d is None else np.abs(q_) @ on_d))
            for i, x in enumerate(step.inputs):
                n = len(b.y[x][0])
                add(first, x, p_ if affine is None else affine.adjoint(p_, i, n))
                if q_ is not None and x in b.d:
                    add(second, x, q_ if affine is None else affine.adjoint(q_, i, n))
        for name, a in first.items():
            total.add(minimum(self.regions[name], b.y[name], a), 0.0)
        # Errors are sums of non-negative numbers, themselves rounded; underflow moves a form by far less than the last term.
        return total.value - total.error * (1 + 1e-6) - 4 * U * (np.abs(total.value) + total.error) - FLOOR

    def _cut(
        self, b: Bounds, name: str, p: Array | None, q: Array, add: Add, first: dict[str, Array], total: Total
    ) -> tuple[Array, Array]:
        """Behind a gate: the difference of an ablated element is its patched value less the model's."""
        gate = self.gates[name]
        cut = np.where(gate.kept, 0.0, q)
        if gate.reached:
            add(first, name + "'", cut)
        else:
            size = np.abs(cut) @ magnitude((gate.lower, gate.upper))
            total.add(np.maximum(cut, 0) @ gate.lower + np.minimum(cut, 0) @ gate.upper, 2 * gamma(2 * len(gate.lower)) * size)
        p = -cut if p is None else p - cut
        total.error += U * (np.abs(p) @ magnitude(b.y[name]))
        return p, q - cut

    def _sizes(self, b: Bounds, step: Step) -> tuple[Array, Array | None]:
        """What rounding in one affine step can change a form by, for each unit of coefficient on `y` and on `d`."""
        if step.name not in b.sizes:
            op = step.op
            assert isinstance(op, Affine)
            on_y = 2 * gamma(op.terms) * op.forward(*(magnitude(b.y[x]) for x in step.inputs), size=True)
            on_y += 2 * gamma(len(op.bias) + 1) * np.abs(op.bias)
            moved = [magnitude(b.d[x]) if x in b.d else np.zeros(len(b.y[x][0])) for x in step.inputs]
            b.sizes[step.name] = on_y, 2 * gamma(op.terms) * op.forward(*moved, size=True)
        return b.sizes[step.name]

    def _relaxed(
        self, b: Bounds, step: Step, p: Array, q: Array | None, mix: str, tuned: Tuned | None, total: Total
    ) -> tuple[Array, Array | None]:
        x, own = step.inputs[0], step.name in self.program.steps
        on_y, on_c, on_d = lines_of(b, step, tuned if own else None)
        if q is None:
            into_y = side(p, on_y, total)
            total.error += 2 * U * (np.abs(into_y) @ magnitude(b.y[x]))
            return into_y, None
        if tuned is not None and step.name in tuned.weights:
            w = tuned.weights[step.name]
        elif mix == "greedy":
            siamese = np.abs(q) * on_c.gap + np.abs(p - q) * on_y.gap
            w = (siamese < np.abs(q) * on_d.gap + np.abs(p) * on_y.gap).astype(np.float64)
        else:
            w = np.float64(mix == "siamese")
        shared = q * w
        lone, rest = q - shared, p - shared
        # Of D no more is needed here than that it is no larger than d.
        total.error += U * (np.abs(rest) @ magnitude(b.y[step.name]) + np.abs(lone) @ magnitude(b.d[x]))
        into_y, into_c, into_d = (side(a, of, total) for a, of in ((rest, on_y), (shared, on_c), (lone, on_d)))
        total.error += 3 * U * ((np.abs(into_y) + np.abs(into_c)) @ magnitude(b.y[x]))
        total.error += 3 * U * ((np.abs(into_c) + np.abs(into_d)) @ magnitude(b.d[x]))
        return into_y + into_c, into_c + into_d


def _followed(step: Step) -> bool:
    return isinstance(step.op, Affine | Relu) or (isinstance(step.op, Curve) and step.op.kind in ("Tanh", "Sigmoid"))
