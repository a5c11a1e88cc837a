"""The networks, regions and circuits that are timed. Torch is imported late: the process that prints the table stays small."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from bounds.query import Query

__all__ = ["CASES", "Case", "bench_folder"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Case:
    """One network, one L-infinity box around a data point, gates after ReLUs with zero patching, random circuits.

    `epsilon` is in the data's units after division by `scale`; `mean` and `std` standardize channels afterwards. `ablated` is
    the share of components that a circuit lacks, drawn one by one. `aim`: how many times auto_LiRPA's rate we want at batch 64.
    """

    name: str
    model: str
    data: str
    key: str
    epsilon: float
    granularity: str
    ablated: float
    tolerance: float = 0.5
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bundled: bool = False
    aim: float | None = None

    def paths(self, folder: Path) -> tuple[Path, Path]:
        """Where the model and the data are; `folder` has `models/` and `data/`, and bundled cases do not need it."""
        if self.bundled:
            return _ROOT / "benchmarks/models" / self.model, _ROOT / "benchmarks/models" / self.data
        return folder / "models" / self.model, folder / "data" / self.data

    def query(self, folder: Path) -> Query:
        """The claim about one data point, for any circuit. The model is checked against its own runtime."""
        import torch

        from bounds.gates import Gate, Gates
        from bounds.ops.relu import Relu
        from bounds.query import Clauses, Query
        from bounds.region import Box
        from specs.model import load_model

        path = self.paths(folder)[0]
        model = load_model(path.name, shown=str(path), where="", base=path.parent)
        graph = model.graph
        gates: list[Gate] = []
        for node in graph.nodes:
            if isinstance(node.op, Relu) and (self.granularity == "neuron" or node.channel_axis is not None):
                group, size = model.group(node.name, self.granularity)
                zero = torch.zeros(node.shape, dtype=torch.float64)
                gates.append(Gate(node.name, group, size, Box(zero, zero)))
        outputs = graph.shape(graph.output)
        unit = torch.eye(torch.Size(outputs).numel(), dtype=torch.float64).reshape(-1, *outputs)
        both = torch.cat([unit, -unit])
        offset = torch.full((len(both),), self.tolerance, dtype=torch.float64)
        margins = Clauses(both, -both, offset, torch.arange(len(both)).reshape(-1, 1))
        return Query(graph, Gates(tuple(gates)), Box(*self._box(folder, graph.input_shape)), margins)

    def _box(self, folder: Path, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        import numpy as np
        import torch

        with np.load(self.paths(folder)[1]) as file:
            point = torch.from_numpy(file[self.key][0].astype(np.float64)) / self.scale
        ends = [(point + e).clamp(0, 1) for e in (-self.epsilon, self.epsilon)]
        if self.mean:
            mean, std = (torch.tensor(v, dtype=torch.float64) for v in (self.mean, self.std))
            ends = [((x - mean) / std).permute(2, 0, 1) for x in ends]
        return ends[0].reshape(shape).contiguous(), ends[1].reshape(shape).contiguous()

    def masks(self, query: Query, count: int) -> Tensor:
        """The first `count` circuits: always the same ones. Shape: `(count, components)`, True for kept."""
        import torch

        generator = torch.Generator().manual_seed(1)
        return torch.stack([torch.rand(query.gates.size, generator=generator) >= self.ablated for _ in range(count)])


CASES = {
    case.name: case
    for case in (
        Case(
            "mnist_vnncomp_256x2",
            "mnist_vnncomp_256x2.onnx",
            "mnist_test_first1000.npz",
            "X",
            epsilon=0.01,
            granularity="neuron",
            ablated=0.3,
            scale=255.0,
            aim=10.0,
        ),
        Case(
            "cifar10_resnet2b",
            "cifar10_resnet2b.onnx",
            "cifar10_test_592.npz",
            "X",
            epsilon=2 / 255,
            granularity="channel",
            ablated=0.1,
            scale=255.0,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2471, 0.2435, 0.2616),
            aim=30.0,
        ),
        Case("digits_mlp", "digits_mlp.onnx", "digits.npz", "images", 0.01, "neuron", 0.3, bundled=True),
        Case("digits_cnn", "digits_cnn.onnx", "digits.npz", "images", 0.01, "channel", 0.1, bundled=True),
    )
}
"""The first two are the benchmark; the bundled ones need no data and serve as a trial."""


def bench_folder(asked: Path | None) -> Path:
    """The folder of published networks and data: the one asked for, else `CERTIFY_BENCH`, else `../shared/bench`."""
    if asked is not None:
        return asked
    named = os.environ.get("CERTIFY_BENCH")
    return Path(named) if named else _ROOT.parent / "shared" / "bench"
