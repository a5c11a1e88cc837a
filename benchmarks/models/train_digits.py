"""Train the two bundled digit networks and write them as ONNX, with the held-out images that the examples stand on.

The data are scikit-learn's handwritten digits (1,797 images of 8 x 8, which the package itself ships), scaled to [0, 1].

    .venv/bin/python benchmarks/models/train_digits.py [--out DIR]

Takes well under a minute on one core. Seeds are fixed and torch runs on one thread with deterministic algorithms, so a
machine reproduces its own files byte for byte; another processor or torch may round otherwise and end at other weights,
which is why the files are committed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

SEED = 2026
HELD_OUT = 360  # images that no training step sees
NOISE = 0.08  # standard deviation, on images in [0, 1]
PER_CLASS = 6  # of them written to digits.npz, for each of the ten digits
OPSET, IR_VERSION = 17, 8  # what every runtime of the last years reads

Array = npt.NDArray[np.float32]


# ---------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, slots=True)
class Digits:
    """Images (n, 8, 8) in [0, 1] and labels (n,), split once and for all."""

    train_images: Array
    train_labels: npt.NDArray[np.int64]
    test_images: Array
    test_labels: npt.NDArray[np.int64]


def digits() -> Digits:
    images, labels = load_digits(return_X_y=True)
    scaled = (images.reshape(-1, 8, 8) / 16.0).astype(np.float32)  # the data set counts ink from 0 to 16
    parts: list[Any] = train_test_split(scaled, labels.astype(np.int64), test_size=HELD_OUT, random_state=SEED, stratify=labels)
    train_x, test_x, train_y, test_y = parts
    return Digits(train_x, train_y, test_x, test_y)


def sample(data: Digits) -> tuple[Array, npt.NDArray[np.int64]]:
    """Held-out images in the order 0, 1, ..., 9, 0, 1, ...: image `i` shows the digit `i % 10`.

    Taken as they come, not chosen for being classified well.
    """
    of_class = [np.flatnonzero(data.test_labels == digit)[:PER_CLASS] for digit in range(10)]
    index = np.stack(of_class, axis=1).reshape(-1)
    return data.test_images[index], data.test_labels[index]


# -------------------------------------------------------------------------------------------------------------- models


class Mlp(nn.Module):
    """64 - 32 - 32 - 10, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        relu_1 = functional.relu(self.fc1(image))
        relu_2 = functional.relu(self.fc2(relu_1))
        return self.fc3(relu_2)

    def fan_outs(self) -> list[torch.Tensor]:
        """One row a hidden unit: the weights that read it."""
        return [self.fc2.weight.T, self.fc3.weight.T]


class Cnn(nn.Module):
    """C8(3x3) R C8(3x3) R, a skip around the second block, average pooling 2 x 2, FC32 R FC10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.fc1, self.fc2 = nn.Linear(128, 32), nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        relu_1 = functional.relu(self.conv1(image))
        relu_2 = functional.relu(self.conv2(relu_1))
        pool = functional.avg_pool2d(relu_2 + relu_1, 2)
        relu_3 = functional.relu(self.fc1(pool.flatten(1)))
        return self.fc2(relu_3)

    def fan_outs(self) -> list[torch.Tensor]:
        # The skip means that a channel of relu_1 is read by conv2 and by fc1; fc1 reads 16 pooled pixels a channel.
        by_channel = self.fc1.weight.T.reshape(8, -1)
        relu_1 = torch.cat([self.conv2.weight.transpose(0, 1).reshape(8, -1), by_channel], dim=1)
        return [relu_1, by_channel, self.fc2.weight.T]


def train(model: Mlp | Cnn, images: torch.Tensor, labels: torch.Tensor, *, epochs: int, sparsity: float) -> None:
    """Adam on the cross entropy of slightly noisy images, in place. The noise keeps slopes small, so bounds stay tight.

    `sparsity` weighs a group lasso on what reads each hidden unit or channel (each group by the root of its size, so that
    channels, read by hundreds of weights, pay like neurons): units that matter little are pushed towards mattering not at
    all. Without it every unit carries a little of everything and no small circuit exists to be certified.
    """
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    order = torch.Generator().manual_seed(SEED)
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=order).split(64):
            noisy = images[batch] + NOISE * torch.randn(images[batch].shape, generator=order)
            loss = functional.cross_entropy(model(noisy), labels[batch])
            lasso = torch.stack([rows.norm(dim=1).sum() * rows.shape[1] ** 0.5 for rows in model.fan_outs()]).sum()
            optimiser.zero_grad()
            (loss + sparsity * lasso).backward()
            optimiser.step()
        schedule.step()


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


# ---------------------------------------------------------------------------------------------------------------- ONNX


@dataclass
class Writer:
    """An ONNX graph, written node by node so that every tensor has the name a reader expects (torch's exporter would
    choose its own, and change them between versions)."""

    nodes: list[onnx.NodeProto] = field(default_factory=list[onnx.NodeProto])
    weights: list[onnx.TensorProto] = field(default_factory=list[onnx.TensorProto])

    def weight(self, name: str, value: torch.Tensor) -> str:
        self.weights.append(numpy_helper.from_array(value.detach().numpy().copy(), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def linear(self, layer: nn.Linear, source: str, name: str) -> str:
        wires = [source, self.weight(f"{name}.weight", layer.weight), self.weight(f"{name}.bias", layer.bias)]
        return self.node("Gemm", wires, name, transB=1)

    def conv(self, layer: nn.Conv2d, source: str, name: str) -> str:
        assert layer.bias is not None
        wires = [source, self.weight(f"{name}.weight", layer.weight), self.weight(f"{name}.bias", layer.bias)]
        return self.node("Conv", wires, name, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def model(self, name: str, input_shape: list[int]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, input_shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
            initializer=self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="train_digits"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def mlp_onnx(model: Mlp) -> onnx.ModelProto:
    w = Writer()
    relu_1 = w.node("Relu", [w.linear(model.fc1, "image", "fc1")], "relu_1")
    relu_2 = w.node("Relu", [w.linear(model.fc2, relu_1, "fc2")], "relu_2")
    w.linear(model.fc3, relu_2, "logits")
    return w.model("digits_mlp", [1, 64])


def cnn_onnx(model: Cnn) -> onnx.ModelProto:
    w = Writer()
    relu_1 = w.node("Relu", [w.conv(model.conv1, "image", "conv1")], "relu_1")
    relu_2 = w.node("Relu", [w.conv(model.conv2, relu_1, "conv2")], "relu_2")
    skip = w.node("Add", [relu_2, relu_1], "skip")
    pool = w.node("AveragePool", [skip], "pool", kernel_shape=[2, 2], strides=[2, 2])
    flat = w.node("Flatten", [pool], "flat", axis=1)
    relu_3 = w.node("Relu", [w.linear(model.fc1, flat, "fc1")], "relu_3")
    w.linear(model.fc2, relu_3, "logits")
    return w.model("digits_cnn", [1, 1, 8, 8])


# ----------------------------------------------------------------------------------------------------------------- run


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: this one)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the order of a sum depends on the number of threads
    torch.use_deterministic_algorithms(True)

    data = digits()
    images, labels = sample(data)
    np.savez_compressed(out / "digits.npz", images=images, labels=labels)

    train_y, test_y = torch.from_numpy(data.train_labels), torch.from_numpy(data.test_labels)
    torch.manual_seed(SEED)
    mlp = Mlp()
    shape = (-1, 64)
    train_x, test_x = (torch.from_numpy(x).reshape(shape) for x in (data.train_images, data.test_images))
    train(mlp, train_x, train_y, epochs=120, sparsity=6e-4)
    onnx.save(mlp_onnx(mlp), out / "digits_mlp.onnx")
    print(f"digits_mlp  held-out accuracy {accuracy(mlp, test_x, test_y):.4f} on {len(test_y)} images")

    torch.manual_seed(SEED)
    cnn = Cnn()
    shape = (-1, 1, 8, 8)
    train_x, test_x = (torch.from_numpy(x).reshape(shape) for x in (data.train_images, data.test_images))
    train(cnn, train_x, train_y, epochs=60, sparsity=6e-4)
    onnx.save(cnn_onnx(cnn), out / "digits_cnn.onnx")
    print(f"digits_cnn  held-out accuracy {accuracy(cnn, test_x, test_y):.4f} on {len(test_y)} images")

    for model in (mlp, cnn):
        strength = [sorted(round(v, 2) for v in rows.norm(dim=1).tolist()) for rows in model.fan_outs()]
        print(f"{type(model).__name__.lower()}: norm of what reads each hidden unit, by site: {strength}")


if __name__ == "__main__":
    main()
