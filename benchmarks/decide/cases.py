"""The networks, regions and claims that are asked about, and the rules that their numbers follow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from specs.model import Model

__all__ = ["GAP", "SEQUENCE", "Case"]

_ROOT = Path(__file__).resolve().parents[2]
_MEASURED = 100
"""Inputs of the data that a tolerance is taken from: the first ones."""


@dataclass(frozen=True, slots=True)
class Case:
    """One network and one L-infinity box around input `index` of the data, cut to [0, 1]; zero patching after the ReLUs.

    `epsilon` is in the data's units after division by `scale`; `mean` and `std` standardize channels afterwards; `turned` data
    has its channels last and the model wants them first. The claim is on all outputs in L-infinity, or on `outputs`. Its
    tolerance is half of the median gap between the two largest outputs over the data's first 100 inputs, so that the typical
    input keeps its class; where `outputs` names a regression's, half of their standard deviation there.
    """

    name: str
    model: str
    data: str
    array: str
    granularity: Literal["neuron", "channel"]
    epsilon: float
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    turned: bool = False
    outputs: tuple[int, ...] | None = None
    index: int = 0
    bundled: bool = False

    def paths(self, folder: Path) -> tuple[Path, Path]:
        """Where the model and the data are; `folder` has `models/` and `data/`, and bundled cases do not need it."""
        if self.bundled:
            return _ROOT / "benchmarks/models" / self.model, _ROOT / "benchmarks/models" / self.data
        return folder.absolute() / "models" / self.model, folder.absolute() / "data" / self.data

    def missing(self, folder: Path) -> Path | None:
        """The first file that is needed and not there."""
        return next((path for path in self.paths(folder) if not path.is_file()), None)

    def load(self, folder: Path) -> Model:
        """The model, checked against its own runtime. Raises: InputError."""
        from specs.model import load_model

        path = self.paths(folder)[0]
        return load_model(path.name, shown=str(path), where="", base=path.parent)

    def scope(self, model: Model) -> dict[str, str]:
        """Every site after an activation that has such components."""
        sites = [site for site in model.sites() if site.after_activation and self.granularity in site.granularities]
        return {site.name: self.granularity for site in sites}

    def ends(self, folder: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The region's lower and upper ends, as the model takes them. Shapes: `shape`, twice."""
        point = self._raw(folder, self.index, self.index + 1)
        low, high = ((point + e).clip(0, 1) for e in (-self.epsilon, self.epsilon))
        return self._received(low, shape)[0], self._received(high, shape)[0]

    def tolerance(self, folder: Path, model: Model) -> float:
        """The tolerance, by the rule above, to three digits."""
        import torch

        from verify.bench.calibrate import tolerance_of

        points = torch.from_numpy(self._received(self._raw(folder, 0, _MEASURED), model.graph.input_shape))
        with torch.no_grad():
            found = model.graph(points).flatten(1).numpy()
        return tolerance_of(found, self.outputs)

    def agreement(self, tolerance: float) -> dict[str, Any]:
        """What a spec says under `agreement`."""
        named = {} if self.outputs is None else {"outputs": list(self.outputs)}
        return {"metric": "logits", "norm": "linf", "tolerance": tolerance, **named}

    def _raw(self, folder: Path, start: int, stop: int) -> NDArray[np.float64]:
        import numpy as np

        with np.load(self.paths(folder)[1]) as file:
            return file[self.array][start:stop].astype(np.float64) / self.scale

    def _received(self, points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        import numpy as np

        if self.mean:
            points = (points - np.asarray(self.mean)) / np.asarray(self.std)
        if self.turned:
            points = np.moveaxis(points, -1, 1)
        return np.ascontiguousarray(points.reshape(-1, *shape))


_MNIST = "mnist_test_first1000.npz"
_MNIST_2 = Case("mnist_vnncomp_256x2", "mnist_vnncomp_256x2.onnx", _MNIST, "X", "neuron", 0.01, scale=255.0)
_GTSRB = Case(
    "gtsrb_cnn_8_16_fc64", "gtsrb_cnn_8_16_fc64.onnx", "gtsrb_heldout2526_32x32.npz", "X", "channel", 1 / 255, scale=255.0,
    turned=True,
)  # fmt: skip
_CIFAR = Case(
    "cifar10_resnet2b", "cifar10_resnet2b.onnx", "cifar10_test_592.npz", "X", "channel", 2 / 255, scale=255.0,
    mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616), turned=True,
)  # fmt: skip
_DIGITS = Case("digits_mlp", "digits_mlp.onnx", "digits.npz", "images", "neuron", 0.02, bundled=True)

SEQUENCE = {
    case.name: case
    for case in (
        Case("mnist_verix_10x2", "mnist_verix_10x2.onnx", _MNIST, "X", "neuron", 0.01, scale=255.0),
        Case("taxinet_kj_tiny_cnn", "taxinet_kj_tiny_cnn.onnx", "taxinet_uli126.npz", "X8x16", "channel", 0.02, outputs=(0,)),
        _GTSRB,
        _CIFAR,
        _MNIST_2,
        replace(_MNIST_2, name="mnist_vnncomp_256x2_wide", epsilon=0.03),
        _DIGITS,
    )
}
"""Searches: neurons for MNIST, channels elsewhere. Radii: VNN-COMP's for CIFAR-10 (2/255) and GTSRB (its least, 1/255), that of
TaxiNet's published boxes (0.02), for MNIST 0.01 and once VNN-COMP's 0.03. The last is bundled and a trial only."""

GAP = {
    case.name: case
    for case in (
        _MNIST_2,
        replace(_MNIST_2, name="mnist_vnncomp_256x4", model="mnist_vnncomp_256x4.onnx"),
        replace(_GTSRB, name="gtsrb_cnn_8_16_fc64 (neurons)", granularity="neuron"),
        _DIGITS,
    )
}
"""Depth: two and four layers of 256, and a convolutional network, neurons in all. The last is bundled."""
