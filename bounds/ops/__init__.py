"""Operators: one idea a file. The folder is the registry; tests in `tests/laws` run over every subclass there is."""

from bounds.ops.base import Affine, Elementwise, Joint, Lines, Nonlinear, Op, Shape
from bounds.ops.clip import Clip, Sign
from bounds.ops.combine import Concat, Maximum, Sum
from bounds.ops.conv import Conv
from bounds.ops.convex import Exp, Log, Reciprocal, Sqrt, Square
from bounds.ops.curve import Erf, Gelu, Silu, TanhGelu
from bounds.ops.dense import Dense
from bounds.ops.jump import JumpRelu
from bounds.ops.product import Product
from bounds.ops.reduce import Reduce
from bounds.ops.relu import LeakyRelu, Relu
from bounds.ops.reshape import Reshape, Transpose
from bounds.ops.scale import Scale
from bounds.ops.smooth import Sigmoid, Tanh
from bounds.ops.softmax import Softmax
from bounds.ops.take import Take
from bounds.ops.topk import TopK

__all__ = [
    "Affine",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Elementwise",
    "Erf",
    "Exp",
    "Gelu",
    "Joint",
    "JumpRelu",
    "LeakyRelu",
    "Lines",
    "Log",
    "Maximum",
    "Nonlinear",
    "Op",
    "Product",
    "Reciprocal",
    "Reduce",
    "Relu",
    "Reshape",
    "Scale",
    "Shape",
    "Sigmoid",
    "Sign",
    "Silu",
    "Softmax",
    "Sqrt",
    "Square",
    "Sum",
    "Take",
    "Tanh",
    "TanhGelu",
    "TopK",
    "Transpose",
]
