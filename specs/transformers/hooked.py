"""Checkpoints of TransformerLens: a HookedTransformer's state dict, and its configuration as JSON (`cfg.to_dict()`)."""

from __future__ import annotations

import math
from typing import Any

from specs.transformers.checkpoint import Checkpoint, Config, Norm, read_config, refuse, state_of, taken

__all__ = ["read_hooked"]

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_new", "gelu_fast": "gelu_new",
                "gelu_pytorch_tanh": "gelu_new", "silu": "silu"}  # fmt: skip
_OFF = ("gated_mlp", "parallel_attn_mlp", "use_local_attn", "scale_attn_by_inverse_layer_idx", "use_qk_norm",
        "post_embedding_ln", "use_normalization_before_and_after", "num_experts")  # fmt: skip
"""Switches of parts that are not written here."""


def read_hooked(path: str, config_path: str) -> Checkpoint:
    """Read a checkpoint. Raises: InputError: a part of the architecture that is not supported, by the name of its key; a weight
    that is missing or of another shape."""
    config = _config(read_config(config_path), config_path)
    d, h, k = config.width, config.heads, config.head_width
    shapes: dict[str, tuple[int, ...]] = {
        "embed.W_E": (config.vocabulary, d),
        "pos_embed.W_pos": (config.context, d),
        "unembed.W_U": (d, config.vocabulary),
        "unembed.b_U": (config.vocabulary,),
    }
    norms = ["ln_final"] if config.norm is not None else []
    for i in range(config.layers):
        block = f"blocks.{i}"
        shapes |= {f"{block}.attn.W_{part}": (h, d, k) for part in "QKV"}
        shapes |= {f"{block}.attn.b_{part}": (h, k) for part in "QKV"}
        shapes |= {f"{block}.attn.W_O": (h, k, d), f"{block}.attn.b_O": (d,)}
        norms += [f"{block}.ln1"] if config.norm is not None else []
        if (m := config.hidden) is not None:
            shapes |= {f"{block}.mlp.W_in": (d, m), f"{block}.mlp.b_in": (m,)}
            shapes |= {f"{block}.mlp.W_out": (m, d), f"{block}.mlp.b_out": (d,)}
            norms += [f"{block}.ln2"] if config.norm is not None else []
    for norm in norms:
        shapes |= {f"{norm}.w": (d,)} if config.norm in ("LN", "RMS") else {}
        shapes |= {f"{norm}.b": (d,)} if config.norm == "LN" else {}
    return Checkpoint(config, taken(path, shapes, state_of(path)))


def _config(given: dict[str, Any], file: str) -> Config:
    def number(key: str) -> int:
        value = given.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            refuse(file, key, value, "an integer, 1 or more,")
        return value

    for key in _OFF:
        if given.get(key):
            refuse(file, key, given[key], "a model without")
    for key in ("attn_scores_soft_cap", "output_logits_soft_cap"):
        if float(given.get(key) or -1) > 0:
            refuse(file, key, given[key], "a model without")
    if (kind := given.get("positional_embedding_type", "standard")) != "standard":
        refuse(file, "positional_embedding_type", kind, "'standard'")
    if given.get("n_key_value_heads") not in (None, given.get("n_heads")):
        refuse(file, "n_key_value_heads", given["n_key_value_heads"], "one for each head")
    norm: Norm | None = given.get("normalization_type", "LN")
    if norm not in ("LN", "LNPre", "RMS", "RMSPre", None):
        refuse(file, "normalization_type", norm, "LN, LNPre, RMS, RMSPre or null")
    alone = bool(given.get("attn_only"))
    activation = _ACTIVATIONS.get(str(given.get("act_fn")))
    if activation is None and not alone:
        refuse(file, "act_fn", given.get("act_fn"), ", ".join(_ACTIVATIONS))
    if (seen := given.get("attention_dir", "causal")) not in ("causal", "bidirectional"):
        refuse(file, "attention_dir", seen, "causal or bidirectional")
    width, heads = number("d_model"), number("n_heads")
    head_width = number("d_head") if given.get("d_head") else width // heads
    scale = float(given.get("attn_scale") or -1)
    scaled = given.get("use_attn_scale", True)
    return Config(
        layers=number("n_layers"),
        width=width,
        heads=heads,
        head_width=head_width,
        vocabulary=number("d_vocab"),
        context=number("n_ctx"),
        hidden=None if alone else number("d_mlp") if given.get("d_mlp") else 4 * width,
        activation=activation or "relu",  # pyright: ignore[reportArgumentType]
        norm=norm,
        epsilon=float(given.get("eps", 1e-5)),
        scale=(scale if scale > 0 else math.sqrt(head_width)) if scaled else 1.0,
        causal=seen == "causal",
        results=bool(given.get("use_attn_result")),
    )
