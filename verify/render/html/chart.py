"""The bracket of a search over time, as SVG: the cost of the best circuit from above, what is proven of any from below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify.render.html.svg import canvas, put, text, written

if TYPE_CHECKING:
    from verify.report import Moment

__all__ = ["bracket"]

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 150, 14, 36


def bracket(trace: Sequence[Moment], until_s: float) -> str:
    """Two step lines and the gap between them; empty where nothing was traced. The last state holds until `until_s`."""
    if not trace:
        return ""
    end = max(until_s, trace[-1].time_s, 1e-9)
    top = max(max(moment.upper for moment in trace), 1.0)
    root = canvas(_WIDTH, _HEIGHT, "the bracket of the least cost over time")

    def at(time_s: float, cost: float) -> tuple[float, float]:
        wide, tall = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
        return _LEFT + wide * time_s / end, _TOP + tall * (1 - cost / top)

    for i in range(5):
        _, y = at(0, top * i / 4)
        put(root, "line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid")
        text(root, _LEFT - 6, y + 4, f"{top * i / 4:.4g}", "small", "end")
        x, _ = at(end * i / 4, 0)
        text(root, x, _HEIGHT - _BOTTOM + 16, f"{end * i / 4:.3g}", "small", "middle")
    text(root, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 4, "seconds", "small", "middle")
    uppers = _steps([(moment.time_s, float(moment.upper)) for moment in trace], end)
    lowers = _steps([(moment.time_s, float(moment.lower)) for moment in trace], end)
    put(root, "polygon", points=_points([at(*p) for p in uppers + lowers[::-1]]), class_="gap")
    heights: list[float] = []
    for name, steps, said in (("upper", uppers, "smallest certified"), ("lower", lowers, "proven lower bound")):
        put(root, "polyline", points=_points([at(*p) for p in steps]), class_=name)
        x, y = at(*steps[-1])
        heights.append(y)
        # Where the bracket has closed both labels would lie on each other.
        y += 5 if name == "upper" or abs(heights[0] - y) > 16 else 21
        text(root, x + 6, y, f"{said} {steps[-1][1]:g}", f"small {name}-label")
    return written(root)


def _steps(values: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    made: list[tuple[float, float]] = [values[0]]
    for time_s, value in values[1:]:
        made += [(time_s, made[-1][1]), (time_s, value)]
    return [*made, (end, made[-1][1])]


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
