"""Checkpoints of HuggingFace's GPT-2: `model.safetensors` (or a state dict) and `config.json`.

The way from its names to HookedTransformer's is the one that TransformerLens goes, without its folding of weights: activations
are those of the checkpoint itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from specs.transformers.checkpoint import Checkpoint, Config, read_config, refuse, state_of, taken

__all__ = ["read_gpt2"]

_ACTIVATIONS = {"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}


def read_gpt2(path: str, config_path: str) -> Checkpoint:
    """Read a checkpoint. Raises: InputError: as `read_hooked`."""
    config = _config(read_config(config_path), config_path)
    d, m = config.width, config.hidden
    assert m is not None
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (config.vocabulary, d), "wpe.weight": (config.context, d)}
    for i in range(config.layers):
        block = f"h.{i}"
        for part, inside, outside in (
            ("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, m), ("mlp.c_proj", m, d),
        ):  # fmt: skip
            shapes |= {f"{block}.{part}.weight": (inside, outside), f"{block}.{part}.bias": (outside,)}
        shapes |= {f"{block}.{norm}.{end}": (d,) for norm in ("ln_1", "ln_2") for end in ("weight", "bias")}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    found = {name.removeprefix("transformer."): value for name, value in state_of(path).items()}
    if "lm_head.weight" in found:
        shapes["lm_head.weight"] = (config.vocabulary, d)
    return Checkpoint(config, _hooked(config, taken(path, shapes, found)))


def _hooked(config: Config, w: dict[str, Tensor]) -> dict[str, Tensor]:
    d, h, k = config.width, config.heads, config.head_width
    made = {
        "embed.W_E": w["wte.weight"],
        "pos_embed.W_pos": w["wpe.weight"],
        "ln_final.w": w["ln_f.weight"],
        "ln_final.b": w["ln_f.bias"],
        "unembed.W_U": w.get("lm_head.weight", w["wte.weight"]).T,
        "unembed.b_U": torch.zeros(config.vocabulary),
    }
    for i in range(config.layers):
        own, block = f"h.{i}", f"blocks.{i}"
        weight, bias = w[f"{own}.attn.c_attn.weight"], w[f"{own}.attn.c_attn.bias"]
        for j, part in enumerate("QKV"):
            made[f"{block}.attn.W_{part}"] = weight[:, j * d : (j + 1) * d].reshape(d, h, k).transpose(0, 1)
            made[f"{block}.attn.b_{part}"] = bias[j * d : (j + 1) * d].reshape(h, k)
        made[f"{block}.attn.W_O"] = w[f"{own}.attn.c_proj.weight"].reshape(h, k, d)
        made[f"{block}.attn.b_O"] = w[f"{own}.attn.c_proj.bias"]
        for ours, theirs in (("in", "c_fc"), ("out", "c_proj")):
            made[f"{block}.mlp.W_{ours}"] = w[f"{own}.mlp.{theirs}.weight"]
            made[f"{block}.mlp.b_{ours}"] = w[f"{own}.mlp.{theirs}.bias"]
        for ours, theirs in (("ln1", "ln_1"), ("ln2", "ln_2")):
            made[f"{block}.{ours}.w"], made[f"{block}.{ours}.b"] = w[f"{own}.{theirs}.weight"], w[f"{own}.{theirs}.bias"]
    return made


def _config(given: dict[str, Any], file: str) -> Config:
    def number(key: str, other: int | None = None) -> int:
        value = given.get(key, other)
        value = other if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(file, key, value, "an integer, 1 or more,")
        return value

    if (kind := given.get("model_type", "gpt2")) != "gpt2":
        refuse(file, "model_type", kind, "'gpt2'")
    if given.get("add_cross_attention"):
        refuse(file, "add_cross_attention", given["add_cross_attention"], "false")
    activation = _ACTIVATIONS.get(str(given.get("activation_function", "gelu_new")))
    if activation is None:
        refuse(file, "activation_function", given["activation_function"], ", ".join(_ACTIVATIONS))
    width, heads = number("n_embd"), number("n_head")
    if width % heads:
        refuse(file, "n_head", heads, f"a divisor of n_embd {width}")
    layers, scale = number("n_layer"), math.sqrt(width // heads) if given.get("scale_attn_weights", True) else 1.0
    by_layer = bool(given.get("scale_attn_by_inverse_layer_idx"))
    return Config(
        layers=layers,
        width=width,
        heads=heads,
        groups=heads,
        head_width=width // heads,
        vocabulary=number("vocab_size"),
        outputs=number("vocab_size"),
        context=number("n_positions", given.get("n_ctx")),
        hidden=number("n_inner", 4 * width),
        activation=activation,  # pyright: ignore[reportArgumentType]
        norm="LN",
        final="LN",
        epsilon=float(given.get("layer_norm_epsilon", 1e-5)),
        scales=tuple(scale * (i + 1 if by_layer else 1) for i in range(layers)),
        windows=(None,) * layers,
        causal=True,
    )
