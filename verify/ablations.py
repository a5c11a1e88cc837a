"""One circuit under every patching: how much a verdict owes to what ablated components are replaced with."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from specs import patching as patches
from specs.errors import InputError
from specs.record import ArrayFile
from specs.region import L2, Linf
from verify.frontier import changed

if TYPE_CHECKING:
    import torch

    from specs.circuit import Circuit
    from specs.model import Model
    from specs.spec import Spec
    from verify.api import Path_
    from verify.report import Report
    from verify.work.progress import Progress

__all__ = ["Ablation", "Answer", "Radius", "bracket", "kinds", "robustness"]

Answer: TypeAlias = Literal["certified", "falsified", "unknown"]

QUANTILES = (0.01, 0.99)
"""What `box` patching lies between, where the spec does not say."""

_LARGEST = 2.0**6
"""Times the spec's radius: no larger one is asked about."""


@dataclass(frozen=True, slots=True)
class Radius:
    """Where a circuit stops being faithful as its region grows: certified up to `certified` (None: at no radius that was
    asked), falsified from `falsified` on (None: at none). In between nothing is known. `asked`: radius and answer, in order."""

    certified: float | None
    falsified: float | None
    asked: tuple[tuple[float, Answer], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Ablation:
    """One kind of patching: what it is taken from, in words, the report at the spec's own radius, and the radius (None: not
    looked for, or the region has none)."""

    kind: str
    source: str
    report: Report
    radius: Radius | None


def robustness(
    circuit: Path_ | Circuit,
    spec: Path_ | Spec,
    model: Path_ | Model | torch.nn.Module | None = None,
    *,
    radii: int = 8,
    timeout_s: float | None = None,
    seed: int = 0,
    allow_code: bool = False,
    progress: Progress | None = None,
    hard: bool | None = None,
) -> Iterator[Ablation]:
    """Decide a circuit's claim under every patching that the spec's data allow, one after another (see `kinds`).

    `radii` is how many further radii each kind is asked at, to bracket the largest certified one; 0 for none. Each question has
    the whole budget: `timeout_s`, or the spec's. A claim about a radius is one about all smaller ones, as regions of one center
    are nested; where patched values come from the spec's own region, that one has the same radius.
    Guarantees: each verdict is one of `certify`. Raises: as `certify`.
    """
    from specs.load import read_circuit, read_spec
    from verify.api import certify
    from verify.model import model_of

    read = read_circuit(circuit) if isinstance(circuit, str | os.PathLike) else circuit
    asked = read_spec(spec) if isinstance(spec, str | os.PathLike) else spec
    asked = asked.model_copy(update={"minimality": "none"})
    loaded = model_of(read, asked, model, allow_code)

    def decide(question: Spec) -> Report:
        return certify(read, question, loaded, timeout_s=timeout_s, seed=seed, progress=progress, hard=hard)

    for source, patching in kinds(asked):
        question = asked.model_copy(update={"patching": patching})
        report = decide(question)
        radius = None
        if radii > 0 and _has_radius(question):
            radius = _radius(question, report.verdict, radii, lambda varied: decide(varied).verdict)
        yield Ablation(patching.kind, source, report, radius)


def kinds(spec: Spec) -> list[tuple[str, patches.Patching]]:
    """The patching domains that a spec's data allow, each with where its values come from.

    Its own first. `zero` always; `mean` and `box` where its patching names a file of inputs or its center is an entry of one;
    `reachable`, `resample` and `closed` over the spec's own input region.
    """
    own, region = spec.patching, spec.input
    found: list[tuple[str, patches.Patching]] = [("the spec's own", own), ("0", patches.Zero())]
    data = _samples(spec)
    if data is not None:
        whence = f"inputs in {os.path.basename(data.file)}"
        fields: dict[str, Any] = {name: getattr(data, name) for name in patches.Inputs.model_fields}
        low, high = QUANTILES
        # Not validated again: paths were joined when the spec was read.
        found.append((f"mean over {whence}", patches.Mean(mean=patches.Inputs.model_construct(**fields))))
        quantiles = patches.Quantiles.model_construct(**fields, quantiles=QUANTILES)
        found.append((f"{low:g} to {high:g} quantiles over {whence}", patches.Box(box=quantiles)))
    second = "the spec's input region"
    found.append((f"one input of {second}", patches.Reachable(reachable=region)))
    found.append((f"an input of {second} each", patches.Resample(resample=region)))
    found.append((f"interval closure over {second}", patches.Closed(closed=region)))
    return [entry for i, entry in enumerate(found) if i == 0 or entry[1].kind != own.kind]


def _samples(spec: Spec) -> patches.Inputs | None:
    """Inputs of the model that the spec names: under its patching, else those that its center is one of."""
    match spec.patching:
        case patches.Mean(mean=patches.Inputs() as data) | patches.Constant(constant=patches.Inputs() as data):
            return data
        case patches.Box(box=patches.Quantiles() as data):
            return data
        case _:
            pass
    region = spec.input
    if isinstance(region, Linf | L2) and isinstance(region.center, ArrayFile) and region.center.index is not None:
        center = region.center
        return patches.Inputs.model_construct(file=center.file, array=center.array, scale=region.scale, layout=region.layout)
    return None


def _has_radius(spec: Spec) -> bool:
    return isinstance(spec.input, Linf | L2) and isinstance(spec.input.epsilon, float) and not _fixed(spec)


def _fixed(spec: Spec) -> bool:
    """Whether patched values come from a region of their own that a larger input region would no longer be part of."""
    return isinstance(spec.patching, patches.Closed) and spec.patching.closed != spec.input


def _radius(spec: Spec, verdict: Answer, count: int, answer: Callable[[Spec], Answer]) -> Radius:
    region = spec.input
    assert isinstance(region, Linf | L2) and isinstance(region.epsilon, float)

    def at(radius: float) -> Answer:
        varied = changed(spec, "epsilon", radius)
        kind = spec.patching.kind
        if getattr(spec.patching, kind, None) == region:
            # Patched values come from the spec's own region: it grows with the claim's.
            varied = varied.model_copy(update={"patching": spec.patching.model_copy(update={kind: varied.input})})
        return answer(varied)

    return bracket(at, region.epsilon, verdict, count)


def bracket(ask: Callable[[float], Answer], first: float, known: Answer, count: int) -> Radius:
    """Bracket the largest certified radius with at most `count` further questions, from the answer `known` at `first`.

    Doubles while all is certified (up to 64 times `first`), asks at 0 where nothing is, then halves the gaps beside what stayed
    unknown, the wider one first. No question is asked whose answer follows from others. Guarantees: both ends are radii that
    were answered so. Raises: InputError: `first` is negative.
    """
    if first < 0:
        raise InputError("epsilon", "", f"{first}", "a radius of 0 or more")
    asked: list[tuple[float, Answer]] = [(first, known)]
    for _ in range(count):
        radius = _next(asked, first)
        if radius is None:
            break
        asked.append((radius, ask(radius)))
    low, high = _ends(asked)
    return Radius(low, high, tuple(asked))


def _ends(asked: list[tuple[float, Answer]]) -> tuple[float | None, float | None]:
    low = max((radius for radius, answer in asked if answer == "certified"), default=None)
    high = min((radius for radius, answer in asked if answer == "falsified"), default=None)
    return low, high


def _next(asked: list[tuple[float, Answer]], first: float) -> float | None:
    """The radius to ask at; None where there is no more to learn."""
    low, high = _ends(asked)
    if low is None:
        # At 0 the region is a point: where not even that is certified, no radius is.
        return 0.0 if all(radius > 0 for radius, _ in asked) else None
    end = math.inf if high is None else high
    opened = [radius for radius, answer in asked if answer == "unknown" and low < radius < end]
    if not opened and high is None:
        return 2 * low if 0 < low < first * _LARGEST else None
    gaps = [(low, min(opened)), (max(opened), end)] if opened else [(low, end)]
    below, above = max((gap for gap in gaps if gap[1] < math.inf), key=lambda gap: gap[1] - gap[0])
    middle = (below + above) / 2
    return middle if below < middle < above else None
