"""What a checkpoint of a decoder-only transformer is, in the form of TransformerLens's HookedTransformer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, cast

import torch
from torch import Tensor

from specs.document import read_document
from specs.errors import InputError
from specs.weights import read_weights

__all__ = ["Activation", "Checkpoint", "Config", "Norm", "Positions", "Rotary", "read_config", "refuse", "taken"]

Activation: TypeAlias = Literal["relu", "gelu", "gelu_new", "silu", "solu", "solu_ln"]
Norm: TypeAlias = Literal["LN", "LNPre", "RMS", "RMSPre"]


@dataclass(frozen=True, slots=True)
class Rotary:
    """The first `width` numbers of each query and key turn with their position, in pairs: of neighbours, or of halves."""

    width: int
    neighbours: bool


Positions: TypeAlias = Literal["standard", "shortformer", "alibi"] | Rotary
"""Where positions come in: added to the stream, to what queries and keys are made of, to scores; or by turning."""


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes and choices.

    `groups` is how many heads of keys and values there are, each read by as many heads of queries. Of each layer, `scales` is
    what scores are divided by, `windows` how many positions a position sees, itself the last (None: all). `norm` is None for a
    model without normalisation, `final` that before the output; `norms_after` normalises what a layer adds, `head_norms`
    queries and keys, `embed_norm` the embedding. `causal`: a position sees itself and those before only. Caps are soft: tanh.
    """

    layers: int
    width: int
    heads: int
    groups: int
    head_width: int
    vocabulary: int
    outputs: int
    context: int
    hidden: int | None
    activation: Activation
    norm: Norm | None
    final: Norm | None
    epsilon: float
    scales: tuple[float, ...]
    windows: tuple[int | None, ...]
    causal: bool
    positions: Positions = "standard"
    results: bool = False
    gated: bool = False
    parallel: bool = False
    norms_after: bool = False
    head_norms: bool = False
    embed_norm: bool = False
    score_cap: float | None = None
    logit_cap: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A configuration with its weights, under HookedTransformer's names and in its shapes (`blocks.0.attn.W_Q` `(heads, width,
    head_width)`, `unembed.W_U` `(width, vocabulary)`), in float32 or wider. All weights that the model has are there."""

    config: Config
    weights: Mapping[str, Tensor]

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[name]


def read_config(path: str) -> dict[str, Any]:
    """A configuration as a mapping. Raises: InputError: no JSON object."""
    found = read_document(path)
    if not isinstance(found, dict):
        raise InputError(path, "$", f"a {type(found).__name__}", "a JSON object: the model's configuration")
    return cast("dict[str, Any]", found)


def refuse(file: str, key: str, value: object, needed: str) -> NoReturn:
    """Raises: InputError: a choice that is not supported, by its name."""
    raise InputError(file, f"$.{key}", f"{key} {json.dumps(value, default=str)}", f"{needed} is supported here")


def taken(path: str, shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The named weights, in float32 or wider. Raises: InputError: one is missing, of another shape, or not finite."""
    made: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name not in found:
            raise InputError(path, "", f"no weight {name!r}", f"it has {', '.join(sorted(found)[:4])}, ...", "is it this kind?")
        value = found[name]
        if tuple(value.shape) != shape:
            said = f"weight {name!r} of shape {list(value.shape)}"
            raise InputError(path, "", said, f"shape {list(shape)}, as the configuration says")
        made[name] = value if value.dtype == torch.float64 else value.float()
        if not bool(made[name].isfinite().all()):
            raise InputError(path, "", f"weight {name!r} holds what is not finite", "finite numbers")
    return made


def state_of(path: str) -> dict[str, Tensor]:
    """The arrays of a checkpoint. Raises: InputError."""
    return read_weights(path, file=path, where="")
