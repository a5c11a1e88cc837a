"""Write the digit cases: circuits of the two bundled networks, each with the verdict that it must get.

    .venv/bin/python benchmarks/suites/digits/make_cases.py [--out DIR]

It knows nothing of the engine: the circuit is run as an ONNX graph of its own (mask and patch at every site) beside the
original in onnxruntime, on random inputs of the region. A search drops the component whose loss moves the output least, as
long as the case's limit allows it, so the circuits are what a sampling-based discovery method would hand in:

- *certified* cases drop components while no sample deviates by more than 45 % of the tolerance. Sampling proves nothing;
  the engine has to. The regions are wide enough that interval arithmetic cannot: it takes linear bounds.
- *falsified* cases look only at the image itself, where they stay within 85 % of the tolerance. Nearby inputs break them:
  a faithful circuit on the data, an unfaithful one on the region.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

Array = npt.NDArray[np.float32]
Kept = dict[str, list[int]]

SEED = 2026
MODELS = Path(__file__).resolve().parents[2] / "models"
SEARCH_SAMPLES, FINAL_SAMPLES = 400, 10_000
CERTIFIED_SEARCH, CERTIFIED_FINAL = 0.45, 0.60  # largest sampled deviation, as a share of the tolerance
FALSIFIED_CENTER, FALSIFIED_FINAL = 0.85, 1.20  # at most at the image itself; at least somewhere in the region


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    model: str
    scope: dict[str, tuple[str, int]]  # site -> granularity, number of components
    index: int  # of the image in digits.npz
    epsilon: float
    patching: str  # zero | mean (over the images of digits.npz)
    tolerance: float
    verdict: str


MLP = {"relu_1": ("neuron", 32), "relu_2": ("neuron", 32)}
CNN = {"relu_1": ("channel", 8), "relu_2": ("channel", 8), "relu_3": ("neuron", 32)}
CASES = [
    Case("mlp_certified", "digits_mlp.onnx", MLP, 4, 0.025, "zero", 1.5, "certified"),
    Case("mlp_falsified", "digits_mlp.onnx", MLP, 7, 0.03, "zero", 0.5, "falsified"),
    Case("mlp_mean_certified", "digits_mlp.onnx", MLP, 7, 0.015, "mean", 1.5, "certified"),
    Case("cnn_channel_certified", "digits_cnn.onnx", CNN, 4, 0.02, "zero", 1.5, "certified"),
    Case("cnn_channel_falsified", "digits_cnn.onnx", CNN, 9, 0.04, "zero", 1.5, "falsified"),
]


class Pair:
    """The model and its circuits, side by side: one session each, batched over inputs; the kept sets are inputs too."""

    def __init__(self, path: Path, sizes: dict[str, int]) -> None:
        model = onnx.load(path)
        for value in [*model.graph.input, *model.graph.output]:
            value.type.tensor_type.shape.dim[0].dim_param = "n"
        declared = model.graph.input[0].type.tensor_type.shape.dim
        self.input_shape = [d.dim_value for d in declared[1:]]
        self.original = onnxruntime.InferenceSession(model.SerializeToString())
        self.sizes = sizes
        with_sites = onnx.ModelProto()
        with_sites.CopyFrom(model)
        with_sites.graph.output.extend(helper.make_empty_tensor_value_info(site) for site in sizes)
        self.sites = onnxruntime.InferenceSession(with_sites.SerializeToString())
        # A mask broadcasts over the batch in front and over the pixels behind, where the site has any.
        ranks = {site.name: len(site.shape) for site in self.sites.get_outputs()}
        self.mask_shape = {site: [size] + [1] * (ranks[site] - 2) for site, size in sizes.items()}

        nodes = []
        for node in model.graph.node:
            nodes.append(node)
            if (site := node.output[0]) in sizes:
                node.output[0] = f"{site}:free"
                nodes.append(helper.make_node("Mul", [f"{site}:free", f"{site}:mask"], [f"{site}:masked"]))
                nodes.append(helper.make_node("Add", [f"{site}:masked", f"{site}:fill"], [site]))
                for wire in (f"{site}:mask", f"{site}:fill"):  # of any shape that broadcasts
                    shape = [None] * len(self.mask_shape[site])
                    model.graph.input.append(helper.make_tensor_value_info(wire, TensorProto.FLOAT, shape))
        ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del model.graph.node[:]
        model.graph.node.extend(ordered)
        self.masked = onnxruntime.InferenceSession(model.SerializeToString())

    def logits(self, x: Array) -> Array:
        return np.asarray(self.original.run(["logits"], {"image": x})[0])

    def means(self, x: Array) -> dict[str, Array]:
        """Mean activation over `x` at each site, in the site's shape."""
        runs = zip(self.sizes, self.sites.run(list(self.sizes), {"image": x}), strict=True)
        return {site: np.asarray(value).mean(axis=0, dtype=np.float64).astype(np.float32) for site, value in runs}

    def zeros(self) -> dict[str, Array]:
        return {site: np.zeros(shape, np.float32) for site, shape in self.mask_shape.items()}

    def deviation(self, x: Array, logits: Array, kept: Kept, patch: dict[str, Array]) -> Array:
        """L-infinity distance of the circuit's logits from the model's, one number a sample."""
        feed = {"image": x}
        for site, size in self.sizes.items():
            mask = np.zeros(size, np.float32)
            mask[kept[site]] = 1.0
            mask = mask.reshape(self.mask_shape[site])
            feed |= {f"{site}:mask": mask, f"{site}:fill": (1 - mask) * patch[site]}
        return np.abs(np.asarray(self.masked.run(["logits"], feed)[0]) - logits).max(axis=1)


def samples(center: Array, epsilon: float, count: int, rng: np.random.Generator) -> Array:
    """Points of the clipped box: its center, corners, and uniform ones, about half and half."""
    noise = rng.uniform(-1, 1, (count, *center.shape)).astype(np.float32)
    noise[: count // 2] = np.sign(noise[: count // 2])
    noise[0] = 0
    # Rounded inwards: a sample must not leave the region by a float32 rounding.
    return np.clip(center + noise * np.float32(epsilon * (1 - 1e-5)), 0, 1).astype(np.float32)


def without(kept: Kept) -> Iterator[Kept]:
    """Every circuit with one component fewer."""
    for site, indices in kept.items():
        for index in indices:
            yield {**kept, site: [i for i in indices if i != index]}


def search(pair: Pair, x: Array, patch: dict[str, Array], limit: float) -> Kept:
    """Drop the least missed component again and again while no point of `x` deviates by more than `limit`."""
    logits = pair.logits(x)
    kept: Kept = {site: list(range(size)) for site, size in pair.sizes.items()}
    while True:
        worst = [(float(pair.deviation(x, logits, smaller, patch).max()), smaller) for smaller in without(kept)]
        deviation, smaller = min(worst, key=lambda found: found[0])
        if deviation > limit:
            return kept
        kept = smaller


SPEC = """\
format: certify.spec/1
input:                       # every image within epsilon of this {digit}, pixel by pixel
  kind: linf
  center: {{file: ../../../models/digits.npz, array: images, index: {index}}}
  epsilon: {epsilon}
  clip: [0.0, 1.0]
patching:
{patching}
agreement:                   # no logit may move by more than this
  metric: logits
  norm: linf
  tolerance: {tolerance}
minimality: none
budget: {{time_s: 60}}
"""
PATCHING = {
    "zero": "  kind: zero                 # what is not kept is set to 0",
    "mean": "  kind: mean                 # what is not kept is set to its mean over these images\n"
    "  mean: {file: ../../../models/digits.npz, array: images}",
}


def write(case: Case, out: Path) -> None:
    """Find the circuit of `case`, check by sampling that it deserves its verdict, write its three files."""
    rng = np.random.default_rng([SEED, case.index])
    path = MODELS / case.model
    sizes = {site: count for site, (_, count) in case.scope.items()}
    pair = Pair(path, sizes)
    with np.load(MODELS / "digits.npz") as file:
        images, label = file["images"].reshape(-1, *pair.input_shape), int(file["labels"][case.index])
    patch = pair.means(images) if case.patching == "mean" else pair.zeros()

    center = images[case.index]
    region = samples(center, case.epsilon, FINAL_SAMPLES, rng)
    if case.verdict == "certified":
        kept = search(pair, region[-SEARCH_SAMPLES:], patch, CERTIFIED_SEARCH * case.tolerance)
    else:
        kept = search(pair, center[None], patch, FALSIFIED_CENTER * case.tolerance)
    deviation = float(pair.deviation(region, pair.logits(region), kept, patch).max())
    share = deviation / case.tolerance
    if not (share <= CERTIFIED_FINAL if case.verdict == "certified" else share >= FALSIFIED_FINAL):
        raise SystemExit(f"{case.name}: sampled deviation {deviation:.4f}, tolerance {case.tolerance}: choose other numbers")

    size = ", ".join(f"{len(indices)} of {sizes[site]} at {site}" for site, indices in kept.items())
    found = "10,000 samples of the region" if case.verdict == "certified" else "the image alone"
    circuit = {
        "format": "certify.circuit/1",
        "model": {"path": f"../../../models/{case.model}", "sha256": sha256(path.read_bytes()).hexdigest()},
        "scope": {site: granularity for site, (granularity, _) in case.scope.items()},
        "kept": kept,
        "provenance": {"tool": "make_cases.py", "note": f"keeps {size}; fits {found}"},
    }
    folder = out / case.name
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in circuit.items()]
    (folder / "circuit.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    spec = SPEC.format(
        digit=label, index=case.index, epsilon=case.epsilon, patching=PATCHING[case.patching], tolerance=case.tolerance
    )
    (folder / "spec.yaml").write_text(spec)
    expected = {"verdict": case.verdict, "sampled_deviation": round(deviation, 4)}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")
    print(f"{case.name:24} digit {label}  keeps {size}; deviation {deviation:.4f} of {case.tolerance}  {case.verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    out: Path = parser.parse_args().out
    for case in CASES:
        write(case, out)


if __name__ == "__main__":
    main()
