"""ONNX pooling."""

from __future__ import annotations

from specs.models.onnx_affine import window
from specs.models.onnx_call import Call, Handler

__all__ = ["HANDLERS"]


def _max_pool(call: Call) -> None:
    kernel = [int(n) for n in call.attribute("kernel_shape")]
    stride, begins, ends, dilation = window(call, kernel, call.shape(0)[2:])
    ceil = bool(call.attribute("ceil_mode", 0))
    call.builder.max_pool(call.varying(0), kernel, stride, begins, ends, dilation, ceil=ceil, name=call.result)


def _average_pool(call: Call) -> None:
    kernel = [int(n) for n in call.attribute("kernel_shape")]
    stride, begins, ends, dilation = window(call, kernel, call.shape(0)[2:])
    ceil, count = bool(call.attribute("ceil_mode", 0)), bool(call.attribute("count_include_pad", 0))
    call.builder.average_pool(
        call.varying(0), kernel, stride, begins, ends, dilation, count_pads=count, ceil=ceil, name=call.result
    )


def _global_average_pool(call: Call) -> None:
    call.builder.reduce(call.varying(0), range(2, len(call.shape(0))), mean=True, name=call.result)


def _global_max_pool(call: Call) -> None:
    space = list(call.shape(0)[2:])
    one, none = [1] * len(space), [0] * len(space)
    window(call, space, tuple(space))
    call.builder.max_pool(call.varying(0), space, one, none, none, one, name=call.result)


HANDLERS: dict[str, Handler] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
}
