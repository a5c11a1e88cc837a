"""What a circuit and a spec claim, as the checker reads it: regions, patched values, and the forms that must not be negative.
Trusted base, with `specs.load` and `specs.arrays`, which say what the two files state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from specs import agreement, patching
from specs.arrays import inputs, resolve, resolve_each, resolve_rows, to_input, to_shape
from specs.circuit import Circuit
from specs.load import read_circuit, read_spec
from specs.spec import Spec
from verify.check.enclosure import Region
from verify.check.interval import Array, Rejected
from verify.check.model import read_program
from verify.check.operators import Product, Softmax
from verify.check.program import Program, evaluate, values
from verify.check.tokens import Tokens, read_tokens

__all__ = ["Claim", "Gate", "Goal", "Question", "Set", "read_question"]

Set: TypeAlias = Region | Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Gate:
    """Elements of a site that the circuit does not keep take any value of `[lower, upper]`, or with `reached` the model's own
    on the second input."""

    kept: NDArray[np.bool_]
    lower: Array
    upper: Array
    reached: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """Forms `circuit . f_C + model . f_G + offset`, of which one must be non-negative; or with `norm` (1 or 2) all are the
    differences and their negatives in turn, and `tolerance` bounds their norm. Shapes: `(rows, outputs)`, `(rows,)`."""

    circuit: Array
    model: Array
    offset: Array
    norm: int = 0
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """One region of a spec. `second` is that of the second input, where patched values come from one."""

    label: str
    region: Set
    second: Set | None
    gates: dict[str, Gate]


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """All that a circuit and a spec claim of a model. Claims about finite regions need no goals."""

    program: Program
    circuit: Circuit
    spec: Spec
    claims: tuple[Claim, ...]
    goals: tuple[Goal, ...]


def read_question(circuit_path: Path, spec_path: Path) -> Question:
    """Read what is claimed. Raises: Rejected: something in it that the checker does not follow; InputError: bad files."""
    circuit, spec = read_circuit(circuit_path), read_spec(spec_path)
    if circuit.model.splice:
        raise Rejected("certificates of models with autoencoders are not covered")
    program = read_program(Path(circuit.model.path))
    if circuit.model.sha256 is not None and circuit.model.sha256.lower() != program.sha256:
        raise Rejected("the circuit states another sha256 of its model")
    regions = _regions(spec.input, program, spec.file, "$.input")
    seconds: list[tuple[str, Set]] = []
    if isinstance(spec.patching, patching.Reachable | patching.Closed):
        record = spec.patching.reachable if isinstance(spec.patching, patching.Reachable) else spec.patching.closed
        seconds = _regions(record, program, spec.file, f"$.patching.{spec.patching.kind}")
        if len(seconds) not in (1, len(regions)):
            raise Rejected("neither one second region nor one for each claim")
    claims: list[Claim] = []
    for i, (label, region) in enumerate(regions):
        second = seconds[i if len(seconds) > 1 else 0][1] if seconds else None
        gates = _gates(circuit, spec, program, second, region)
        claims.append(Claim(label, region, second if isinstance(spec.patching, patching.Reachable) else None, gates))
    goals = _goals(spec.agreement, program.steps[program.output].size, spec.input.kind == "tokens")
    return Question(program, circuit, spec, tuple(claims), tuple(goals))


def received(array: Array, dtype: Any) -> Array:
    """Numbers as the model takes them, in its own precision."""
    rounded = array.astype(dtype).astype(np.float64).ravel()
    if not np.isfinite(rounded).all():
        raise Rejected("a number that is not finite in the model's precision")
    return rounded


def _above(a: Array, b: Array) -> Array:
    """The least floats that are not below `a + b`: the rounded sum, and one more where its exact error says so."""
    total = a + b
    rest = total - a
    error = (a - (total - rest)) + (b - rest)
    return np.where(error > 0, np.nextafter(total, np.inf), total)


def _regions(record: Any, program: Program, file: str, where: str) -> list[tuple[str, Set]]:
    shape = program.shape
    if record.kind == "tokens":
        return [("tokens", read_tokens(record, shape, file, where))]
    if program.numbers is not None:
        raise Rejected("a region of points that are no numbers of tokens")

    def ended(reference: Any) -> Array:
        return to_shape(resolve(reference, file=file, where=where), shape, layout=record.layout, file=file, where=where).ravel()

    def taken(array: Array) -> Array:
        scaled = to_input(array, shape, scale=record.scale, layout=record.layout, file=file, where=where)
        return received(scaled, program.dtype)

    ends = record.clip or (None, None)
    floor, ceiling = (
        np.full(int(np.prod(shape)), s) if e is None else ended(e) for e, s in zip(ends, (-np.inf, np.inf), strict=True)
    )
    if record.kind == "hull":
        points = np.stack([taken(row) for row in resolve_rows(record.points, file=file, where=where)])
        if (points < floor).any() or (points > ceiling).any():
            raise Rejected("a point of the hull is outside clip")
        return [("hull", Region(points.min(0), points.max(0), points=points))]
    if record.kind == "box":
        lower, upper = (taken(resolve(end, file=file, where=where)) for end in (record.lower, record.upper))
        return [("box", _nonempty(Region(np.maximum(lower, floor), np.minimum(upper, ceiling))))]
    index = getattr(record.center, "index", None)
    found: list[tuple[str, Set]] = []
    for i, array in enumerate(resolve_each(record.center, file=file, where=where)):
        center, radius = taken(array), ended(record.epsilon)
        if not (radius >= 0).all():
            raise Rejected("a negative radius")
        label = f"index {index[i]}" if isinstance(index, tuple) else f"index {index}" if isinstance(index, int) else "center"
        lower, upper = np.maximum(-_above(-center, radius), floor), np.minimum(_above(center, radius), ceiling)
        ball = (center, float(record.epsilon)) if record.kind == "l2" else (None, math.inf)
        found.append((label, _nonempty(Region(lower, upper, *ball))))
    return found


def _nonempty(region: Region) -> Region:
    if not (region.lower <= region.upper).all() or not np.isfinite(np.stack([region.lower, region.upper])).all():
        raise Rejected("a region that is empty or not bounded")
    return region


def _gates(circuit: Circuit, spec: Spec, program: Program, second: Set | None, region: Set) -> dict[str, Gate]:
    boxes = _patches(spec, program, {s: program.groups(s, str(g)) for s, g in circuit.scope.items()}, second, region)
    gates: dict[str, Gate] = {}
    for site, granularity in circuit.scope.items():
        group, count = program.groups(site, str(granularity))
        kept, entry = np.zeros(count, bool), circuit.kept[site]
        if isinstance(entry, str):
            kept[:] = entry == "all"
        elif max(entry, default=0) >= count:
            raise Rejected(f"site {site!r} has no component {max(entry)}")
        else:
            kept[list(entry)] = True
        gates[site] = Gate(kept[group], *boxes[site], reached=isinstance(spec.patching, patching.Reachable))
    return gates


def _patches(
    spec: Spec, program: Program, sites: dict[str, Any], second: Set | None, region: Set
) -> dict[str, tuple[Array, Array]]:
    """The interval of the patched values of each site."""
    record, file = spec.patching, spec.file
    sizes = {site: program.steps[site].size for site in sites}
    if isinstance(record, patching.Zero | patching.Reachable):
        return {site: (np.zeros(n), np.zeros(n)) for site, n in sizes.items()}
    if isinstance(record, patching.Closed):
        assert second is not None
        if (second.lower > region.lower).any() or (second.upper < region.upper).any():
            raise Rejected("the region of `closed` does not contain the input's")
        if any(isinstance(step.op, Product | Softmax) for step in program.steps.values()):
            raise Rejected("intervals of `closed` are not those of one definition in a model that multiplies tensors")
        known = evaluate(program, (second.lower, second.upper))
        return {site: known[site] for site in sites}
    if isinstance(record, patching.Mean | patching.Constant):
        given: Any = record.mean if isinstance(record, patching.Mean) else record.constant
        if isinstance(given, patching.Inputs):
            found = {site: rows.mean(0) for site, rows in _activations(given, program, sites, file).items()}
            points = {site: received(mean, program.dtype) for site, mean in found.items()}
        else:
            points = {site: _values(given, site, sites[site], program, file) for site in sites}
        return {site: (point, point) for site, point in points.items()}
    if isinstance(record, patching.Box):
        box: Any = record.box
        if isinstance(box, patching.Quantiles):
            rows = _activations(box, program, sites, file)
            low, high = ({s: np.quantile(rows[s], q, axis=0) for s in sites} for q in box.quantiles)
            return {s: (received(low[s], program.dtype), received(high[s], program.dtype)) for s in sites}
        both = {
            s: (_values(box.lower, s, sites[s], program, file), _values(box.upper, s, sites[s], program, file)) for s in sites
        }
        if any((low > high).any() for low, high in both.values()):
            raise Rejected("a patch interval is empty")
        return both
    raise Rejected(f"{record.kind} patching is not covered by certificates")


def _values(given: Any, site: str, group: tuple[NDArray[np.int64], int], program: Program, file: str) -> Array:
    if site not in given:
        raise Rejected(f"no patched values for site {site!r}")
    array = resolve(given[site], file=file, where="$.patching")
    if array.ndim == 1 and len(array) == group[1] != len(group[0]):
        return received(array, program.dtype)[group[0]]
    return received(to_shape(array, program.steps[site].shape, file=file, where="$.patching"), program.dtype)


def _activations(data: Any, program: Program, sites: dict[str, Any], file: str) -> dict[str, Array]:
    """What the model computes at each site on the inputs of a file. Shapes: `(count, size)`."""
    rows = [received(row, program.dtype) for row in inputs(data, program.shape, file=file, where="$.patching")]
    found = [values(program, row) for row in rows]
    return {site: np.stack([value[site] for value in found]) for site in sites}


def _goals(record: agreement.Agreement, n: int, finite: bool) -> list[Goal]:
    if isinstance(record, agreement.Feature):
        raise Rejected("certificates of features are not covered")
    unit, tolerance = np.eye(n), record.tolerance
    named = [*(getattr(record, "outputs", None) or ()), getattr(record, "target", 0), getattr(record, "against", 0)]
    if max(named) >= n:
        raise Rejected(f"the model has no output {max(named)}")
    if finite:
        return []
    if isinstance(record, agreement.Top1):
        return _top1(unit, tolerance)
    if isinstance(record, agreement.LogitDifference):
        forms = unit[[record.target]] - unit[[record.against]]
    else:
        forms = unit if record.outputs is None else unit[list(record.outputs)]
    both = np.concatenate([forms, -forms])
    if isinstance(record, agreement.Logits) and record.norm != "linf":
        return [Goal(both, -both, np.zeros(len(both)), 1 if record.norm == "l1" else 2, tolerance)]
    return [Goal(row[None], -row[None], np.full(1, tolerance)) for row in both]


def _top1(unit: Array, tolerance: float) -> list[Goal]:
    """For each output t that may be the model's first, and each other j: C_t - C_j + tolerance >= 0; or the same less the
    model's own lead of t over j, which is no less than 0 where t is first; or some k beats t in the model, strictly."""
    if len(unit) < 2:
        raise Rejected("top1 of one output")
    tiny, goals = np.finfo(np.float64).tiny, list[Goal]()
    for t in range(len(unit)):
        beaten = [unit[k] - unit[t] for k in range(len(unit)) if k != t]
        for j in (j for j in range(len(unit)) if j != t):
            lead, zero = unit[t] - unit[j], np.zeros(len(unit))
            circuit = np.stack([lead, lead, *[zero] * len(beaten)])
            offset = np.array([tolerance, tolerance, *[-tiny] * len(beaten)])
            goals.append(Goal(circuit, np.stack([zero, -lead, *beaten]), offset))
    return goals


def files_of(question: Question) -> list[Path]:
    """The files of numbers that the spec names: a claim is about what they hold."""
    found: list[Path] = []
    todo: list[object] = [question.spec.model_dump()]
    while todo:
        entry = todo.pop()
        if isinstance(entry, dict):
            entries = cast("dict[str, object]", entry)
            found += [Path(str(entries["file"]))] if isinstance(entries.get("file"), str) else []
            todo += entries.values()
        elif isinstance(entry, list | tuple):
            todo += cast("list[object]", entry)
    return sorted(set(found))
