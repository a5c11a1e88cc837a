"""Every lowering computes what torch computes, at random inputs; sites and channels are where they should be."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.build import Builder
from bounds.graph import GraphError
from bounds.ops import Relu


def _real(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


def _run(b: Builder, output: str, x: Tensor) -> Tensor:
    return b.build(output)(x)


def test_dense_and_scale_widen_and_keep_names() -> None:
    b = Builder("x", (1, 3))
    b.dense("x", _real(4, 3), _real(4), name="h")
    b.elementwise(Relu(), "h", name="r")
    b.scale("r", _real(2, 1, 4), _real(1), name="y")
    x = _real(5, 1, 3)
    expected = torch.relu(x @ _real(4, 3).T + _real(4)).unsqueeze(1) * _real(2, 1, 4) + _real(1)
    assert torch.allclose(_run(b, "y", x), expected)
    sites = [(n.name, n.site) for n in b.build("y").nodes]
    assert sites == [("h", True), ("r", True), ("y#wide0", False), ("y", True)]


def test_sum_broadcasts_two_tensors() -> None:
    b = Builder("x", (1, 2, 3))
    b.reduce("x", [2], mean=True, name="m")
    b.sub("x", "m", name="y")
    x = _real(4, 1, 2, 3)
    assert torch.allclose(_run(b, "y", x), x - x.mean(-1, keepdim=True))


def test_dense_left_is_a_product_from_the_left() -> None:
    b = Builder("x", (2, 3, 4))
    b.dense_left("x", _real(5, 3), name="y")
    x = _real(2, 2, 3, 4)
    assert torch.allclose(_run(b, "y", x), _real(5, 3) @ x)


@pytest.mark.parametrize("ends", [(1, 1), (2, 0)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_with_its_own_pads_at_each_end(ends: tuple[int, int], groups: int) -> None:
    b = Builder("x", (1, 4, 7, 6))
    w, bias = _real(6, 4 // groups, 3, 2), _real(6)
    b.conv("x", w, bias, (2, 1), (1, 1), ends, (1, 2), groups, name="y")
    x = _real(3, 1, 4, 7, 6)
    padded = F.pad(x[:, 0], (1, ends[1], 1, ends[0]))
    assert torch.allclose(_run(b, "y", x)[:, 0], F.conv2d(padded, w, bias, (2, 1), 0, (1, 2), groups))
    assert b.channel_axis("y") == 1


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "dilation"),
    [
        ((2, 2), (2, 2), (0, 0), (1, 1)),
        ((3, 3), (2, 2), (1, 1), (1, 1)),
        ((3, 2), (1, 3), (1, 0), (2, 1)),
        ((1, 1), (2, 2), (0, 0), (1, 1)),
    ],
)
def test_max_pool(
    kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], dilation: tuple[int, int], ceil: bool
) -> None:
    b = Builder("x", (1, 2, 7, 8))
    b.max_pool("x", kernel, stride, pad, pad, dilation, ceil=ceil, name="y")
    x = _real(3, 1, 2, 7, 8)
    assert torch.allclose(_run(b, "y", x)[:, 0], F.max_pool2d(x[:, 0], kernel, stride, pad, dilation, ceil))
    assert [n.name for n in b.build("y").nodes if n.site] == ["y"]


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [((2, 2), (2, 2), (0, 0)), ((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 3), (1, 0))]
)
def test_average_pool(kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int], count: bool, ceil: bool) -> None:
    b = Builder("x", (1, 2, 7, 8))
    b.average_pool("x", kernel, stride, pad, pad, (1, 1), count_pads=count, ceil=ceil, name="y")
    x = _real(3, 1, 2, 7, 8)
    assert torch.allclose(_run(b, "y", x)[:, 0], F.avg_pool2d(x[:, 0], kernel, stride, pad, ceil, count))


def test_concat_with_constants_between() -> None:
    b = Builder("x", (1, 2))
    b.scale("x", 2.0, name="d")
    b.concat([_real(1, 1), "x", _real(1, 3), "d"], -1, name="y")
    x = _real(4, 1, 2)
    expected = torch.cat([_real(1, 1).expand(4, 1, 1), x, _real(1, 3).expand(4, 1, 3), 2 * x], -1)
    assert torch.allclose(_run(b, "y", x), expected)


def test_slice_expand_pad() -> None:
    b = Builder("x", (1, 3, 4))
    b.slice("x", [slice(None), slice(1, 3), slice(None, None, 2)], name="s")
    b.expand("s", (2, 2, 2), name="e")
    b.pad("e", (0, 1, -1), (0, 0, 2), 7.0, name="y")
    x = _real(5, 1, 3, 4)
    s = x[:, :, 1:3, ::2].expand(5, 2, 2, 2)
    assert torch.equal(_run(b, "y", x), F.pad(s, (-1, 2, 1, 0), value=7.0))


def test_channels_are_followed() -> None:
    b = Builder("x", (1, 2, 6, 6))
    b.conv("x", _real(4, 2, 3, 3), name="c")
    b.elementwise(Relu(), "c", name="r")
    b.transpose("r", (0, 2, 3, 1), name="t")
    b.scale("t", bias=_real(4), name="b")
    b.reshape("b", (16, 4), name="kept")
    b.reshape("r", (1, 64), name="lost")
    b.reduce("r", (2, 3), mean=True, keepdims=False, name="pooled")
    b.slice("r", [slice(None), slice(1, 3), slice(None), slice(None)], name="some")
    b.concat(["r", "some"], 1, name="more")
    b.dense("lost", _real(2, 64), name="d")
    axes = {name: b.channel_axis(name) for name in ("x", "c", "r", "t", "b", "kept", "lost", "pooled", "some", "more", "d")}
    assert axes == {
        "x": None,
        "c": 1,
        "r": 1,
        "t": 3,
        "b": 3,
        "kept": 1,
        "lost": None,
        "pooled": 1,
        "some": 1,
        "more": 1,
        "d": None,
    }


def test_flattened_channels_of_length_one_are_not_mistaken() -> None:
    b = Builder("x", (1, 1, 4, 4))
    b.conv("x", _real(1, 1, 3, 3), name="c")
    b.reshape("c", (1, 4), name="flat")
    assert b.channel_axis("flat") is None or b.shape("flat")[b.channel_axis("flat") or 0] == 1


def test_build_leaves_out_what_is_not_needed() -> None:
    b = Builder("x", (1, 2))
    b.scale("x", 2.0, name="a")
    b.scale("x", 3.0, name="unused")
    assert [n.name for n in b.build("a").nodes] == ["a"]


def test_misfits_are_graph_errors() -> None:
    b = Builder("x", (1, 2))
    b.scale("x", name="a")
    with pytest.raises(GraphError, match="'a' is assigned twice"):
        b.scale("x", name="a")
    with pytest.raises(GraphError, match="does not fit"):
        b.dense("x", _real(3, 5), name="d")
    with pytest.raises(GraphError, match="does not reshape"):
        b.reshape("x", (3,), name="r")
    with pytest.raises(GraphError, match="no tensor is called 'q'"):
        b.scale("q", name="s")
    with pytest.raises(GraphError, match="do not broadcast"):
        b.scale("x", _real(3, 3), name="w")
