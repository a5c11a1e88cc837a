"""Operators: one idea a file. The folder is the registry; tests in `tests/laws` run over every subclass there is."""

from bounds.ops.base import Affine, Elementwise, Lines, Op, Shape
from bounds.ops.clip import Clip, Sign
from bounds.ops.combine import Concat, Maximum, Sum
from bounds.ops.conv import Conv
from bounds.ops.dense import Dense
from bounds.ops.reduce import Reduce
from bounds.ops.relu import LeakyRelu, Relu
from bounds.ops.reshape import Reshape, Transpose
from bounds.ops.scale import Scale
from bounds.ops.smooth import Sigmoid, Tanh
from bounds.ops.take import Take

__all__ = [
    "Affine",
    "Clip",
    "Concat",
    "Conv",
    "Dense",
    "Elementwise",
    "LeakyRelu",
    "Lines",
    "Maximum",
    "Op",
    "Reduce",
    "Relu",
    "Reshape",
    "Scale",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sum",
    "Take",
    "Tanh",
    "Transpose",
]
