"""A spec in one English sentence: exactly what a certified verdict proves, and a falsified one refutes."""

from __future__ import annotations

from typing import Any

from specs import agreement as agreements
from specs import patching as patches
from specs import region as regions
from specs.record import ArrayFile
from specs.spec import Spec

__all__ = ["sentence"]

_NORMS = {"linf": "largest", "l1": "sum of all", "l2": "Euclidean norm of the"}


def sentence(spec: Spec) -> str:
    """What is claimed of a circuit, `For every input … and …, …`. Numbers are those of the spec; files go by their name."""
    return f"For every input {_region(spec.input)}, with {_patching(spec.patching)}, {_agreement(spec.agreement)}."


def _region(region: regions.Region) -> str:
    if isinstance(region, regions.Linf):
        radius = "its own radius" if not isinstance(region.epsilon, float) else f"{region.epsilon:g}"
        said = f"within {radius} of {_center(region.center)} in every coordinate"
    elif isinstance(region, regions.L2):
        said = f"within Euclidean distance {region.epsilon:g} of {_center(region.center)}"
    elif isinstance(region, regions.Box):
        said = "of the box between `lower` and `upper`"
    elif isinstance(region, regions.Tokens):
        return _tokens(region)
    else:
        said = f"of the convex hull of {_points(region.points)}"
    return said + _clip(region.clip)


def _tokens(region: regions.Tokens) -> str:
    said = "that is" if region.epsilon == 0 else f"within {region.epsilon:g} in every coordinate of"
    kind = "the sum of the one-hot rows of" if region.sum else "the one-hot rows of"
    if region.sequences is not None:
        given = region.sequences
        listed = _named(given) if isinstance(given, ArrayFile) else "the given ones"
        return f"{said} {kind} a sequence of tokens, one of {listed}"
    if region.positions == "all":
        return f"{said} {kind} any sequence of tokens"
    counts = ", ".join("all" if options == "all" else str(len(options)) for options in region.positions or ())
    return f"{said} {kind} a sequence of tokens, each position's one of its alternatives (as many as {counts})"


def _center(center: Any) -> str:
    if not isinstance(center, ArrayFile):
        return "the given center"
    where = _named(center)
    if isinstance(center.index, tuple):
        return f"each of the entries {', '.join(map(str, center.index))} of {where}"
    return where if center.index is None else f"entry {center.index} of {where}"


def _points(points: Any) -> str:
    return f"points of {_named(points)}" if isinstance(points, ArrayFile) else f"{len(points)} given points"


def _named(file: ArrayFile | patches.Inputs) -> str:
    # The last part only: what leads to a file differs from machine to machine.
    name = file.file.replace("\\", "/").rsplit("/", 1)[-1]
    return name if file.array is None else f"{file.array} in {name}"


def _clip(clip: Any) -> str:
    if clip is None:
        return ""
    low, high = clip
    if all(isinstance(end, float) for end in (low, high)):
        return f" and in [{low:g}, {high:g}]"
    return " and in the valid range of the spec"


def _patching(patching: patches.Patching) -> str:
    match patching:
        case patches.Zero():
            return "every ablated component set to 0"
        case patches.Mean(mean=given) | patches.Constant(constant=given):
            mean = isinstance(patching, patches.Mean) or isinstance(given, patches.Inputs)
            over = f" over {_named(given)}" if isinstance(given, patches.Inputs) else ""
            return f"every ablated component set to {'its mean' + over if mean else 'a given value'}"
        case patches.Box(box=given):
            if isinstance(given, patches.Quantiles):
                low, high = given.quantiles
                return f"every ablated element anywhere between its {low:g} and {high:g} quantiles over {_named(given)}"
            return "every ablated element anywhere in an interval of its own"
        case patches.Reachable(reachable=region):
            return f"all ablated components taken from any one second input {_region(region)}"
        case patches.Resample(resample=region):
            return f"each ablated component taken from any input of its own {_region(region)}"
        case patches.Closed(closed=region):
            return (
                "each ablated component anywhere in the interval that it is in whenever all upstream are in theirs, "
                f"over inputs {_region(region)}"
            )


def _agreement(agreement: agreements.Agreement) -> str:
    limit = f"{agreement.tolerance:.12g}"
    match agreement:
        case agreements.Logits(norm=norm, outputs=outputs):
            among = "" if outputs is None else f" among outputs {', '.join(map(str, outputs))}"
            noun = "deviation" if norm == "linf" else "deviations"
            return f"the {_NORMS[norm]} {noun} of the circuit's outputs from the model's{among} is at most {limit}"
        case agreements.LogitDifference(target=target, against=against):
            return f"output {target} minus output {against} of the circuit is within {limit} of the model's"
        case agreements.Top1():
            rank = "first" if agreement.tolerance == 0 else f"first, or at most {limit} below its first"
            return f"the circuit ranks the model's first output {rank}"
        case agreements.Output(outputs=outputs):
            return f"the circuit's outputs {', '.join(map(str, outputs))} are each within {limit} of the model's"
        case agreements.Feature():
            return _feature(agreement)


def _feature(feature: agreements.Feature) -> str:
    what = "the given direction"
    if isinstance(feature.direction, ArrayFile):
        what = f"the direction {_center(feature.direction)}"
    elif feature.element is not None:
        what = f"element {feature.element}"
    where = "every position" if feature.at is None else f"position {', '.join(map(str, feature.at))}" if feature.at else ""
    ends = [
        f"{word} {threshold:.12g}"
        for word, threshold in (("at most", feature.below), ("at least", feature.above))
        if threshold is not None
    ]
    within = "" if feature.tolerance == 0 else f", within {feature.tolerance:.12g}"
    return f"{what} of {feature.site}{' at ' + where if where else ''} in the circuit's run is {' and '.join(ends)}{within}"
