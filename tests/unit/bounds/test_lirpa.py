"""auto_LiRPA as a backend: sound on what it takes, refusing the rest, leaving nothing behind."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from bounds.backends import lirpa_compat
from bounds.backends.base import BackendRefusal, BackendUnavailable
from bounds.backends.lirpa import Lirpa, Method
from bounds.backends.native import Native
from bounds.build import Builder
from bounds.gates import Gate, Gates
from bounds.graph import Graph
from bounds.ops import Clip, LeakyRelu, Relu, Sigmoid, Sign, Tanh
from bounds.query import Clauses, Query
from bounds.region import Ball, Box, Hull, Region

METHODS = get_args(Method)
UNIT = Box(torch.zeros(1, 4).double(), torch.ones(1, 4).double())
NEWER = os.environ.get("CERTIFY_LIRPA07", "")


@pytest.fixture(autouse=True)
def installed() -> Generator[None]:
    """Skips without the library. One thread: the networks are tiny."""
    try:
        lirpa_compat.library()
    except BackendUnavailable as error:
        pytest.skip(str(error))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weight(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).div(math.prod(shape[1:]) ** 0.5).double()


def dense(g: torch.Generator) -> Graph:
    b = Builder("x", (1, 6))
    b.elementwise(Relu(), b.dense("x", weight(8, 6, generator=g), weight(8, generator=g), name="a"), name="h1")
    b.elementwise(Relu(), b.dense("h1", weight(7, 8, generator=g), weight(7, generator=g), name="b"), name="h2")
    return b.build(b.dense("h2", weight(3, 7, generator=g), name="y"))


def residual(g: torch.Generator) -> Graph:
    b = Builder("x", (1, 2, 6, 5))
    b.scale("x", weight(2, 1, 1, generator=g), weight(2, 1, 1, generator=g), name="normed")
    b.conv("normed", weight(4, 2, 3, 3, generator=g), weight(4, generator=g), [2, 1], [1, 1], [1, 1], name="c1")
    b.elementwise(Relu(), "c1", name="h1")
    b.conv("h1", weight(4, 2, 3, 3, generator=g), None, [1, 1], [2, 2], [2, 2], [2, 2], 2, name="c2")
    b.elementwise(Relu(), b.add("c2", "h1", name="sum"), name="h2")
    b.transpose("h2", [0, 2, 3, 1], name="turned")  # as Keras flattens; auto_LiRPA 0.3 fails on its own transposition here
    return b.build(b.dense(b.reshape("turned", (1, 60), name="flat"), weight(3, 60, generator=g), name="y"))


def pooled(g: torch.Generator) -> Graph:
    b = Builder("x", (1, 5, 5, 1))
    b.transpose("x", [0, 3, 1, 2], name="turned")
    b.conv("turned", weight(3, 1, 2, 2, generator=g), weight(3, generator=g), [1, 1], [0, 0], [1, 1], name="c1")
    b.elementwise(Relu(), "c1", name="h1")
    b.max_pool("h1", [3, 3], [2, 2], [1, 1], [0, 0], [1, 1], name="pool")
    b.average_pool("h1", [2, 2], [2, 2], [0, 0], [1, 1], [1, 1], count_pads=False, name="mean")
    b.concat(["pool", b.slice("mean", [slice(None)] * 2 + [slice(0, 2)] * 2, name="part")], 1, name="joined")
    b.reduce("joined", [2], mean=True, keepdims=False, name="reduced")
    return b.build(b.dense(b.reshape("reduced", (1, 12), name="flat"), weight(3, 12, generator=g), name="y"))


def line(g: torch.Generator) -> Graph:
    b = Builder("x", (1, 2, 7))
    b.conv("x", weight(3, 2, 3, generator=g), weight(3, generator=g), [2], [1], [1], name="c1")
    b.elementwise(Sigmoid(), "c1", name="h1")
    b.elementwise(Tanh(), b.dense("h1", weight(4, 4, generator=g), name="d1"), name="h2")
    b.elementwise(LeakyRelu(0.1), b.sub("h2", "h1", name="gap"), name="h3")
    b.dense_left("h3", weight(2, 3, generator=g), name="mixed")
    return b.build(b.reduce("mixed", [1], mean=False, name="y"))


NETS: list[Callable[[torch.Generator], Graph]] = [dense, residual, pooled, line]


def query(graph: Graph, region: Region, width: float, generator: torch.Generator) -> Query:
    """Closeness of all outputs; patch boxes of a width, every third element a point."""
    gates: list[Gate] = []
    for name in ("h1", "h2"):
        if name in graph.node:
            shape = graph.shape(name)
            size = math.prod(shape)
            at = torch.rand(shape, generator=generator, dtype=torch.float64)
            wide = torch.where(torch.arange(size).reshape(shape) % 3 == 0, 0.0, width)
            gates.append(Gate(name, torch.arange(size).reshape(shape), size, Box(at - wide, at + wide)))
    outputs = math.prod(graph.shape(graph.output))
    rows = torch.cat([torch.eye(outputs), -torch.eye(outputs)]).double().reshape(-1, *graph.shape(graph.output))
    offset = torch.full((len(rows),), 0.25, dtype=torch.float64)
    return Query(graph, Gates(tuple(gates)), region, Clauses(rows, -rows, offset, torch.arange(len(rows))[:, None]))


def regions(shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Region]:
    x = torch.rand(shape, generator=generator, dtype=torch.float64)
    box = Box(x - 0.2, x + 0.3)
    points = x + 0.3 * torch.rand((4, *shape), generator=generator, dtype=torch.float64)
    return {"box": box, "ball": Ball(x, 0.4, Box(x - 0.3, x + 0.4)), "hull": Hull(points, torch.zeros_like(x))}


def least(q: Query, mask: Tensor, generator: torch.Generator, count: int = 4000) -> Tensor:
    """The smallest sampled value of each form."""
    x = q.region.sample(count, generator)
    patches = {gate.tensor: gate.patch.sample(count, generator) for gate in q.gates.gates}
    ours = q.graph.evaluate(x, q.gates, mask.expand(count, -1), patches)[q.graph.output]
    return q.margins.forms(ours, q.graph(x)).amin(0)


CASES = [(net, method, "box") for net in NETS for method in METHODS]
CASES += [(net, method, "ball") for net in (dense, residual) for method in METHODS[1:]] + [(pooled, "crown", "ball")]
CASES += [(dense, method, "hull") for method in METHODS]


@pytest.mark.parametrize(("net", "method", "kind"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_no_sample_lies_below_a_bound(net: Callable[[torch.Generator], Graph], method: Any, kind: str) -> None:
    generator = torch.Generator().manual_seed(NETS.index(net))
    graph = net(generator)
    region = regions(graph.input_shape, generator)[kind]
    for width in (0.0, 0.3):
        q = query(graph, region, width, generator)
        masks = torch.rand((2, q.gates.size), generator=generator) > 0.4
        bounder = Lirpa(method, iterations=3).open(q)
        if net is line and method == "alpha-crown" and lirpa_compat.library().version == "0.3":
            with pytest.raises(BackendRefusal, match=r"CROWN-Optimized fails for tensor 'y' by auto_LiRPA 0\.3"):
                bounder.bound(masks)
            return
        bound = bounder.bound(masks)
        assert bool(bound.forms.isfinite().all())
        for i, mask in enumerate(masks):
            assert bool((bound.forms[i] <= least(q, mask, generator, 500)).all())


def test_intervals_are_those_of_native() -> None:
    """Beside the difference that `native` bounds, dense intervals leave no choice."""
    generator = torch.Generator().manual_seed(1)
    graph = dense(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.3, generator)
    masks = torch.zeros((1, q.gates.size), dtype=torch.bool)
    ours, theirs = Lirpa("ibp").open(q).bound(masks), Native("interval").open(q).bound(masks)
    assert bool((ours.forms <= theirs.forms + 1e-9).all())


def test_crown_is_no_looser_than_its_intervals() -> None:
    generator = torch.Generator().manual_seed(2)
    graph = dense(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.0, generator)
    masks = torch.rand((3, q.gates.size), generator=generator) > 0.3
    ibp, crown, best = (Lirpa(m).open(q).bound(masks).margin for m in ("ibp", "crown", "alpha-crown"))
    assert bool((crown >= ibp).all() and (best >= crown - 1e-6).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_ball_is_no_looser_than_its_box(method: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    graph = dense(generator)
    found = regions(graph.input_shape, generator)["ball"]
    masks = torch.ones((1, query(graph, found, 0, generator).gates.size), dtype=torch.bool)
    masks[:, ::2] = False
    q = query(graph, found, 0.1, generator)
    boxed = Query(q.graph, q.gates, found.box(), q.margins)
    ball, box = (Lirpa(method).open(which).bound(masks).forms for which in (q, boxed))
    assert bool((ball >= box - 1e-9).all())
    if method != "ibp":
        assert bool((ball > box + 1e-3).any())


@pytest.mark.parametrize("method", METHODS)
def test_a_bound_does_not_depend_on_the_circuits_before(method: Any) -> None:
    generator = torch.Generator().manual_seed(4)
    graph = residual(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.2, generator)
    masks = torch.rand((3, q.gates.size), generator=generator) > 0.4
    options = Lirpa(method, iterations=3)
    together = options.open(q).bound(masks).forms
    alone = torch.cat([options.open(q).bound(mask.unsqueeze(0)).forms for mask in masks.flip(0)]).flip(0)
    assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("op", [Sigmoid(), Tanh(), LeakyRelu(0.01), LeakyRelu(0.9), Relu()], ids=lambda op: type(op).__name__)
def test_one_activation_on_many_intervals(op: Any) -> None:
    """Both lines of the relaxation, by forms of either sign over `f(t)` alone, down to tiny and up to wide intervals."""
    generator = torch.Generator().manual_seed(5)
    count = 400
    width = 10 ** (torch.rand(count, generator=generator, dtype=torch.float64) * 9 - 7)
    lower = (torch.rand(count, generator=generator, dtype=torch.float64) - 0.5) * 12 - width / 2
    b = Builder("x", (1, count))
    b.elementwise(op, "x", name="h")
    t = torch.rand(count, generator=generator, dtype=torch.float64) * 2
    graph = b.build(b.concat([b.sub("h", b.scale("x", t, name="s"), name="d"), "h"], 1, name="y"))
    region = Box(lower.unsqueeze(0), (lower + width).unsqueeze(0))
    rows = torch.cat([torch.eye(2 * count), -torch.eye(2 * count)]).double().reshape(-1, 1, 2 * count)
    offset = torch.zeros(len(rows), dtype=torch.float64)
    q = Query(graph, Gates(()), region, Clauses(rows, torch.zeros_like(rows), offset, torch.arange(len(rows))[:, None]))
    bounder = Lirpa("crown").open(q)
    mask = torch.ones((1, 0), dtype=torch.bool)
    bound = bounder.bound(mask).forms[0]
    steps = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None, None]
    y = graph(region.lower + steps * (region.upper - region.lower))
    assert bool((bound <= q.margins.forms(y, y).amin(0)).all())


@pytest.mark.parametrize("op", [Sign(), Clip(0.0, 1.0), LeakyRelu(-0.5), LeakyRelu(2.0)], ids=lambda op: type(op).__name__)
def test_other_operators_are_refused_by_name(op: Any) -> None:
    b = Builder("x", (1, 4))
    graph = b.build(b.dense(b.elementwise(op, "x", name="strange"), torch.eye(4), name="y"))
    with pytest.raises(BackendRefusal, match=rf"{type(op).__name__}.*'strange'"):
        Lirpa().open(query(graph, UNIT, 0.0, torch.Generator()))


def test_a_model_without_activations() -> None:
    generator = torch.Generator().manual_seed(6)
    b = Builder("x", (1, 4))
    b.dense("x", weight(5, 4, generator=generator), name="h1")
    graph = b.build(b.dense("h1", weight(3, 5, generator=generator), name="y"))
    q = query(graph, regions((1, 4), generator)["box"], 0.2, generator)
    mask = torch.tensor([[True, False, True, False, True]])
    for method in METHODS:
        assert bool((Lirpa(method).open(q).bound(mask).forms[0] <= least(q, mask[0], generator)).all())


def test_float32_is_widened() -> None:
    generator = torch.Generator().manual_seed(7)
    graph = dense(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.0, generator)
    masks = torch.rand((4, q.gates.size), generator=generator) > 0.3
    single, double = (Lirpa(dtype=dtype).open(q).bound(masks) for dtype in (torch.float32, torch.float64))
    assert single.forms.dtype == torch.float64
    assert bool((single.forms <= double.forms + 1e-12).all() and torch.allclose(single.forms, double.forms, atol=1e-2))


def test_constants_that_float32_cannot_hold_are_refused() -> None:
    b = Builder("x", (1, 4))
    graph = b.build(b.scale("x", torch.tensor(0.1, dtype=torch.float64), name="y"))
    with pytest.raises(BackendRefusal, match=r"'y'.*use float64"):
        Lirpa(dtype=torch.float32).open(query(graph, UNIT, 0.0, torch.Generator()))


def tampered(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Any:
    generator = torch.Generator().manual_seed(8)
    graph = dense(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.0, generator)
    bounder = Lirpa().open(q)
    module = bounder._traced  # pyright: ignore[reportPrivateUsage]
    original = module.compute_bounds
    monkeypatch.setattr(module, "compute_bounds", lambda **given: change(*original(**given)))
    return lambda: bounder.bound(torch.zeros((1, q.gates.size), dtype=torch.bool))


def test_a_bound_above_a_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendRefusal, match="above what a sample of the region reaches"):
        tampered(monkeypatch, lambda l, u: (u + 1, u + 1))()


def test_a_lower_bound_above_the_upper_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendRefusal, match="above its upper bound"):
        tampered(monkeypatch, lambda l, u: (l, l - 1))()


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_bound_that_is_not_finite_proves_nothing(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    bound = tampered(monkeypatch, lambda l, u: (torch.full_like(l, value), u))()
    assert bool((bound.forms == -math.inf).all() and (bound.margin == -math.inf).all())


def test_another_function_is_refused() -> None:
    generator = torch.Generator().manual_seed(9)
    graph = dense(generator)
    q = query(graph, regions(graph.input_shape, generator)["box"], 0.0, generator)
    bounder = Lirpa().open(q)
    traced: Any = bounder._traced  # pyright: ignore[reportPrivateUsage]
    with torch.no_grad():
        next(iter(traced.parameters())).mul_(1.01)
    with pytest.raises(BackendRefusal, match="forward pass"):
        bounder.bound(torch.zeros((1, q.gates.size), dtype=torch.bool))


def test_without_the_library_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lirpa_compat, "_found", [])
    for name in [n for n in sys.modules if n.partition(".")[0] == "auto_LiRPA"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "auto_LiRPA", None)
    with pytest.raises(BackendUnavailable, match=r"pip install --no-deps auto_LiRPA==0\.3 && pip install appdirs tqdm"):
        lirpa_compat.library()


CONTAINED = """
import logging, sys, warnings, torch, numpy, torch.onnx.symbolic_helper as helper, torch.onnx.utils
import bounds.backends.lirpa as backend
assert "auto_LiRPA" not in sys.modules
def state():
    jit = torch._C._jit_set_profiling_executor(True), torch._C._jit_set_profiling_mode(True)
    torch._C._jit_set_profiling_executor(jit[0]), torch._C._jit_set_profiling_mode(jit[1])
    return (list(warnings.filters), list(logging.getLogger().handlers), logging.getLogger().level, jit,
            hasattr(helper, "_set_opset_version"), hasattr(torch, "_six"), "graphviz" in sys.modules,
            "numpy.lib.arraysetops" in sys.modules, hasattr(torch._C.Node, "__getitem__"), torch.get_default_dtype(),
            vars(backend.library.__globals__["_exporter"]()).copy())
import appdirs
folder, before = appdirs.user_data_dir, state()
version = backend.library().version
with backend.library().working(torch.float64):
    assert torch.get_default_dtype() == torch.float64
assert appdirs.user_data_dir is folder
for a, b in zip(before, state()):
    assert a == b, (a, b)
print(version)
"""


def contained(path: str, home: Path) -> str:
    environment = os.environ | {"PYTHONPATH": path, "HOME": str(home), "XDG_DATA_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", CONTAINED], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())
    return done.stdout.strip()


def test_importing_it_leaves_nothing_behind(tmp_path: Path) -> None:
    contained(os.pathsep.join(sys.path), tmp_path)


@pytest.mark.skipif(bool(os.environ.get("CERTIFY_LIRPA07_INSIDE")), reason="this is the inner run")
def test_the_newer_version_passes_the_same_tests(tmp_path: Path) -> None:
    if not (Path(NEWER) / "auto_LiRPA").is_dir():
        pytest.skip("no checkout of auto_LiRPA 0.7: CERTIFY_LIRPA07 does not name one")
    path = os.pathsep.join([NEWER, *sys.path])
    assert contained(path, tmp_path).startswith("0.7")
    environment = os.environ | {"PYTHONPATH": path, "CERTIFY_LIRPA07_INSIDE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    assert done.returncode == 0, done.stdout
