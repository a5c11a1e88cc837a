"""ONNX operators that are affine in what depends on the model's input."""

from __future__ import annotations

import torch
from torch import Tensor

from specs.models.onnx_attention import divide, multiply, product
from specs.models.onnx_call import MASKED, Call, Handler

__all__ = ["HANDLERS"]


def _gemm(call: Call) -> None:
    b = call.builder
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    bias = beta * call.tensor(2) if call.given(2) else None
    left = call.is_constant(0)
    if not left and not call.is_constant(1):
        _gemm_of_two(call, alpha, bias)
        return
    x, turned = call.varying(int(left)), bool(call.attribute("transB" if left else "transA", 0))
    weight = call.tensor(int(not left)) * alpha
    weight = weight.T if bool(call.attribute("transA" if left else "transB", 0)) else weight
    if turned:
        x = b.transpose(x, (1, 0), name=b.fresh(call.result, "turned"))
    if not left and (bias is None or bias.dim() < 2 or bias.shape[0] == 1):
        row = None if bias is None else bias.expand(1, weight.shape[1])[0]
        b.dense(x, weight.T, row, name=call.result)
        return
    product = call.result if bias is None else b.fresh(call.result, "product")
    if left:
        b.dense_left(x, weight, name=product)
    else:
        b.dense(x, weight.T, name=product)
    if bias is not None:
        b.scale(product, bias=bias, name=call.result)


def _gemm_of_two(call: Call, alpha: float, bias: Tensor | None) -> None:
    b = call.builder
    a, c = (
        b.transpose(call.varying(i), (1, 0), name=b.fresh(call.result, "turned"))
        if bool(call.attribute(side, 0))
        else call.varying(i)
        for i, side in enumerate(("transA", "transB"))
    )
    plain = alpha == 1 and bias is None
    made = b.matmul(a, c, name=call.result if plain else b.fresh(call.result, "product"))
    if not plain:
        b.scale(made, None if alpha == 1 else alpha, bias, name=call.result)


def _matmul(call: Call) -> None:
    b = call.builder
    left = call.is_constant(0)
    if not left and not call.is_constant(1):
        product(call, call.varying(0), call.varying(1), call.result)
        return
    x, weight = call.varying(int(left)), call.tensor(int(not left))
    shape = b.shape(x)
    if (before := weight.shape[:-2]).numel() != 1:
        product(call, *((weight, x) if left else (x, weight)), call.result)
        return
    matrix = weight.reshape(weight.shape[-2:])
    lone = matrix.dim() == 1
    # ONNX, like NumPy, takes a vector on the right for a column, on the left for a row, and drops that axis afterwards.
    column = left and len(shape) == 1
    rows = matrix[None] if lone else (matrix if left else matrix.T)
    wider = max(0, len(before) - max(0, len(shape) - 2)) if not column else len(before)
    made = b.fresh(call.result, "product") if lone or wider else call.result
    if left and not column:
        b.dense_left(x, rows, name=made)
    else:
        b.dense(x, rows, name=made)
    if made != call.result:
        after = list(b.shape(made))
        if lone:
            after.pop(-2 if left and not column else -1)
        b.reshape(made, [1] * wider + after, name=call.result)


def _conv(call: Call) -> None:
    weight = call.tensor(1)
    kernel = list(weight.shape[2:])
    space = call.shape(0)[2:]
    stride, begins, ends, dilation = window(call, kernel, space)
    bias = call.tensor(2) if call.given(2) else None
    groups = int(call.attribute("group", 1))
    call.builder.conv(call.varying(0), weight, bias, stride, begins, ends, dilation, groups, name=call.result)


def window(call: Call, kernel: list[int], space: tuple[int, ...]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, pads at the begin, pads at the end and dilations of a convolution or pooling."""
    rank = len(kernel)
    if len(space) != rank or rank not in (1, 2):
        raise call.error(f"a window of {rank} axes on {len(space)} axes of space", "one or two axes are supported here")
    stride = [int(n) for n in call.attribute("strides", [1] * rank)]
    dilation = [int(n) for n in call.attribute("dilations", [1] * rank)]
    pads = [int(n) for n in call.attribute("pads", [0] * 2 * rank)]
    begins, ends = pads[:rank], pads[rank:]
    auto = call.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        begins, ends = [0] * rank, [0] * rank
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        total = [max(0, (-(-n // s) - 1) * s + r - n) for n, s, r in zip(space, stride, reach, strict=True)]
        small, large = [n // 2 for n in total], [n - n // 2 for n in total]
        begins, ends = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto not in ("NOTSET", ""):
        raise call.error(f"auto_pad {auto!r}", "use NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    return stride, begins, ends, dilation


def _batch_normalization(call: Call) -> None:
    if call.attribute("training_mode", 0) or call.attribute("spatial", 1) == 0:
        raise call.error("training_mode or spatial=0", "only inference over channels is supported here")
    scale, bias, mean, variance = (call.tensor(i) for i in (1, 2, 3, 4))
    weight = scale / torch.sqrt(variance + float(call.attribute("epsilon", 1e-5)))
    trailing = [1] * (len(call.shape(0)) - 2)
    call.builder.scale(
        call.varying(0), weight.reshape(-1, *trailing), (bias - mean * weight).reshape(-1, *trailing), name=call.result
    )


def _add(call: Call) -> None:
    _combine(call, 1)


def _sub(call: Call) -> None:
    _combine(call, -1)


def _combine(call: Call, sign: int) -> None:
    b = call.builder
    if call.is_constant(0) and sign > 0 and call.hides(0):
        _mask(call, call.varying(1), call.open_tensor(0))
    elif call.is_constant(0):
        b.scale(call.varying(1), None if sign > 0 else torch.tensor(-1.0), call.tensor(0), name=call.result)
    elif call.is_constant(1) and sign > 0 and call.hides(1):
        _mask(call, call.varying(0), call.open_tensor(1))
    elif call.is_constant(1):
        b.scale(call.varying(0), None, sign * call.tensor(1), name=call.result)
    else:
        b.sum((call.varying(0), call.varying(1)), (1, sign), name=call.result)


def _mask(call: Call, x: str, mask: Tensor) -> None:
    """A mask added to scores: numbers, and minus infinity where entries are taken out."""
    b, gone = call.builder, mask <= MASKED
    rest = torch.where(gone, 0.0, mask)
    if not bool(rest.isfinite().all()):
        raise call.error("a mask that is not a number, or infinite", "finite numbers and minus infinity are supported here")
    shifted = b.scale(x, None, rest, name=b.fresh(call.result, "shifted")) if bool((rest != 0).any()) else x
    call.masked(shifted, ~gone, mask)


def _sum(call: Call) -> None:
    b = call.builder
    varying = [i for i in range(len(call.node.input)) if not call.is_constant(i)]
    total: Tensor | None = None
    for i in range(len(call.node.input)):
        if call.is_constant(i):
            total = call.tensor(i) if total is None else total + call.tensor(i)
    names = [call.varying(i) for i in varying]
    joined = b.sum(names, name=call.result if total is None else b.fresh(call.result, "sum"))
    if total is not None:
        b.scale(joined, bias=total, name=call.result)


def _mul(call: Call) -> None:
    left = call.is_constant(0)
    if not left and not call.is_constant(1):
        multiply(call)
        return
    call.builder.scale(call.varying(int(left)), call.tensor(int(not left)), name=call.result)


def _div(call: Call) -> None:
    if not call.is_constant(1):
        divide(call)
        return
    divisor = call.tensor(1)
    if bool((divisor == 0).any()):
        raise call.error("the divisor holds 0", "division by numbers other than 0 is supported here")
    call.builder.scale(call.varying(0), 1 / divisor, name=call.result)


def _neg(call: Call) -> None:
    call.builder.scale(call.varying(0), torch.tensor(-1.0), name=call.result)


def _reduce(mean: bool) -> Handler:
    def handle(call: Call) -> None:
        axes = call.axes(1)
        if not axes and call.attribute("noop_with_empty_axes", 0):
            call.builder.scale(call.varying(0), name=call.result)
            return
        keep = bool(call.attribute("keepdims", 1))
        call.builder.reduce(call.varying(0), axes or range(len(call.shape(0))), mean=mean, keepdims=keep, name=call.result)

    return handle


HANDLERS: dict[str, Handler] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    "BatchNormalization": _batch_normalization,
    "Add": _add,
    "Sub": _sub,
    "Sum": _sum,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "ReduceMean": _reduce(True),
    "ReduceSum": _reduce(False),
}
