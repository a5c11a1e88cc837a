"""Checkpoints of TransformerLens: a HookedTransformer's state dict, and its configuration as JSON (`cfg.to_dict()`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from specs.transformers.checkpoint import Checkpoint, Config, Norm, Positions, Rotary, read_config, refuse, state_of, taken

__all__ = ["read_hooked"]

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_new", "gelu_fast": "gelu_new", "solu": "solu",
                "gelu_pytorch_tanh": "gelu_new", "silu": "silu", "solu_ln": "solu_ln"}  # fmt: skip
_NORMS: tuple[Norm | None, ...] = ("LN", "LNPre", "RMS", "RMSPre", None)


def read_hooked(path: str, config_path: str) -> Checkpoint:
    """Read a checkpoint. Raises: InputError: a part of the architecture that is not supported, by the name of its key; a weight
    that is missing or of another shape."""
    config = _Reading(read_config(config_path), config_path).config()
    shapes = dict(_outside(config))
    for i in range(config.layers):
        shapes |= dict(_attention(config, f"blocks.{i}.attn"))
        if config.hidden is not None:
            shapes |= dict(_mlp(config, config.hidden, f"blocks.{i}.mlp"))
        for name in ("ln1", "ln2") if config.hidden is not None else ("ln1",):
            shapes |= dict(_norm(config.norm, f"blocks.{i}.{name}", config.width))
            if config.norms_after:
                shapes |= dict(_norm("RMS", f"blocks.{i}.{name}_post", config.width))
    return Checkpoint(config, taken(path, shapes, state_of(path)))


_Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _outside(config: Config) -> _Shapes:
    d = config.width
    yield "embed.W_E", (config.vocabulary, d)
    if config.embed_norm:
        yield from _norm("LN", "embed.ln", d)
    if config.positions in ("standard", "shortformer"):
        yield "pos_embed.W_pos", (config.context, d)
    yield from _norm(config.final, "ln_final", d)
    yield "unembed.W_U", (d, config.outputs)
    yield "unembed.b_U", (config.outputs,)


def _attention(config: Config, stem: str) -> _Shapes:
    d, h, k, g = config.width, config.heads, config.head_width, config.groups
    for part, count in (("Q", h), ("K", g), ("V", g)):
        own = "_" if part != "Q" and g != h else ""
        yield f"{stem}.{own}W_{part}", (count, d, k)
        yield f"{stem}.{own}b_{part}", (count, k)
    yield f"{stem}.W_O", (h, k, d)
    yield f"{stem}.b_O", (d,)
    if isinstance(config.positions, Rotary):
        for name in ("sin", "cos"):
            yield f"{stem}.rotary_{name}", (config.context, config.positions.width)
    if config.head_norms:
        for name in ("q_norm", "k_norm"):
            yield from _norm("RMS", f"{stem}.{name}", k)


def _mlp(config: Config, hidden: int, stem: str) -> _Shapes:
    d = config.width
    for name in ("W_in", "W_gate") if config.gated else ("W_in",):
        yield f"{stem}.{name}", (d, hidden)
    yield f"{stem}.b_in", (hidden,)
    yield f"{stem}.W_out", (hidden, d)
    yield f"{stem}.b_out", (d,)
    if config.activation == "solu_ln":
        yield from _norm("LN" if config.norm == "LN" else "LNPre", f"{stem}.ln", hidden)


def _norm(kind: Norm | None, name: str, width: int) -> _Shapes:
    if kind in ("LN", "RMS"):
        yield f"{name}.w", (width,)
    if kind == "LN":
        yield f"{name}.b", (width,)


class _Reading:
    """A configuration as TransformerLens writes it."""

    def __init__(self, given: dict[str, Any], file: str) -> None:
        self._given, self._file = given, file

    def config(self) -> Config:
        if self._given.get("num_experts"):
            self._refuse("num_experts", "a model without")
        layers, width, heads = self._number("n_layers"), self._number("d_model"), self._number("n_heads")
        head_width = self._number("d_head") if self._given.get("d_head") else width // heads
        groups = self._number("n_key_value_heads") if self._given.get("n_key_value_heads") is not None else heads
        if heads % groups:
            self._refuse("n_key_value_heads", f"a divisor of n_heads {heads}")
        norm = self._among("normalization_type", "LN", *_NORMS)
        after = bool(self._given.get("use_normalization_before_and_after"))
        if after and norm not in ("RMS", "RMSPre"):
            self._refuse("use_normalization_before_and_after", "normalization_type RMS or RMSPre beside it")
        alone, gated = bool(self._given.get("attn_only")), bool(self._given.get("gated_mlp"))
        activation = "relu" if alone else self._among("act_fn", None, *_ACTIVATIONS)
        if gated and activation == "solu_ln":
            self._refuse("gated_mlp", "an MLP of solu_ln without")
        final: dict[Norm | None, Norm] = {"LN": "RMS", "LNPre": "RMSPre"}
        return Config(
            layers=layers,
            width=width,
            heads=heads,
            groups=groups,
            head_width=head_width,
            vocabulary=self._number("d_vocab"),
            outputs=self._number("d_vocab_out") if int(self._given.get("d_vocab_out") or -1) > 0 else self._number("d_vocab"),
            context=self._number("n_ctx"),
            hidden=None if alone else self._number("d_mlp") if self._given.get("d_mlp") else 4 * width,
            activation=_ACTIVATIONS[activation],  # pyright: ignore[reportArgumentType]
            norm=norm,
            final=final.get(norm, norm) if self._given.get("final_rms") else norm,
            epsilon=float(self._given.get("eps", 1e-5)),
            scales=self._scales(layers, head_width),
            windows=self._windows(layers),
            causal=self._among("attention_dir", "causal", "causal", "bidirectional") == "causal",
            positions=self._positions(head_width),
            results=bool(self._given.get("use_attn_result")),
            gated=gated and not alone,
            parallel=bool(self._given.get("parallel_attn_mlp")) and not alone,
            norms_after=after,
            head_norms=bool(self._given.get("use_qk_norm")),
            embed_norm=bool(self._given.get("post_embedding_ln")),
            score_cap=self._cap("attn_scores_soft_cap"),
            logit_cap=self._cap("output_logits_soft_cap"),
        )

    def _scales(self, layers: int, head_width: int) -> tuple[float, ...]:
        stated = float(self._given.get("attn_scale") or -1)
        scale = stated if stated > 0 else math.sqrt(head_width)
        scale = scale if self._given.get("use_attn_scale", True) else 1.0
        by_layer = bool(self._given.get("scale_attn_by_inverse_layer_idx"))
        return tuple(scale * (i + 1 if by_layer else 1) for i in range(layers))

    def _windows(self, layers: int) -> tuple[int | None, ...]:
        if not self._given.get("use_local_attn"):
            return (None,) * layers
        given = self._given.get("attn_types")
        kinds = cast("list[object]", given) if isinstance(given, list) else []
        if len(kinds) < layers or any(kind not in ("global", "local") for kind in kinds):
            self._refuse("attn_types", "'global' or 'local' for each layer")
        window = self._number("window_size")
        return tuple(window if kind == "local" else None for kind in kinds[:layers])

    def _positions(self, head_width: int) -> Positions:
        kind = self._among("positional_embedding_type", "standard", "standard", "shortformer", "alibi", "rotary")
        if kind != "rotary":
            return kind
        width = self._number("rotary_dim") if self._given.get("rotary_dim") is not None else head_width
        if width % 2 or width > head_width:
            self._refuse("rotary_dim", f"an even number up to d_head {head_width}")
        return Rotary(width, bool(self._given.get("rotary_adjacent_pairs")))

    def _cap(self, key: str) -> float | None:
        cap = float(self._given.get(key) or -1)
        return cap if cap > 0 else None

    def _number(self, key: str) -> int:
        value = self._given.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            self._refuse(key, "an integer, 1 or more,")
        return value

    def _among(self, key: str, other: Any, *allowed: Any) -> Any:
        value = self._given.get(key, other)
        if value not in allowed:
            self._refuse(key, ", ".join("null" if choice is None else str(choice) for choice in allowed))
        return value

    def _refuse(self, key: str, needed: str) -> NoReturn:
        refuse(self._file, key, self._given.get(key), needed)
