"""Transformers as exporters write them: read right, and with their activations and masks found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor, nn

from bounds import ops
from specs.errors import InputError
from specs.model import Model, model_from_module
from tests.unit.specs.test_models_onnx import _model, _node, _read, _w


class Block(nn.Module):
    """Two heads with a causal mask, normalisation, and an MLP with one of several activations."""

    def __init__(self, act: str, mask: float, rms: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.qkv, self.out, self.up, self.down = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.norm: Any = nn.RMSNorm(8, eps=1e-5) if rms else nn.LayerNorm(8)
        self.act, self.mask = act, mask

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x)
        q, k, v = (t.reshape(1, 4, 2, 4).transpose(1, 2) for t in self.qkv(n).split(8, dim=-1))
        scores = q @ k.transpose(-1, -2) / 2
        causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
        added = scores + torch.where(causal, -torch.inf, 0.0)
        scores = added if self.mask == 0 else torch.where(causal, self.mask, scores)
        head = torch.softmax(scores, -1) @ v
        x = x + self.out(head.transpose(1, 2).reshape(1, 4, 8))
        h = self.up(x)
        if self.act == "new":
            h = 0.5 * h * (1 + torch.tanh(0.7978845608 * (h + 0.044715 * torch.pow(h, 3))))
        elif self.act == "erf":
            h = h * 0.5 * (1 + torch.erf(h / 1.4142135381698608))
        elif self.act == "silu":
            h = h * torch.sigmoid(h)
        else:
            h = F.gelu(h, approximate="tanh" if self.act == "tanh" else "none")
        return self.down(h)[:, -1]


def _kinds(model: Model) -> list[type]:
    return [type(node.op) for node in model.graph.nodes]


@pytest.mark.parametrize(
    ("act", "kind"),
    [("new", ops.TanhGelu), ("tanh", ops.TanhGelu), ("erf", ops.Gelu), ("gelu", ops.Gelu), ("silu", ops.Silu)],
)
def test_activations_are_found_however_they_are_written(act: str, kind: type) -> None:
    model = model_from_module(Block(act, 0.0), torch.rand(1, 4, 8))
    model.check(-2.0, 2.0, seed=1)
    assert _kinds(model).count(kind) == 1
    assert not {ops.Erf, ops.Sigmoid, ops.Tanh} & set(_kinds(model))


@pytest.mark.parametrize("mask", [0.0, -1e4, -1e9, float(torch.finfo(torch.float32).min), -torch.inf])
def test_masks_are_entries_that_are_absent(mask: float) -> None:
    model = model_from_module(Block("gelu", mask, rms=True), torch.rand(1, 4, 8))
    model.check(-2.0, 2.0, seed=1)
    found = [node.op for node in model.graph.nodes if isinstance(node.op, ops.Softmax)]
    assert len(found) == 1
    absent = found[0].absent
    assert (absent is not None) == (mask == 0.0 or mask < -1e30)
    assert absent is None or torch.equal(absent[0, 0], torch.ones(4, 4, dtype=torch.bool).triu(1))


@pytest.mark.parametrize("equation", ["bqd,hdk->bhqk", "bqd,dk->qbk", "bqd,hqd->bhq", "bqd,bkd->bqk", "kd,bqd->qk"])
def test_einsum_with_a_constant(equation: str) -> None:
    sizes = {"b": 1, "q": 3, "d": 4, "h": 2, "k": 5}
    labels = equation.split("->")[0].split(",")
    operands = ["x" if label == "bqd" else "w" for label in labels]
    node = helper.make_node("Einsum", operands, ["y"], equation=equation)
    if "b" not in equation.split("->")[1]:
        with pytest.raises(InputError, match="summed over"):
            _read(_model([node], (1, 3, 4), {"w": _w(5, 4)}, 13))
        return
    weight = _w(*(sizes[x] for x in labels[operands.index("w")]))
    _read(_model([node], (1, 3, 4), {"w": weight}, 13)).check(-2.0, 2.0, seed=2)


def test_einsum_of_two_that_vary() -> None:
    nodes = [_node("Tanh", ["x"], "w"), helper.make_node("Einsum", ["x", "w"], ["y"], equation="bqd,bkd->bqk")]
    _read(_model(nodes, (1, 3, 4), {}, 13)).check(-2.0, 2.0, seed=2)


CASES: dict[str, tuple[list[Any], dict[str, Any], int]] = {
    "both vary": ([_node("Tanh", ["x"], "t"), _node("Transpose", ["t"], "u", perm=[0, 2, 1]), _node("MatMul", ["x", "u"])],
                  {}, 13),
    "a batch of weights": ([_node("MatMul", ["x", "w"])], {"w": _w(2, 4, 5)}, 13),
    "weights on the left": ([_node("MatMul", ["w", "x"])], {"w": _w(2, 5, 3)}, 13),
    "gate": ([_node("Sigmoid", ["x"], "g"), _node("Relu", ["x"], "r"), _node("Mul", ["r", "g"])], {}, 13),
    "quick gelu": ([_node("Mul", ["x", "c"], "t"), _node("Sigmoid", ["t"], "g"), _node("Mul", ["x", "g"])],
                   {"c": np.array([1.702], np.float32)}, 13),
    "division": ([_node("Exp", ["x"], "e"), _node("Tanh", ["x"], "t"), _node("Div", ["t", "e"])], {}, 13),
    "one over": ([_node("Exp", ["x"], "e"), _node("Div", ["c", "e"])], {"c": _w(4)}, 13),
    "log and root": ([_node("Exp", ["x"], "e"), _node("Log", ["e"], "l"), _node("Sqrt", ["e"], "s"), _node("Add", ["l", "s"])],
                     {}, 13),
    "fourth power": ([_node("Pow", ["x", "p"])], {"p": np.array(4, np.float32)}, 13),
    "inverse root": ([_node("Exp", ["x"], "e"), _node("Pow", ["e", "p"])], {"p": np.array(-0.5, np.float32)}, 13),
    "layer norm": ([_node("LayerNormalization", ["x", "w", "b"], axis=-1)], {"w": _w(4), "b": _w(4)}, 17),
    "old softmax": ([_node("Softmax", ["x"], "s", axis=1), _node("Relu", ["s"])], {}, 11),
    "softmax of an inner axis": ([_node("Softmax", ["x"], "s", axis=1), _node("Relu", ["s"])], {}, 13),
    "choice": ([_node("Tanh", ["x"], "t"), _node("Where", ["c", "x", "t"])], {"c": np.array([True, False, True, False])}, 13),
    "choice of all": ([_node("Where", ["c", "x", "z"], "w"), _node("Relu", ["w"])],
                      {"c": np.ones(4, bool), "z": np.zeros((), np.float32)}, 13),
    "choice of all, repeated": ([_node("Where", ["c", "x", "z"], "w"), _node("Relu", ["w"])],
                                {"c": np.ones((2, 3, 4), bool), "z": np.zeros((), np.float32)}, 13),
    "softmax that is no nan": ([_node("Softmax", ["x"], "s", axis=-1), _node("IsNaN", ["s"], "n"),
                                _node("Where", ["n", "z", "s"], "w"), _node("Relu", ["w"])],
                               {"z": np.zeros((), np.float32)}, 20),
    "constant of a type like": ([_node("CastLike", ["c", "x"], "l"), _node("Mul", ["x", "l"])],
                                {"c": np.array([2, 3, 4, 5])}, 19),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operators_of_transformers(case: str) -> None:
    nodes, constants, opset = CASES[case]
    _read(_model(nodes, (1, 3, 4), constants, opset)).check(-2.0, 2.0, seed=2)


REFUSED: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "masked out as a whole": ([_node("Add", ["x", "m"], "s"), _node("Softmax", ["s"], "p"), _node("Relu", ["p"])],
                              {"m": np.full((4,), -np.inf, np.float32)}),
    "only a softmax may read a masked tensor": ([_node("Add", ["x", "m"], "s"), _node("Relu", ["s"])],
                                                {"m": np.array([0, 0, 0, -np.inf], np.float32)}),
    "an exponent of 1.5": ([_node("Pow", ["x", "p"])], {"p": np.array(1.5, np.float32)}),
    "summed over": ([helper.make_node("Einsum", ["x", "w"], ["y"], equation="bqd,dk->bk")], {"w": _w(4, 5)}),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_is_named(message: str) -> None:
    nodes, constants = REFUSED[message]
    with pytest.raises(InputError, match=message) as caught:
        _read(_model(nodes, (1, 3, 4), constants, 13))
    assert len(str(caught.value).splitlines()) == 1


def test_a_masked_tensor_is_no_site() -> None:
    """A patch would bring back an entry that the mask has taken out, in the model's own runtime but not here."""
    nodes = [_node("Add", ["x", "m"], "s"), _node("Softmax", ["s"], "p"), _node("Relu", ["p"])]
    model = _read(_model(nodes, (1, 3, 4), {"m": np.array([0, 0, 0, -np.inf], np.float32)}, 13))
    assert [site.name for site in model.sites()] == ["p"]
    last = [_node("Add", ["x", "m"], "s"), _node("Softmax", ["s"])]
    with pytest.raises(InputError, match="holds minus infinity"):
        _read(_model(last, (1, 3, 4), {"m": np.array([0, 0, 0, -np.inf], np.float32)}, 13))
