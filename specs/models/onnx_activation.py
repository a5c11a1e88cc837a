"""ONNX operators that apply one function to each element."""

from __future__ import annotations

import math

import torch

from bounds.ops import Clip, Erf, Exp, Gelu, LeakyRelu, Log, Reciprocal, Relu, Sigmoid, Sign, Silu, Sqrt, Tanh, TanhGelu
from bounds.ops.base import Elementwise
from specs.models.onnx_call import Call, Handler

__all__ = ["HANDLERS"]

_LARGEST = 3.4e38
"""Older opsets state a missing end of Clip as the largest float."""


def _apply(op: Elementwise) -> Handler:
    def handle(call: Call) -> None:
        call.builder.elementwise(op, call.varying(0), name=call.result)

    return handle


def _leaky_relu(call: Call) -> None:
    call.builder.elementwise(LeakyRelu(float(call.attribute("alpha", 0.01))), call.varying(0), name=call.result)


def _prelu(call: Call) -> None:
    slope = call.tensor(1)
    if slope.numel() != 1:
        raise call.error(f"{slope.numel()} slopes", "one slope for all elements is supported here")
    call.builder.elementwise(LeakyRelu(float(slope)), call.varying(0), name=call.result)


def _end(call: Call, i: int, attribute: str, default: float) -> float:
    value = float(call.array(i).reshape(())) if call.given(i) else float(call.attribute(attribute, default))
    if math.isnan(value):
        raise call.error(f"its {attribute} is NaN", "a number is needed")
    return default if abs(value) >= _LARGEST else value


def _clip(call: Call) -> None:
    low, high = _end(call, 1, "min", -math.inf), _end(call, 2, "max", math.inf)
    if low >= high:
        call.builder.scale(call.varying(0), torch.tensor(0.0), torch.tensor(high), name=call.result)
    elif math.isinf(low) and math.isinf(high):
        call.builder.scale(call.varying(0), name=call.result)
    else:
        op = Relu() if (low, high) == (0.0, math.inf) else Clip(low, high)
        call.builder.elementwise(op, call.varying(0), name=call.result)


def _gelu(call: Call) -> None:
    op = TanhGelu() if call.attribute("approximate", "none") == "tanh" else Gelu()
    call.builder.elementwise(op, call.varying(0), name=call.result)


def _swish(call: Call) -> None:
    alpha = float(call.attribute("alpha", 1.0))
    if alpha != 1:
        raise call.error(f"alpha {alpha:g}", "alpha 1 is supported here")
    _apply(Silu())(call)


HANDLERS: dict[str, Handler] = {
    "Relu": _apply(Relu()),
    "Sigmoid": _apply(Sigmoid()),
    "Tanh": _apply(Tanh()),
    "Sign": _apply(Sign()),
    "Erf": _apply(Erf()),
    "Exp": _apply(Exp()),
    "Log": _apply(Log()),
    "Sqrt": _apply(Sqrt()),
    "Reciprocal": _apply(Reciprocal()),
    "Gelu": _gelu,
    "Swish": _swish,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Clip": _clip,
}
