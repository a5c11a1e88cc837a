"""Edges: found wherever a stream is read, and what it is to patch one, beside path patching written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bounds.gates import Gate, Gates
from bounds.region import Box
from specs.edges import clash
from specs.model import Model, model_from_module
from specs.models.runtime import Intervention
from tests.residual import Blocks, Patch, patched

CONSUMERS = ("q1", "k1", "v1", "up1", "q2", "k2", "v2", "up2", "out")
READ = {"q1": 1, "k1": 1, "v1": 1, "up1": 3, "q2": 4, "k2": 4, "v2": 4, "up2": 6, "out": 7}
"""How many producers each consumer reads."""


@pytest.fixture(scope="module")
def both() -> tuple[Blocks, Model]:
    module = Blocks(norm=True).double().eval()
    return module, model_from_module(module, torch.rand(1, 3, 2, dtype=torch.float64))


def test_every_consumer_is_found_with_its_producers(both: tuple[Blocks, Model]) -> None:
    found = [(read.readers, len(read.producers)) for read in both[1].edges()]
    assert found == [(1 if name in ("up1", "up2", "out") else 2, READ[name]) for name in CONSUMERS]


def random_patch(model: Model, seed: int) -> tuple[Gates, Tensor, dict[str, Tensor]]:
    """All consumers gated, and edges kept at random. Shapes: the mask `(1, edges)`, values `(1, *stacked)`."""
    random = torch.Generator().manual_seed(seed)
    reads = model.edges()
    boxes = [torch.randn(read.stacked, generator=random, dtype=torch.float64) for read in reads]
    gates = Gates(tuple(Gate(r.consumer, *r.group, Box(b, b)) for r, b in zip(reads, boxes, strict=True)))
    mask = torch.rand((1, gates.size), generator=random) < 0.7
    return gates, mask, {r.consumer: b.unsqueeze(0) for r, b in zip(reads, boxes, strict=True)}


@pytest.mark.parametrize("seed", range(4))
def test_patched_edges_are_path_patching(both: tuple[Blocks, Model], seed: int) -> None:
    """Our graph, and the original in its own runtime, against the sums written out by hand."""
    module, model = both
    gates, mask, values = random_patch(model, seed)
    x = torch.rand((1, 3, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    reads, kept = model.edges(), gates.expand(mask)
    by_name = dict(zip(CONSUMERS, reads, strict=True))
    rows = torch.split(mask[0], [gate.size for gate in gates.gates])
    wanted, stacks = patched(
        module,
        x,
        Patch(
            {name: row.reshape(read.readers, -1) for (name, read), row in zip(by_name.items(), rows, strict=True)},
            {name: values[read.consumer][0] for name, read in by_name.items()},
        ),
    )
    cut = model.read_by_edges([read.consumer for read in reads])
    found = cut.graph.evaluate(x.unsqueeze(0), gates, mask, values, frozenset(gates.by_tensor))
    assert torch.allclose(found[cut.graph.output][0], wanted, rtol=0, atol=1e-8)
    replayed = cut.runtime.intervened(
        x.numpy(),
        Intervention({name: k[0].numpy() for name, k in kept.items()}, {name: v[0].numpy() for name, v in values.items()}),
    )
    assert torch.allclose(torch.from_numpy(replayed), wanted, rtol=0, atol=1e-8)
    for name, read in by_name.items():
        own = found[read.consumer][0]
        assert torch.allclose(own, stacks[name].expand_as(own), rtol=0, atol=1e-8)


def test_the_model_is_the_same_however_it_is_read(both: tuple[Blocks, Model]) -> None:
    model = both[1]
    x = torch.rand(5, 1, 3, 2, dtype=torch.float64)
    for read in model.edges():
        cut = model.read_by_edges([read.consumer])
        assert torch.allclose(cut.graph(x), model.graph(x), rtol=0, atol=1e-12)
        cut.check()


def test_what_lies_between_may_not_be_in_scope_too(both: tuple[Blocks, Model]) -> None:
    model = both[1]
    last = model.edges()[-1]
    between = next(iter(last.passed & set(model.graph.node)))
    assert clash(model.graph, {last.consumer: "edge", between: "neuron"}) == (between, last.consumer)
    whole = [producer.name for producer in last.producers if producer.part is None]
    assert clash(model.graph, {last.consumer: "edge", whole[0]: "neuron"}) is None


class Skips(nn.Module):
    """A residual network of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = (nn.Conv2d(i, 2, 3, padding=1) for i in (1, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        return (y + self.c(self.b(y).relu())).relu().flatten(1)[:, :4]


def test_skips_are_edges() -> None:
    module = Skips()
    model = model_from_module(module, torch.rand(1, 1, 4, 4))
    reads = {len(read.producers): read for read in model.edges()}
    assert sorted(reads) == [1, 2]
    consumer = reads[2].consumer
    cut = model.read_by_edges([consumer])
    x = torch.rand(1, 1, 4, 4)
    y = module.a(x).relu()
    wanted = y.relu().flatten(1)[:, :4]  # the branch is zero, the skip is not
    kept = reads[2].group[0] == 0
    zero = {consumer: torch.zeros(reads[2].stacked).numpy()}
    found = cut.runtime.intervened(x.numpy(), Intervention({consumer: kept.numpy()}, zero))
    assert torch.allclose(torch.from_numpy(found), wanted.detach(), atol=1e-6)


class Spread(nn.Module):
    """A sum of tensors of different shapes, and of a constant."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(2, 4), nn.Linear(4, 3)
        self.shift = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(y + y.relu().mean(1, keepdim=True) + self.shift)


def test_a_producer_that_is_repeated_and_a_constant_that_is_none() -> None:
    module = Spread().double()
    x = torch.rand(1, 3, 2, dtype=torch.float64)
    model = model_from_module(module, x)
    read = model.edges()[-1]
    assert len(read.producers) == 2
    cut = model.read_by_edges([read.consumer])
    y = module.a(x)
    for kept, wanted in (
        ([True, False], module.b(y + module.shift)),
        ([False, True], module.b(y.relu().mean(1, keepdim=True) + module.shift)),
    ):
        mask = torch.tensor(kept)[read.group[0]]
        zero = torch.zeros(read.stacked, dtype=torch.float64)
        replayed = cut.runtime.intervened(x.numpy(), Intervention({read.consumer: mask.numpy()}, {read.consumer: zero.numpy()}))
        gates = Gates((Gate(read.consumer, read.group[0], read.group[1], Box(zero, zero)),))
        found = cut.graph.evaluate(x.unsqueeze(0), gates, torch.tensor([kept]), {read.consumer: zero.unsqueeze(0)})
        assert torch.allclose(torch.from_numpy(replayed), wanted, atol=1e-8)
        assert torch.allclose(found[cut.graph.output][0], wanted, atol=1e-8)
